"""Many records as totals: by what this configuration makes of them and the rule that decides, by peer, and by recipient domain.

Owns the counters, whose memory is bounded however many peers and domains there are. Never judges a record.
"""

from collections.abc import Hashable
from typing import Generic, TypeVar

from msgspec import Struct

from sidecar.commands.explain.finding import ComparedRecord
from sidecar.core.disposition import Disposition
from sidecar.core.evaluate.evaluator import EnvelopeOutcome, Undecided, deciding
from sidecar.core.policy import Because
from sidecar.core.policy.address import domain_of

# Some 25 MB for each kind of key. A day has fewer peers; a flood of made-up domains is what the bound is for.
_KEYS = 100_000
_NO_MATCH = "no listener domain matches"

K = TypeVar("K", bound=Hashable)


class AnswerCount(Struct, kw_only=True, gc=False):
    """How many, by what happened, and how many of these this configuration decides differently.

    `unknown` counts those that cannot be compared: a 4xx reply is no decision, and some records do not contain enough.
    """

    accepted: int = 0
    rejected: int = 0
    tempfailed: int = 0
    differ: int = 0
    unknown: int = 0

    @property
    def total(self) -> int:
        """How many in all."""
        return self.accepted + self.rejected + self.tempfailed

    def add(self, found: ComparedRecord) -> None:
        """Count a record for as many events as it stands for."""
        number = found.record.count
        match found.answer.happened:
            case "accepted" | "quarantined" if found.follow_up != "rejected":
                self.accepted += number
            case "tempfailed":
                self.tempfailed += number
            case _:
                self.rejected += number
        if found.agrees is None:
            self.unknown += number
        elif not found.agrees:
            self.differ += number


class BoundedTally(Generic[K]):
    """Counts by key. Where there are too many keys, the rarer half of them is given up, and summed in `others`.

    The counts of those that were never given up are exact; one that comes back begins anew. So whatever is frequent throughout
    is told with its right number.
    """

    def __init__(self, keys: int = _KEYS) -> None:
        self._keys = keys
        self._counts: dict[K, AnswerCount] = {}
        self.others = 0

    def __len__(self) -> int:
        return len(self._counts)

    def add(self, key: K, found: ComparedRecord) -> None:
        """Count a record under `key`."""
        if key not in self._counts:
            if len(self._counts) >= self._keys:
                self._give_up()
            self._counts[key] = AnswerCount()
        self._counts[key].add(found)

    def top(self, number: int) -> list[tuple[K, AnswerCount]]:
        """Give the most frequent, the first first; among equals those that came first."""
        return sorted(self._counts.items(), key=lambda item: -item[1].total)[:number]

    def _give_up(self) -> None:
        kept = dict(self.top(self._keys // 2))
        self.others += sum(count.total for key, count in self._counts.items() if key not in kept)
        self._counts = kept


class Ruling(Struct, frozen=True, kw_only=True):
    """What becomes of a record's envelope, and the rule that decides: `file:line key`, or what rule is missing."""

    outcome: EnvelopeOutcome
    rule: str


class RecordTotals:
    """All that is counted of a log. `outgoing` are records of mail that went out, `unreadable` those that tell too little."""

    def __init__(self, keys: int = _KEYS) -> None:
        self.all = AnswerCount()
        self.rulings: BoundedTally[Ruling] = BoundedTally(keys)
        self.peers: BoundedTally[str] = BoundedTally(keys)
        self.domains: BoundedTally[str] = BoundedTally(keys)
        self.outgoing = 0
        self.unreadable = 0

    def add(self, found: ComparedRecord | None) -> None:
        """Count a record that could be judged, or one of mail that went out; a message that two records tell of counts once."""
        if found is None:
            self.outgoing += 1
            return
        if found.is_follow_up:
            return
        self.all.add(found)
        self.rulings.add(_ruling(found), found)
        self.peers.add(str(found.envelope.peer), found)
        for domain in {answer.domain for answer in found.judgement.recipients} or set(
            map(domain_of, found.envelope.recipients)
        ):
            self.domains.add(domain, found)


def _ruling(found: ComparedRecord) -> Ruling:
    outcome = found.judgement.outcome
    return Ruling(outcome=outcome, rule=rule_of(outcome, deciding(found.judgement)[0]))


def rule_of(outcome: EnvelopeOutcome, reason: Because) -> str:
    """Name the rule without the peer and the domain that are in its sentence: equal rulings are to be counted together."""
    if outcome == Disposition.REJECTED_AT_CONNECT:
        return "no listener domain takes anything from strangers"
    if reason.file is not None:
        return f"{reason.file}:{reason.line} {reason.key}"
    if reason.text.startswith(_NO_MATCH):
        return _NO_MATCH
    return "the default relay_hosts" if outcome in {Disposition.RELAYED, Undecided.RECIPIENTS_UNKNOWN} else reason.text
