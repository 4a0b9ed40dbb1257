"""What a log says later of a Reception of KumoMTA's."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as tries
from hypothesis import strategies as st

from sidecar.core.evaluate.recorded.follow_up import Entry, Window, with_follow_ups
from tests.core.evaluate.recorded.samples import entry_of, ours, record, rejection


def run(*made: dict[str, Any], **limits: int) -> list[tuple[str | None, bool]]:
    entries = [entry_of(it, line) for line, it in enumerate(made, start=1)]
    out = list(with_follow_ups(entries, Window(**limits)))
    assert [entry.line for entry in out] == list(range(1, len(made) + 1))
    return [(entry.follow_up, entry.is_follow_up) for entry in out]


NONE = (None, False)
REJECTED = ("rejected", False)
THE_END = (None, True)
REPORT = ("bounce_report", False)
ADDS = (None, True)


@pytest.mark.parametrize(
    ("made", "expected"),
    [
        ([record()], [NONE]),
        ([record(), record("OOB")], [REPORT, ADDS]),
        ([ours(), ours("OOB")], [REPORT, ADDS]),
        ([ours(id="1"), ours(id="2"), ours("OOB", id="1")], [REPORT, NONE, ADDS]),
        # A report may contain several failures, and its Reception may be in another log.
        ([record(), record("OOB"), record("OOB")], [REPORT, ADDS, ADDS]),
        ([record("OOB"), record("OOB"), record("OOB", id="2")], [NONE, ADDS, NONE]),
        ([record("OOB", id=""), record("OOB", id="")], [NONE, NONE]),
        ([record(), record("Delivery", peer="192.0.2.1")], [("outgoing", False), NONE]),
        ([record(), record("OOB", id="another")], [NONE, NONE]),
        # By the session, if the record has it.
        ([record(session_id="s"), rejection("end", session_id="s")], [REJECTED, THE_END]),
        ([record(session_id="s"), rejection("end", session_id="t")], [NONE, NONE]),
        ([record(session_id="s", timestamp=5), rejection("end", session_id="s", timestamp=500)], [REJECTED, THE_END]),
        # By the peer and the time, where it is not.
        ([record(), rejection("end")], [REJECTED, THE_END]),
        ([record(), rejection("end", peer="203.0.113.10")], [NONE, NONE]),
        ([record(timestamp=5), rejection("end", timestamp=500)], [NONE, NONE]),
        # Each recipient has a Reception of its own; a message before has another sender, or is settled.
        (
            [record(id="1", session_id="s"), record(id="2", session_id="s"), rejection("end", session_id="s")],
            [REJECTED, REJECTED, THE_END],
        ),
        (
            [record(id="1", sender="", session_id="s"), record(id="2", session_id="s"), rejection("end", session_id="s")],
            [NONE, REJECTED, THE_END],
        ),
        (
            [
                record(id="1", session_id="s"),
                record("OOB", id="1", session_id="s"),
                record(id="2", session_id="s"),
                rejection("end", session_id="s"),
            ],
            [REPORT, ADDS, REJECTED, THE_END],
        ),
        # Other rejections end nothing; nor do ours, which never have such a Reception.
        ([record(), rejection("rcpt")], [NONE, NONE]),
        ([record(), rejection("end", code=451, content="later")], [NONE, NONE]),
        ([ours(), ours("Rejection", answer=(550, "relaying not permitted", "DATA"))], [NONE, NONE]),
        # One id twice, as when a log is read twice.
        ([record(), record(), record("OOB")], [NONE, REPORT, ADDS]),
    ],
)
def test_what_belongs_together(made: list[dict[str, Any]], expected: list[tuple[str | None, bool]]) -> None:
    """A bounce report by its OOB record, a rejection by the Rejection that follows, a delivery by the id."""
    assert run(*made) == expected


def test_the_window_has_bounds() -> None:
    """What waits too long, by number or by bytes, is given as it is."""
    made = [record(id=str(number)) for number in range(4)] + [record("OOB", id="0"), record("OOB", id="3")]
    assert [printed for printed, _ in run(*made)] == ["bounce_report", None, None, "bounce_report", None, None]
    assert [printed for printed, _ in run(*made, waiting=2)] == [None, None, None, "bounce_report", None, None]
    assert [printed for printed, _ in run(*made, waiting_bytes=2500)] == [None, None, None, "bounce_report", None, None]


def test_nothing_waits_without_need() -> None:
    """What needs no later record is given at once, unless something before it waits."""
    entries = [entry_of(it, line) for line, it in enumerate([ours("Feedback"), rejection("rcpt"), record(), ours(id="7")])]
    taken: list[Entry] = []
    source = iter(entries)

    def watched() -> Any:
        for entry in source:
            taken.append(entry)
            yield entry

    out = with_follow_ups(watched())
    assert next(out) is entries[0]
    assert len(taken) == 1
    assert next(out) is entries[1]
    assert len(taken) == 2
    assert next(out) is entries[2]
    assert len(taken) == 4


def test_ids_of_reports_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many reports a log has, no more ids are kept than records wait."""
    monkeypatch.setattr("sidecar.core.evaluate.recorded.follow_up._WAITING", 2)
    reports = [record("OOB", id=str(number)) for number in (1, 2, 3, 2, 1)]
    assert [adds for _, adds in run(*reports)] == [False, False, False, True, False]


MADE = st.builds(
    lambda kind, number, session: (
        record(kind, id=str(number), session_id=session) if kind != "Rejection" else rejection("end", session_id=session)
    ),
    st.sampled_from(["Reception", "OOB", "Delivery", "Rejection", "Feedback"]),
    st.integers(0, 5),
    st.sampled_from(["s", "t", None]),
)


@given(st.lists(MADE, max_size=30), st.integers(0, 8))
@tries(max_examples=150, deadline=None)
def test_every_entry_once_and_in_order(made: list[dict[str, Any]], waiting: int) -> None:
    """Whatever a log holds, every entry comes out once, in its place; only Receptions have an follow_up."""
    entries = [entry_of(it, line) for line, it in enumerate(made)]
    out = list(with_follow_ups(entries, Window(waiting=waiting)))
    assert [entry.line for entry in out] == list(range(len(made)))
    assert all(entry.follow_up is None or (entry.record and entry.record.type == "Reception") for entry in out)
