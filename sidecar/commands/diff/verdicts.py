"""Count the recorded envelopes with a different decision, in groups by the deciding rules.

Owns what counts as one envelope. Never reads a log.
"""

from collections import Counter
from collections.abc import Iterable
from typing import Final, get_args

from msgspec import Struct
from msgspec.structs import replace

from sidecar.commands.diff.questions import Difference, Questions
from sidecar.commands.diff.values import EFFECTS, Count, Example, Group, Side, Verdicts, What
from sidecar.core.disposition import Disposition
from sidecar.core.evaluate.envelope import Envelope, envelope_of
from sidecar.core.evaluate.evaluator import Undecided
from sidecar.core.policy import Because
from sidecar.core.policy.address import domain_of
from sidecar.core.records import Logged
from sidecar.core.settings.values import ANY_LISTENER
from sidecar.output.tally import Tally

# The records of a message are close together: the sidecar writes them at once, KumoMTA within seconds.
_WAITING = 4096

# Each deciding rule has a group, and a policy can have 200,000 rules.
_GROUPS = 1000

# The number of peers and domains that a group counts, and lists.
_NAMES, _LISTED = 64, 5

# KumoMTA has some fifteen record types.
_TYPES = 50

# If the recipients of an envelope differ, the first of these counts.
_WHATS: Final[tuple[What, ...]] = get_args(What)

_Place = tuple[str | None, int | None, str | None]


class _Seen(Struct, kw_only=True):
    """An envelope that waits for more records of its message, with its record."""

    envelope: Envelope
    record_id: str
    time: str
    count: int


def _top(tally: Tally[str]) -> tuple[Count, ...]:
    return tuple(Count(name=name, count=count) for name, count in tally.top(_LISTED))


class _GroupCounter:
    """Counts a group. Without `rules` it is the group of all rules beyond the limit."""

    def __init__(self, difference: Difference, example: Example, *, rules: bool) -> None:
        self.difference = difference
        self.example = example
        self.rules = rules
        self.count = 0
        self.peers, self.domains = Tally[str](_NAMES), Tally[str](_NAMES)

    def add(self, seen: _Seen, recipient: str) -> None:
        self.count += seen.count
        self.peers.add(str(seen.envelope.peer), seen.count)
        if recipient:
            self.domains.add(domain_of(recipient), seen.count)

    def group(self) -> Group:
        found = self.difference
        return Group(
            effect=found.effect,
            what=found.what,
            old_disposition=found.old if isinstance(found.old, Disposition) else None,
            new_disposition=found.new if isinstance(found.new, Disposition) else None,
            undecided=next((one for one in (found.old, found.new) if isinstance(one, Undecided)), None),
            count=self.count,
            old_rule=found.old_rule if self.rules else None,
            new_rule=found.new_rule if self.rules else None,
            peers=_top(self.peers),
            domains=_top(self.domains),
            example=self.example,
        )


class Replay:
    """Add the records of a log in order, then read `verdicts`."""

    def __init__(self, old: Side, new: Side) -> None:
        self._questions = Questions(old, new)
        self._needs_listener = old.policy.depends_on_listener or new.policy.depends_on_listener
        self._waiting: dict[str, _Seen] = {}
        self._groups: dict[tuple[object, ...], _GroupCounter] = {}
        self._passed_over: Counter[str] = Counter()
        self._totals: Counter[str] = Counter()

    def add(self, record: Logged) -> None:
        """Add a record. An OOB record gives the kind of the Reception with its id, and is no separate envelope."""
        self._totals["records"] += 1
        try:
            envelope = envelope_of(record)
        except ValueError:
            known = record.type in self._passed_over or len(self._passed_over) < _TYPES
            self._passed_over[record.type if known else "others"] += 1
            return
        seen = _Seen(envelope=envelope, record_id=record.id, time=record.event_time, count=record.count)
        if not record.id:
            self._decide(seen)
        elif (first := self._waiting.get(record.id)) is None:
            self._waiting[record.id] = seen
            if len(self._waiting) > _WAITING:
                self._decide(self._waiting.pop(next(iter(self._waiting))))
        elif set(envelope.recipients) <= set(first.envelope.recipients):
            first.envelope = _with_kind(first.envelope, envelope)
        else:
            self._decide(seen)

    def add_unreadable(self) -> None:
        """Count a line that is no record."""
        self._totals["unreadable"] += 1

    def verdicts(self) -> Verdicts:
        """Return the totals. Add no record after this."""
        for seen in self._waiting.values():
            self._decide(seen)
        self._waiting.clear()
        groups = (one.group() for one in self._groups.values())
        totals = self._totals
        return Verdicts(
            records=totals["records"],
            unreadable=totals["unreadable"],
            passed_over=dict(self._passed_over),
            envelopes=totals["envelopes"],
            unknown_listener=totals["unknown_listener"],
            differ=totals["newly_accepted"] + totals["newly_rejected"] + totals["delivery_changed"],
            newly_accepted=totals["newly_accepted"],
            newly_rejected=totals["newly_rejected"],
            delivery_changed=totals["delivery_changed"],
            rejected_elsewhere=totals["rejected_elsewhere"],
            groups=tuple(sorted(groups, key=_rank)),
        )

    def _decide(self, seen: _Seen) -> None:
        envelope = seen.envelope
        self._totals["envelopes"] += seen.count
        if self._needs_listener and envelope.listener == ANY_LISTENER:
            self._totals["unknown_listener"] += seen.count
        touched: dict[_GroupCounter, None] = {}
        whats: set[What] = set()
        for one in _one_by_one(envelope):
            difference = self._questions.ask(one)
            if difference is None:
                continue
            whats.add(difference.what)
            group = self._group(difference, one, seen)
            if group not in touched:
                touched[group] = None
                group.add(seen, "".join(one.recipients))
        if whats:
            self._totals[min(whats, key=_WHATS.index)] += seen.count

    def _group(self, difference: Difference, envelope: Envelope, seen: _Seen) -> _GroupCounter:
        rules = _place(difference.old_rule), _place(difference.new_rule)
        key: tuple[object, ...] = (difference.old, difference.new, *rules)
        has_room = key in self._groups or len(self._groups) < _GROUPS
        key = key if has_room else key[:2]
        if key not in self._groups:
            self._groups[key] = _GroupCounter(difference, _example(envelope, seen), rules=has_room)
        return self._groups[key]


def _with_kind(first: Envelope, later: Envelope) -> Envelope:
    return replace(first, kind=later.kind) if first.kind == "unknown" else first


def _one_by_one(envelope: Envelope) -> Iterable[Envelope]:
    """Yield an envelope for each recipient, because each has its own decision (see the policy reference, RCPT)."""
    if len(envelope.recipients) < 2:  # noqa: PLR2004 - one, or none
        return (envelope,)
    return (replace(envelope, recipients=(recipient,)) for recipient in envelope.recipients)


def _place(rule: Because) -> _Place:
    return rule.file, rule.line, rule.key


def _example(envelope: Envelope, seen: _Seen) -> Example:
    return Example(
        id=seen.record_id,
        time=seen.time,
        peer=str(envelope.peer),
        sender=envelope.sender,
        recipient="".join(envelope.recipients),
    )


def _rank(group: Group) -> tuple[int, int, int]:
    return EFFECTS.index(group.effect), _WHATS.index(group.what), -group.count
