"""Where a log and a configuration part: what was accepted and would be rejected now, or the other way round.

Owns which records are compared at all, and the counts. Never reads a log, and never puts anything into words.
"""

from typing import Literal

from msgspec import Struct

from sidecar.commands.explain.finding import ComparedRecord, came_by_smtp, rejected_among
from sidecar.commands.explain.totals import BoundedTally, rule_of
from sidecar.core.disposition import REJECTED, Disposition
from sidecar.core.evaluate.evaluator import deciding
from sidecar.core.policy import Because

Aside = Literal["tempfailed", "rejected_for_other_reason", "not_smtp", "unknown"]
"""Why a record cannot disagree.

`tempfailed`: a 4xx reply is no decision; `rejected_for_other_reason`: not by the policy, for example an unknown user;
`not_smtp`: by KumoMTA's HTTP listener, to which the policy does not apply; `unknown`: the record does not contain enough.
"""


class Disagreement(Struct, frozen=True, kw_only=True):
    """A record that this configuration would have decided otherwise, and why; the rule first.

    `recipient` is the one that would be rejected where the others would not; None if all have one disposition.
    """

    accepts: bool
    recipient: str | None
    because: tuple[Because, ...]


def disagreement(found: ComparedRecord) -> Disagreement | None:
    """Say how this configuration would have decided otherwise; None where it would not, or nobody can tell.

    What was kept in the quarantine was accepted as well.
    """
    if found.agrees is not False or _is_told_elsewhere(found):
        return None
    judgement = found.judgement
    if found.answer.happened == "rejected" or found.follow_up == "rejected":
        return Disagreement(accepts=True, recipient=None, because=deciding(judgement))
    if judgement.outcome not in REJECTED and (rejected := rejected_among(judgement)):
        return Disagreement(accepts=False, recipient=rejected[0].address, because=rejected[0].because)
    if judgement.outcome in REJECTED or found.answer.happened != "quarantined":
        return Disagreement(accepts=False, recipient=None, because=deciding(judgement))
    return None


class Comparison:
    """What came of comparing a log. Counts are of answers: a record may stand for many rejections of a flood.

    `rules` has the disagreements by the rule that decides now. `outgoing` are records of mail that went out, `unreadable` lines
    and records that tell too little to be judged at all.
    """

    def __init__(self) -> None:
        self.same = 0
        self.would_reject = 0
        self.would_accept = 0
        self.asides: dict[Aside, int] = {}
        self.rules: BoundedTally[str] = BoundedTally()
        self.outgoing = 0
        self.unreadable = 0

    @property
    def otherwise(self) -> int:
        """How many answers would be others."""
        return self.would_reject + self.would_accept

    @property
    def compared(self) -> int:
        """How many answers could be compared."""
        return self.same + self.otherwise

    @property
    def is_empty(self) -> bool:
        """Tell whether there was nothing at all."""
        return not (self.compared or self.asides or self.outgoing or self.unreadable)

    def add(self, found: ComparedRecord | None) -> Disagreement | None:
        """Count a record, and give the disagreement, if it is one."""
        if found is None:
            self.outgoing += 1
            return None
        if _is_told_elsewhere(found):
            return None
        if (aside := _aside(found)) is not None:
            self.asides[aside] = self.asides.get(aside, 0) + found.record.count
            return None
        how = disagreement(found)
        self._count(found, how)
        return how

    def _count(self, found: ComparedRecord, how: Disagreement | None) -> None:
        if how is None:
            self.same += found.record.count
            return
        outcome = found.judgement.outcome if how.recipient is None else Disposition.REJECTED_AT_RCPT
        self.rules.add(rule_of(outcome, how.because[0]), found)
        if how.accepts:
            self.would_accept += found.record.count
        else:
            self.would_reject += found.record.count


def _is_told_elsewhere(found: ComparedRecord) -> bool:
    """Return True if another record is about the same message: the Reception of a bounce report, or of a later rejection."""
    return found.is_follow_up or found.record.type == "OOB"


def _aside(found: ComparedRecord) -> Aside | None:
    if found.agrees is not None:
        return None
    if found.answer.happened == "tempfailed":
        return "tempfailed"
    if found.answer.happened == "rejected_for_other_reason":
        return "rejected_for_other_reason"
    return "unknown" if came_by_smtp(found.record) else "not_smtp"
