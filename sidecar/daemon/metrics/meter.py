"""What a worker counts.

Owns which cell an outcome belongs to. Never keeps anything of a message.

Callbacks run in many threads, and nothing is locked: `cells[i] += 1` is three instructions of CPython between which it never
gives the turn to another thread (since 3.10 it does so only at calls and backward jumps).
"""

import time
from bisect import bisect_left
from collections.abc import Sequence

from sidecar.core.policy import Because, ConnectAnswer, MessageAnswer, RecipientAnswer
from sidecar.core.records import Record
from sidecar.core.session.replies import (
    NO_MEMORY,
    NOT_A_REPORT,
    TOO_MANY_RECIPIENTS,
    TOO_MANY_RECORDS,
    TOO_MANY_REPORTS,
    TOO_MANY_SESSIONS,
    UNKNOWN_LISTENER,
    UNREADABLE_ADDRESS,
)
from sidecar.core.session.verdicts import Outcome, Reject, Reply, Tempfail
from sidecar.daemon.metrics.series import BOUNCE_CLASSES, BOUNDS, CELL, COMPLAINTS, OTHER, VERDICTS

_BOUNDS = tuple(round(bound * 1e9) for bound in BOUNDS)
_SUM = len(BOUNDS) + 1

_TOO_BIG = (552, "5.3.4")
_REFUSALS = {
    (reply.code, reply.enhanced): reason
    for reply, reason in (
        (NOT_A_REPORT, "relaying_not_permitted"),
        (UNREADABLE_ADDRESS, "unreadable_address"),
        (UNKNOWN_LISTENER, "unknown_listener"),
        (TOO_MANY_SESSIONS, "too_many_sessions"),
        (TOO_MANY_RECIPIENTS, "too_many_recipients"),
        (TOO_MANY_REPORTS, "too_many_reports"),
        (TOO_MANY_RECORDS, "too_many_records"),
        (NO_MEMORY, "no_room"),
    )
} | {_TOO_BIG: "too_big"}

_VERDICTS = {verdict: CELL["verdict", *verdict] for verdict in VERDICTS}
_CLASSES = {name: CELL["bounce", name] for name in BOUNCE_CLASSES}
_COMPLAINTS = {name: CELL["complaint", name] for name in COMPLAINTS}
_OTHER_CLASS, _OTHER_COMPLAINT = _CLASSES[OTHER], _COMPLAINTS[OTHER]
_REPORTS = {kind: CELL["plain", f"{kind}_reports"] for kind in ("oob", "arf")}
_LAST_WRITE = CELL["plain", "last_write"]


class Meter:
    """Adds to the cells of one worker, from any threads. Times are in nanoseconds."""

    def __init__(self, cells: memoryview) -> None:
        self._cells = cells

    def admitted(self, answer: ConnectAnswer | RecipientAnswer) -> None:
        """Count a peer or a recipient that goes on."""
        if isinstance(answer, RecipientAnswer):
            self._verdict("rcpt", "accept", _key(answer.because[0]))
        else:
            self._verdict("connect", "continue", "relay_hosts" if answer.accept and not answer.deferred else "deferred")

    def given(self, outcome: Outcome) -> None:
        """Count a verdict whose records are kept, and the reports that it took."""
        if outcome.decision is None:
            return
        verdict = outcome.verdict
        reason = _refusal(verdict.reply) if isinstance(verdict, Reject | Tempfail) else _taking(outcome)
        self._verdict(outcome.decision.stage, outcome.decision.action, reason)
        if isinstance(outcome.answer, MessageAnswer) and outcome.answer.logged_as is not None:
            self._report(outcome.answer.logged_as, outcome.records)

    def observe(self, histogram: int, took: int) -> None:
        """Put a time into the histogram that begins at this cell."""
        self._cells[histogram + bisect_left(_BOUNDS, took)] += 1
        self._cells[histogram + _SUM] += took

    def add(self, cell: int, number: int = 1) -> None:
        """Add to a cell."""
        self._cells[cell] += number

    def wrote(self) -> None:
        """Remember when the journal was last written."""
        self._cells[_LAST_WRITE] = int(time.time())

    def _verdict(self, stage: str, action: str, reason: str) -> None:
        cell = _VERDICTS.get((stage, action, reason))
        self._cells[_VERDICTS[stage, action, OTHER] if cell is None else cell] += 1

    def _report(self, kind: str, records: Sequence[Record]) -> None:
        self._cells[_REPORTS[kind]] += 1
        for record in records:
            if record.type == "OOB":
                self._cells[_CLASSES.get(record.bounce_classification, _OTHER_CLASS)] += 1
            elif record.feedback_report is not None:
                self._cells[_COMPLAINTS.get(record.feedback_report.feedback_type.lower(), _OTHER_COMPLAINT)] += 1


def _refusal(reply: Reply) -> str:
    return _REFUSALS.get((reply.code, reply.enhanced), OTHER)


def _taking(outcome: Outcome) -> str:
    """Give the reason for which a message was taken."""
    answer = outcome.answer
    if outcome.unparsable is not None:
        return "quarantine"
    if not isinstance(answer, MessageAnswer):
        return OTHER
    return answer.logged_as or next((_key(result.because) for result in answer.results if result.relayed), OTHER)


def _key(because: Because) -> str:
    """Give the key of the rule that decided, without where it stands; the built-in relay hosts stand nowhere."""
    return "relay_hosts" if because.key is None else because.key.rpartition(".")[2]
