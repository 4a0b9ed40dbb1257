"""What a worker counts: the cell of each outcome.

Nothing is locked, although several threads count: CPython switches threads only at calls and backward jumps (since 3.10), and
`cells[i] += 1` has none.
"""

import time
from bisect import bisect_left
from collections.abc import Sequence

from sidecar.core.policy import Because, ConnectAnswer, MessageAnswer, RecipientAnswer
from sidecar.core.records import Record, form_of, reporting_domain
from sidecar.core.session.replies import (
    ADDRESS_REQUIRED,
    NO_MEMORY,
    NOT_A_REPORT,
    TOO_MANY_RECIPIENTS,
    TOO_MANY_RECORDS,
    TOO_MANY_REPORTS,
    TOO_MANY_SESSIONS,
    UNKNOWN_LISTENER,
    UNREADABLE_ADDRESS,
    UNVERIFIED,
)
from sidecar.core.session.verdicts import CheckResult, Outcome, Reject, Reply, Tempfail
from sidecar.daemon.metrics.reporters import Reporters
from sidecar.daemon.metrics.series import BOUNDS, CELL, OTHER

_BOUNDS = tuple(round(bound * 1e9) for bound in BOUNDS)
_SUM = len(BOUNDS) + 1
_LAST_WRITE = CELL["journal_last_write_timestamp_seconds",]
_VERDICTS = {name[1:]: cell for name, cell in CELL.items() if name[0] == "verdicts"}

_REASONS = {
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
} | {(552, "5.3.4"): "too_big"}
# Their codes are those of other rejections too.
_REASONS_BY_TEXT = {ADDRESS_REQUIRED.text: "address_required", UNVERIFIED.text: "unverified"}


class Meter:
    """Adds to the cells and the reporters of one worker, from any thread."""

    def __init__(self, cells: memoryview, reporters: Reporters | None = None) -> None:
        self._cells = cells
        self._reporters = reporters

    def admitted(self, answer: ConnectAnswer | RecipientAnswer, checked: CheckResult | None = None) -> None:
        """Count a peer, or a recipient with its look-up in the suppression list, that is accepted."""
        self._checked(checked)
        if isinstance(answer, RecipientAnswer):
            self._verdict("rcpt", "accept", _key(answer.because[0]))
        else:
            self._verdict("connect", "continue", "relay_hosts" if answer.accept and not answer.deferred else "deferred")

    def judged(self, outcome: Outcome) -> None:
        """Count a verdict whose records are written, and its reports."""
        if outcome.decision is None:
            return
        verdict, answer = outcome.verdict, outcome.answer
        if isinstance(verdict, Reject | Tempfail):
            self._checked(outcome.checked)
            reason = _reason_of_reply(verdict.reply, outcome.checked)
        else:
            reason = _reason_of_message(outcome)
        self._verdict(outcome.decision.stage, outcome.decision.action, reason)
        if outcome.verified is not None:
            for checked in outcome.verified.methods:
                self.add(CELL["proofs", checked.method, checked.result])
        if isinstance(answer, MessageAnswer) and answer.logged_as is not None:
            self.add(CELL["reports", answer.logged_as])
            self._report(outcome.records)
        if isinstance(answer, MessageAnswer) and self._reporters is not None:
            for record in outcome.records:
                if (form := form_of(record)) is not None:
                    self._reporters.add(reporting_domain(record), form)

    def observe(self, histogram: int, took: int) -> None:
        """Add a time in nanoseconds to the histogram that begins at this cell."""
        self._cells[histogram + bisect_left(_BOUNDS, took)] += 1
        self._cells[histogram + _SUM] += took

    def add(self, cell: int, number: int = 1) -> None:
        """Add to a cell."""
        self._cells[cell] += number

    def wrote(self) -> None:
        """Store the time of a write to the journal."""
        self._cells[_LAST_WRITE] = int(time.time())

    def _checked(self, result: CheckResult | None) -> None:
        if result is not None:
            self.add(CELL["suppression_checks", result])

    def _verdict(self, stage: str, action: str, reason: str) -> None:
        cell = _VERDICTS.get((stage, action, reason))
        self._cells[_VERDICTS[stage, action, OTHER] if cell is None else cell] += 1

    def _report(self, records: Sequence[Record]) -> None:
        for record in records:
            if record.type == "OOB":
                self.add(CELL.get(("bounces", record.bounce_classification), CELL["bounces", OTHER]))
            elif record.feedback_report is not None:
                complaint = record.feedback_report.feedback_type.lower()
                self.add(CELL.get(("complaints", complaint), CELL["complaints", OTHER]))


def _reason_of_reply(reply: Reply, checked: CheckResult | None) -> str:
    if checked is not None:
        return "suppressed" if checked == "rejected" else "unreadable_list"
    return _REASONS_BY_TEXT.get(reply.text) or _REASONS.get((reply.code, reply.enhanced), OTHER)


def _reason_of_message(outcome: Outcome) -> str:
    answer = outcome.answer
    if outcome.unparsable is not None:
        return "quarantine"
    if not isinstance(answer, MessageAnswer):
        return OTHER
    return answer.logged_as or next((_key(result.because) for result in answer.results if result.relayed), OTHER)


def _key(because: Because) -> str:
    """Return the last part of the deciding rule's key. The built-in relay hosts have no key."""
    return "relay_hosts" if because.key is None else because.key.rpartition(".")[2]
