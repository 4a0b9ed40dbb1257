"""What is on disk before the MTA gets a verdict."""

import json
from collections.abc import Sequence
from typing import Any

import pytest
from msgspec.structs import replace

from sidecar.core.disposition import Disposition
from sidecar.core.records import Record, encode
from sidecar.core.session.verdicts import Decision, Discard, Outcome, Reject, Reply, UnparsableReport
from sidecar.core.settings.values import LimitSettings
from sidecar.journal import JournalError
from sidecar.journal.write import QuarantineFullError, Recorder
from sidecar.journal.write.disk_thread import Done
from sidecar.journal.write.routes import Batch
from tests.core.records.making import reception
from tests.journal.write.test_flood import NOON, facts, refusal
from tests.mta.processes import wait_until

RATE = 5
DECISION = Decision(stage="rcpt", action="reject", disposition=Disposition.REJECTED_AT_RCPT, why="it is so")
REFUSED = Outcome(verdict=Reject(reply=Reply(code=550, enhanced="5.7.1", text="no")), records=(refusal(),), decision=DECISION)
RECEIVED = reception(facts(), "x@y.example", why="it is so")
TAKEN = Outcome(
    verdict=Discard(),
    records=(RECEIVED,),
    durable=True,
    unparsable=UnparsableReport(name="name", content=b"message", record=RECEIVED, full=REFUSED),
    decision=DECISION,
)


class Disk:
    """A journal and a quarantine that remember what was written, in order; `fault` is raised by both while it is set."""

    def __init__(self) -> None:
        self.written: list[Any] = []
        self.submitted: list[tuple[Batch, Done]] = []
        self.segment: Any = None
        self.fault: Exception | None = None
        self.swept = 0
        self.rolled = 0

    def encode(self, records: Sequence[Record]) -> Batch:
        """Encode records, for the journal."""
        lines = b"".join(map(encode, records))
        return Batch(lines=((self.segment, lines),), size=len(lines))

    def write(self, batch: Batch, *, durable: bool) -> None:
        """Take records, of the journal."""
        if isinstance(self.fault, JournalError):
            raise self.fault
        self.written += [(durable, [json.loads(line) for line in lines.splitlines()]) for _, lines in batch.lines]

    def submit(self, batch: Batch, *, durable: bool, done: Done) -> bool:
        """Write records that need no sync at once, and the others later."""
        if not durable:
            self.write(batch, durable=False)
            return True
        self.submitted.append((batch, done))
        return False

    def sync(self) -> None:
        """Write the records that wait, and report that."""
        for batch, done in self.submitted:
            self.write(batch, durable=True)
            done(None)
        self.submitted.clear()

    def roll(self) -> None:
        """Take note of it."""
        self.rolled += 1

    def close(self) -> None:
        """Take note of the end."""
        self.written.append("closed")

    def keep(self, name: str, *, message: bytes, record: bytes) -> None:
        """Take a message, of the quarantine."""
        if self.fault is not None:
            raise self.fault
        self.written.append((name, message, json.loads(record)["type"]))

    def sweep(self) -> None:
        """Fail the first time."""
        self.swept += 1
        if self.swept == 1:
            raise RuntimeError("an unexpected fault")

    def counts(self) -> list[int | None]:
        """Return the counts of the records written; None for a record of one rejection."""
        return [record["meta"].get("count") for entry in self.written if entry != "closed" for record in entry[1]]


@pytest.fixture
def disk() -> Disk:
    return Disk()


@pytest.fixture
def recorder(disk: Disk) -> Recorder:
    limits = LimitSettings(rejection_records_per_second=RATE)
    return Recorder(journal=disk, quarantine=disk, limits=limits, clock=lambda: NOON + 1)


def test_a_unparsable_is_kept_before_its_record(recorder: Recorder, disk: Disk) -> None:
    """A record never speaks of a message that is not there."""
    assert recorder.write(TAKEN) is TAKEN
    assert disk.written[0] == ("name", b"message", "Reception")
    assert disk.written[1][0] is True
    assert disk.written[1][1][0]["type"] == "Reception"


def test_a_full_quarantine_gives_the_other_outcome(recorder: Recorder, disk: Disk) -> None:
    """And its record, not the first one's."""
    disk.fault = QuarantineFullError()
    assert recorder.write(TAKEN) is REFUSED
    assert [entry[1][0]["type"] for entry in disk.written] == ["Rejection"]


def test_what_cannot_be_kept_has_no_record(recorder: Recorder, disk: Disk) -> None:
    """The milter's guard gets the exception and answers 451."""
    disk.fault = JournalError("the disk is full")
    with pytest.raises(JournalError):
        recorder.write(TAKEN)
    assert disk.written == []


def test_what_must_be_on_disk_is_reported_later(recorder: Recorder, disk: Disk) -> None:
    """What need not be is written at once."""
    results: list[Outcome | Exception] = []
    durable = replace(TAKEN, unparsable=None)
    assert recorder.begin(REFUSED, results.append) is REFUSED
    assert recorder.begin(durable, results.append) is None
    assert (len(disk.written), results) == (1, [])
    disk.sync()
    assert results == [durable]


def test_a_decision_without_a_record_is_reported_as_finished(disk: Disk) -> None:
    """So that the metrics count it. Events without a decision are not reported."""
    finished: list[Outcome] = []

    class Counting(Recorder):
        def finished(self, outcome: Outcome) -> None:
            finished.append(outcome)

    recorder = Counting(journal=disk, quarantine=disk, limits=LimitSettings())
    bare = replace(REFUSED, records=())
    for outcome in (bare, replace(bare, decision=None)):
        assert recorder.write(outcome) is outcome
        assert recorder.begin(outcome, lambda _: None) is outcome
    assert (finished, disk.written) == ([bare, bare], [])


def test_a_fault_after_the_write_is_reported_too(disk: Disk) -> None:
    """A connection that waits for its records never waits in vain."""

    class Faulty(Recorder):
        def finished(self, outcome: Outcome) -> None:
            raise RuntimeError(outcome.decision)

    results: list[Outcome | Exception] = []
    recorder = Faulty(journal=disk, quarantine=disk, limits=LimitSettings())
    assert recorder.begin(replace(TAKEN, unparsable=None), results.append) is None
    disk.sync()
    assert [type(result) for result in results] == [RuntimeError]


def test_a_flood_is_one_record(recorder: Recorder, disk: Disk) -> None:
    """Above the rate no line is written, in the journal or the log, until the next flush, which writes one for all."""
    outcomes = [recorder.write(REFUSED) for _ in range(RATE + 8)]
    assert [outcome.decision for outcome in outcomes] == [DECISION] * RATE + [None] * 8
    assert {outcome.verdict for outcome in outcomes} == {REFUSED.verdict}
    assert disk.counts() == [None] * RATE
    recorder.flush()
    recorder.flush()
    assert disk.counts() == [None] * RATE + [8]
    record = disk.written[-1][1][0]
    assert record["meta"]["why"].startswith("8 more rejections of this peer, counted")
    assert f"limits.rejection_records_per_second is {RATE}, " in record["meta"]["why"]
    assert record["meta"]["why"].endswith("; the first: it is so")


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


# --- the limit on bytes


def limited(disk: Disk, burst: int = 3000) -> Recorder:
    limits = LimitSettings(rejection_records_per_second=1000, record_bytes_burst=burst)
    return Recorder(journal=disk, quarantine=disk, limits=limits, clock=lambda: NOON + 1)


def received(outcome: Outcome, count: int = 0) -> Outcome:
    """Return an outcome of an external host that sent so many bytes."""
    return replace(outcome, network="cb007109", received=count, above=lambda: replace(REFUSED, network="cb007109", received=0))


def test_above_the_limit_the_other_outcome_holds(disk: Disk) -> None:
    """Nothing of the first one is kept, in the quarantine or the journal."""
    it = limited(disk, burst=1000)
    assert it.write(received(TAKEN)).verdict == TAKEN.verdict
    kept = len(disk.written)
    assert it.write(received(TAKEN)).verdict == REFUSED.verdict
    assert len(disk.written) == kept
    it.close()
    assert disk.written[-2][1][0]["meta"]["count"] == 1
    assert it.write(received(TAKEN, 1000)).verdict == TAKEN.verdict


def test_counts_above_the_limit_wait(disk: Disk) -> None:
    """The record of a count is written when the network has sent enough for it, and at the end."""
    it = limited(disk)
    refused = replace(received(REFUSED), above=None)
    outcomes = [it.write(refused) for _ in range(20)]
    assert {outcome.verdict for outcome in outcomes} == {REFUSED.verdict}
    single = disk.counts().count(None)
    assert 0 < single < 10
    it.flush()
    it.flush()
    assert disk.counts() == [None] * single
    it.write(replace(refused, received=300))
    it.flush()
    assert disk.counts()[single:] in ([20 - single], [None, 20 - single], [21 - single])
    for _ in range(5):
        it.write(refused)
    it.close()
    assert sum(count or 1 for count in disk.counts()) == 26


def test_a_relay_host_has_no_limit(disk: Disk) -> None:
    """Neither its records nor the counts of its rejections wait."""
    limits = LimitSettings(rejection_records_per_second=5, record_bytes_burst=1000)
    it = Recorder(journal=disk, quarantine=disk, limits=limits, clock=lambda: NOON + 1)
    for _ in range(20):
        it.write(replace(REFUSED, network="7f000001"))
        it.flush()
    assert sum(count or 1 for count in disk.counts()) == 20


def test_the_end_leaves_nothing_behind(recorder: Recorder, disk: Disk) -> None:
    """What is counted is written before the journal is closed, and nothing is counted any more."""
    for _ in range(RATE + 3):
        recorder.write(REFUSED)
    recorder.close()
    assert disk.counts()[RATE:] == [3]
    assert disk.written[-1] == "closed"
    assert recorder.write(REFUSED).decision is not None


def test_each_second_does_what_is_due(recorder: Recorder, disk: Disk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Counted refusals are written, old segments finished and the quarantine swept, again and again, even after a fault."""
    monkeypatch.setattr("sidecar.journal.write.recorder._FLUSH_SECONDS", 0.01)
    monkeypatch.setattr("sidecar.journal.write.recorder._SWEEP_SECONDS", 0.01)
    recorder.start()
    wait_until(lambda: disk.swept > 2, "the quarantine was swept again")
    wait_until(lambda: disk.rolled > 2, "the journal was asked to roll")
    for _ in range(RATE + 3):
        recorder.write(REFUSED)
    wait_until(lambda: sum(filter(None, disk.counts())) == 3, "the refusals are written")
    recorder.close()
