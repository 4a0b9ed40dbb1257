"""What is on disk before the MTA hears of a verdict."""

import json
from collections.abc import Sequence
from typing import Any

import pytest

from sidecar.journal import JournalError, QuarantineFullError
from sidecar.milter import Recorder
from sidecar.records import Record, encode, reception
from sidecar.session.verdicts import Decision, Discard, NearMiss, Outcome, Reject, Reply
from sidecar.settings.values import LimitSettings
from tests.milter.test_flood import NOON, facts, refusal
from tests.mta.processes import wait_until

RATE = 5
DECISION = Decision(stage="rcpt", action="reject", why="it is so")
REFUSED = Outcome(verdict=Reject(reply=Reply(code=550, enhanced="5.7.1", text="no")), records=(refusal(),), decision=DECISION)
TAKEN = Outcome(
    verdict=Discard(),
    records=(reception(facts(), recipients=("x@y.example",), queue="y.example", size=1, why="it is so"),),
    durable=True,
    near_miss=NearMiss(name="name", content=b"message", full=REFUSED),
    decision=DECISION,
)


class Disk:
    """A journal and a quarantine that remember what they were told, in order; `fault` is raised by both while it is set."""

    def __init__(self) -> None:
        self.told: list[Any] = []
        self.fault: Exception | None = None
        self.swept = 0
        self.rolled = 0

    def write(self, records: Sequence[Record], *, durable: bool) -> None:
        """Take records, of the journal."""
        if isinstance(self.fault, JournalError):
            raise self.fault
        self.told.append((durable, [json.loads(encode(record)) for record in records]))

    def roll(self) -> None:
        """Take note of it."""
        self.rolled += 1

    def close(self) -> None:
        """Take note of the end."""
        self.told.append("closed")

    def keep(self, name: str, *, message: bytes, record: bytes) -> None:
        """Take a message, of the quarantine."""
        if self.fault is not None:
            raise self.fault
        self.told.append((name, message, json.loads(record)["type"]))

    def sweep(self) -> None:
        """Fail the first time."""
        self.swept += 1
        if self.swept == 1:
            raise RuntimeError("a fault that nobody foresaw")

    def counts(self) -> list[int | None]:
        """Give the counts of the records written; None for a record of a single refusal."""
        return [record["meta"].get("count") for told in self.told if told != "closed" for record in told[1]]


@pytest.fixture
def disk() -> Disk:
    return Disk()


@pytest.fixture
def recorder(disk: Disk) -> Recorder:
    limits = LimitSettings(rejection_records_per_second=RATE)
    return Recorder(journal=disk, quarantine=disk, limits=limits, clock=lambda: NOON + 1)


def test_a_near_miss_is_kept_before_its_record(recorder: Recorder, disk: Disk) -> None:
    """A record never speaks of a message that is not there."""
    assert recorder.write(TAKEN) is TAKEN
    assert disk.told[0] == ("name", b"message", "Reception")
    assert disk.told[1][0] is True
    assert disk.told[1][1][0]["type"] == "Reception"


def test_a_full_quarantine_gives_the_other_outcome(recorder: Recorder, disk: Disk) -> None:
    """And its record, not the first one's."""
    disk.fault = QuarantineFullError()
    assert recorder.write(TAKEN) is REFUSED
    assert [told[1][0]["type"] for told in disk.told] == ["Rejection"]


def test_what_cannot_be_kept_has_no_record(recorder: Recorder, disk: Disk) -> None:
    """The fault goes on to the milter's guard, which answers 451."""
    disk.fault = JournalError("the disk is full")
    with pytest.raises(JournalError):
        recorder.write(TAKEN)
    assert disk.told == []


def test_a_flood_is_one_record(recorder: Recorder, disk: Disk) -> None:
    """Above the rate no line is written, in the journal or the log, until the next flush, which writes one for all."""
    outcomes = [recorder.write(REFUSED) for _ in range(RATE + 8)]
    assert [outcome.decision for outcome in outcomes] == [DECISION] * RATE + [None] * 8
    assert {outcome.verdict for outcome in outcomes} == {REFUSED.verdict}
    assert disk.counts() == [None] * RATE
    recorder.flush()
    recorder.flush()
    assert disk.counts() == [None] * RATE + [8]
    record = disk.told[-1][1][0]
    assert record["meta"]["why"].startswith("8 more refusals of this peer in about a second")
    assert f"limits.rejection_records_per_second is {RATE}; the first: it is so" in record["meta"]["why"]


def test_a_flush_that_fails_is_made_up_for(recorder: Recorder, disk: Disk) -> None:
    """The counts wait for a disk that can be written again."""
    for _ in range(RATE + 3):
        recorder.write(REFUSED)
    disk.fault = JournalError("the disk is full")
    recorder.flush()
    assert disk.counts() == [None] * RATE
    disk.fault = None
    recorder.flush()
    assert disk.counts()[RATE:] == [3]


def test_the_end_leaves_nothing_behind(recorder: Recorder, disk: Disk) -> None:
    """What is counted is written before the journal is closed, and nothing is counted any more."""
    for _ in range(RATE + 3):
        recorder.write(REFUSED)
    recorder.close()
    assert disk.counts()[RATE:] == [3]
    assert disk.told[-1] == "closed"
    assert recorder.write(REFUSED).decision is not None


def test_each_second_does_what_is_due(recorder: Recorder, disk: Disk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Counted refusals are written, old segments finished and the quarantine swept, again and again, even after a fault."""
    monkeypatch.setattr("sidecar.milter.recorder._FLUSH_SECONDS", 0.01)
    monkeypatch.setattr("sidecar.milter.recorder._SWEEP_SECONDS", 0.01)
    recorder.start()
    wait_until(lambda: disk.swept > 2, "the quarantine was swept again")
    wait_until(lambda: disk.rolled > 2, "the journal was asked to roll")
    for _ in range(RATE + 3):
        recorder.write(REFUSED)
    wait_until(lambda: sum(filter(None, disk.counts())) == 3, "the refusals are written")
    recorder.close()
