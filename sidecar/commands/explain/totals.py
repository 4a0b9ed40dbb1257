"""Counts of the records of a log: by disposition and rule, by peer, by recipient domain, and by agreement with a configuration.

Owns the counters. Their memory is bounded, however many peers and domains there are.
"""

from typing import Literal

from msgspec import Struct, field

from sidecar.commands.explain.finding import ComparedRecord, Disagreement, disagreement, received_by_smtp
from sidecar.core.disposition import Disposition
from sidecar.core.evaluate.evaluator import EnvelopeOutcome, Undecided, deciding
from sidecar.core.policy import Because
from sidecar.core.policy.address import domain_of

# Some 25 MB for each kind of key. A day has fewer peers; the bound is for a flood of made-up domains.
_KEYS = 100_000
_NO_MATCH = "no listener domain matches"

NotCompared = Literal["tempfailed", "rejected_for_other_reason", "not_smtp", "unknown"]
"""Why a record cannot disagree.

`tempfailed`: a 4xx reply is no decision; `rejected_for_other_reason`: not by the policy, for example an unknown user;
`not_smtp`: by KumoMTA's HTTP listener, to which the policy does not apply; `unknown`: the record does not contain enough.
"""


class AnswerCount(Struct, kw_only=True, gc=False):
    """Numbers of answers by what happened, and of those that this configuration decides otherwise.

    `unknown` counts those that cannot be compared: a 4xx reply is no decision, and some records do not contain enough.
    """

    accepted: int = 0
    rejected: int = 0
    tempfailed: int = 0
    differ: int = 0
    unknown: int = 0

    @property
    def total(self) -> int:
        """The number of all answers."""
        return self.accepted + self.rejected + self.tempfailed

    def add(self, found: ComparedRecord) -> None:
        """Count a record for as many events as it stands for."""
        number, happened = found.record.count, found.answer.happened
        if happened == "tempfailed":
            self.tempfailed += number
        elif happened in {"accepted", "quarantined"} and found.follow_up != "rejected":
            self.accepted += number
        else:
            self.rejected += number
        if found.agrees is None:
            self.unknown += number
        elif not found.agrees:
            self.differ += number


class BoundedTally:
    """Counts by key: the cells of a row. If there are too many keys, the rarer half is removed; `others` has its answers.

    The counts of keys that were never removed are exact, so frequent keys have the right number.
    """

    def __init__(self, keys: int = _KEYS) -> None:
        self._keys = keys
        self._counts: dict[tuple[str, ...], AnswerCount] = {}
        self.others = 0

    def __len__(self) -> int:
        return len(self._counts)

    def add(self, found: ComparedRecord, *key: str) -> None:
        """Count a record under `key`."""
        if key not in self._counts:
            if len(self._counts) >= self._keys:
                kept = dict(self.top(self._keys // 2))
                self.others += sum(count.total for key, count in self._counts.items() if key not in kept)
                self._counts = kept
            self._counts[key] = AnswerCount()
        self._counts[key].add(found)

    def top(self, number: int) -> list[tuple[tuple[str, ...], AnswerCount]]:
        """Return the most frequent keys; of equal ones the earlier first."""
        return sorted(self._counts.items(), key=lambda item: -item[1].total)[:number]


class RecordTotals(Struct, kw_only=True):
    """All counts of a log. `rulings` are by the outcome and its rule: `file:line key`, or the rule that is missing.

    `outgoing` counts records of outgoing mail, `unreadable` those that do not contain enough.
    """

    all: AnswerCount = field(default_factory=AnswerCount)
    rulings: BoundedTally = field(default_factory=BoundedTally)
    peers: BoundedTally = field(default_factory=BoundedTally)
    domains: BoundedTally = field(default_factory=BoundedTally)
    outgoing: int = 0
    unreadable: int = 0

    def add(self, found: ComparedRecord | None) -> None:
        """Count a judged record, or one of outgoing mail. A message with two records counts once."""
        if found is None:
            self.outgoing += 1
            return
        if found.is_follow_up:
            return
        outcome = found.judgement.outcome
        self.all.add(found)
        self.rulings.add(found, outcome.words, rule_of(outcome, deciding(found.judgement)[0]))
        self.peers.add(found, str(found.envelope.peer))
        domains = [answer.domain for answer in found.judgement.recipients]
        for domain in dict.fromkeys(domains or map(domain_of, found.envelope.recipients)):
            self.domains.add(found, domain or "(none)")


class Comparison(Struct, kw_only=True):
    """The result of a comparison. Counts are of answers: a record may stand for many rejections of a flood.

    `rules` has the disagreements by the rule that decides now. `outgoing` counts records of outgoing mail, `unreadable` lines
    and records that do not contain enough to be judged.
    """

    same: int = 0
    would_reject: int = 0
    would_accept: int = 0
    left_out: dict[NotCompared, int] = {}
    outgoing: int = 0
    unreadable: int = 0
    rules: BoundedTally = field(default_factory=BoundedTally)

    @property
    def otherwise(self) -> int:
        """The number of answers that would differ."""
        return self.would_reject + self.would_accept

    @property
    def compared(self) -> int:
        """The number of answers that can be compared."""
        return self.same + self.otherwise

    @property
    def is_empty(self) -> bool:
        """True if there was no record."""
        return not (self.compared or self.left_out or self.outgoing or self.unreadable)

    def add(self, found: ComparedRecord | None) -> Disagreement | None:
        """Count a record, and return the disagreement, if it is one."""
        if found is None:
            self.outgoing += 1
        if found is None or found.is_counted_elsewhere:
            return None
        number = found.record.count
        if (reason := _not_compared(found)) is not None:
            self.left_out[reason] = self.left_out.get(reason, 0) + number
            return None
        if (how := disagreement(found)) is None:
            self.same += number
            return None
        outcome = found.judgement.outcome if how.recipient is None else Disposition.REJECTED_AT_RCPT
        self.rules.add(found, rule_of(outcome, how.because[0]))
        if how.accepts:
            self.would_accept += number
        else:
            self.would_reject += number
        return how


def rule_of(outcome: EnvelopeOutcome, reason: Because) -> str:
    """Name the rule without the peer and the domain in its sentence, so that equal rulings are counted together."""
    if outcome == Disposition.REJECTED_AT_CONNECT:
        return "no listener domain accepts anything from external hosts"
    if reason.file is not None:
        return f"{reason.file}:{reason.line} {reason.key}"
    if reason.text.startswith(_NO_MATCH):
        return _NO_MATCH
    return "the default relay_hosts" if outcome in {Disposition.RELAYED, Undecided.RECIPIENTS_UNKNOWN} else reason.text


def _not_compared(found: ComparedRecord) -> NotCompared | None:
    if found.agrees is not None:
        return None
    match found.answer.happened:
        case "tempfailed" | "rejected_for_other_reason" as reason:
            return reason
        case _:
            return "unknown" if received_by_smtp(found.record) else "not_smtp"
