"""Compare the decisions of both configurations on recorded envelopes, in groups by the deciding rules.

Owns what counts as one envelope. Never reads a log.
"""

from collections import Counter
from typing import Final, get_args

from msgspec import Struct
from msgspec.structs import replace

from sidecar.config.diff.values import EFFECTS, Count, Effect, Example, Group, Side, Verdicts, What, effect_of
from sidecar.core.disposition import Disposition
from sidecar.core.evaluate.envelope import Envelope, RecordedEntry, envelope_of, received_by_smtp
from sidecar.core.evaluate.evaluator import ONLY_REPORTS, REACH, EnvelopeOutcome, Judgement, Undecided
from sidecar.core.policy import Because
from sidecar.core.policy.address import domain_of
from sidecar.core.records import Logged
from sidecar.core.settings.values import ANY_LISTENER
from sidecar.core.tally import Tally

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


class Difference(Struct, frozen=True, kw_only=True):
    """A question with two decisions."""

    old: EnvelopeOutcome
    new: EnvelopeOutcome
    old_rule: Because
    new_rule: Because

    @property
    def effect(self) -> Effect:
        """Whether the message gets further than before."""
        return effect_of(REACH.get(self.old, 0), REACH.get(self.new, 0))

    @property
    def what(self) -> What:
        """Whether the new decision accepts the message, or rejects it."""
        before, after = (min(REACH.get(outcome, 0), ONLY_REPORTS + 1) for outcome in (self.old, self.new))
        if before == after:
            return "delivery_changed" if before else "rejected_elsewhere"
        return "newly_accepted" if after > before else "newly_rejected"


class Questions:
    """Both policies."""

    def __init__(self, old: Side, new: Side) -> None:
        self._old, self._new = old, new

    def ask(self, envelope: Envelope) -> Difference | None:
        """Return the difference for an envelope with one recipient or none; None if there is none."""
        before, after = self._old.evaluator.judge(envelope), self._new.evaluator.judge(envelope)
        old, new = _outcome(before), _outcome(after)
        # Relayed mail is relayed, whether it is also logged as a report or not.
        if old is new or {old, new} == {Disposition.RELAYED, Disposition.LOGGED_AND_RELAYED}:
            return None
        old_rule, new_rule = self._old.because(_rule(before)), self._new.because(_rule(after))
        return Difference(old=old, new=new, old_rule=old_rule, new_rule=new_rule)


def _outcome(judgement: Judgement) -> EnvelopeOutcome:
    """Return the outcome. The mail of a relay host is relayed, also where the record does not contain its recipients."""
    is_relay_host = judgement.connect.accept and not judgement.connect.deferred
    without_recipients = judgement.outcome is Undecided.RECIPIENTS_UNKNOWN
    return Disposition.RELAYED if is_relay_host and without_recipients else judgement.outcome


def _rule(judgement: Judgement) -> Because:
    if judgement.message is not None:
        return judgement.message.results[0].because
    if judgement.recipients:
        return judgement.recipients[0].because[0]
    # The first reason is about relay_hosts, the last about the listener domains.
    return judgement.connect.because[-1]


class _Seen(Struct, kw_only=True):
    """An envelope that waits for more records of its message, with its record.

    `recipients` has the entry of each in the suppression list.
    """

    envelope: Envelope
    recipients: dict[str, RecordedEntry | None]
    record_id: str
    time: str
    count: int


class _Counter:
    """Counts the envelopes of a group."""

    def __init__(self, group: Group) -> None:
        self._group, self._count = group, 0
        self._peers, self._domains = Tally[str](_NAMES), Tally[str](_NAMES)

    def add(self, seen: _Seen, recipient: str) -> None:
        self._count += seen.count
        self._peers.add(str(seen.envelope.peer), seen.count)
        if recipient:
            self._domains.add(domain_of(recipient), seen.count)

    def group(self) -> Group:
        peers, domains = (
            tuple(Count(name=name, count=count) for name, count in tally.top(_LISTED)) for tally in (self._peers, self._domains)
        )
        return replace(self._group, count=self._count, peers=peers, domains=domains)


class Replay:
    """Add the records of a log in order, then read `verdicts`."""

    def __init__(self, old: Side, new: Side) -> None:
        self._questions = Questions(old, new)
        self._needs_listener = old.evaluator.policy.depends_on_listener or new.evaluator.policy.depends_on_listener
        self._waiting: dict[str, _Seen] = {}
        self._groups: dict[tuple[object, ...], _Counter] = {}
        self._passed_over: Counter[str] = Counter()
        self._totals: Counter[str] = Counter()

    def add(self, record: Logged | None) -> None:
        """Add a record; None for a line that is no record. Those of one message make one envelope of all its recipients."""
        if record is None:
            self._totals["unreadable"] += 1
            return
        self._totals["records"] += 1
        try:
            envelope = envelope_of(record) if received_by_smtp(record) else None
        except ValueError:
            envelope = None
        if envelope is None:
            known = record.type in self._passed_over or len(self._passed_over) < _TYPES
            self._passed_over[record.type if known else "others"] += 1
            return
        recipients: dict[str, RecordedEntry | None] = dict.fromkeys(envelope.recipients, envelope.suppressed)
        seen = _Seen(envelope=envelope, recipients=recipients, record_id=record.id, time=record.event_time, count=record.count)
        if not record.message_id:
            self._decide(seen)
        elif (first := self._waiting.get(record.message_id)) is None:
            self._waiting[record.message_id] = seen
            if len(self._waiting) > _WAITING:
                self._decide(self._waiting.pop(next(iter(self._waiting))))
        else:
            first.recipients |= recipients
            if first.envelope.kind == "unknown":
                first.envelope = replace(first.envelope, kind=envelope.kind)

    def verdicts(self) -> Verdicts:
        """Return the totals. Add no record after this."""
        for seen in self._waiting.values():
            self._decide(seen)
        self._waiting.clear()
        return Verdicts(
            passed_over=self._passed_over,
            differ=sum(self._totals[what] for what in _WHATS if what != "rejected_elsewhere"),
            groups=tuple(sorted((counter.group() for counter in self._groups.values()), key=_rank)),
            **{name: self._totals[name] for name in ("records", "unreadable", "envelopes", "unknown_listener", *_WHATS)},
        )

    def _decide(self, seen: _Seen) -> None:
        """Count an envelope once in the totals, and once in each group of its recipients (see the policy reference, RCPT)."""
        envelope = seen.envelope
        self._totals["envelopes"] += seen.count
        if self._needs_listener and envelope.listener == ANY_LISTENER:
            self._totals["unknown_listener"] += seen.count
        touched, whats = set[_Counter](), set[What]()
        for recipient, entry in (seen.recipients or {"": None}).items():
            one = replace(envelope, recipients=(recipient,), suppressed=entry) if len(seen.recipients) > 1 else envelope
            difference = self._questions.ask(one)
            if difference is None:
                continue
            whats.add(difference.what)
            group = self._group(difference, seen, recipient)
            if group not in touched:
                touched.add(group)
                group.add(seen, recipient)
        if whats:
            self._totals[min(whats, key=_WHATS.index)] += seen.count

    def _group(self, found: Difference, seen: _Seen, recipient: str) -> _Counter:
        """Return the group of both outcomes and rules. Beyond the limit it is that of the outcomes by any other rules."""
        old, new = found.old_rule, found.new_rule
        key: tuple[object, ...] = (found.old, found.new, old.file, old.line, old.key, new.file, new.line, new.key)
        has_room = key in self._groups or len(self._groups) < _GROUPS
        key = key if has_room else key[:2]
        if key not in self._groups:
            peer, sender = str(seen.envelope.peer), seen.envelope.sender
            group = Group(
                effect=found.effect,
                what=found.what,
                old_disposition=found.old if isinstance(found.old, Disposition) else None,
                new_disposition=found.new if isinstance(found.new, Disposition) else None,
                undecided=next((one for one in (found.old, found.new) if isinstance(one, Undecided)), None),
                old_rule=old if has_room else None,
                new_rule=new if has_room else None,
                example=Example(id=seen.record_id, time=seen.time, peer=peer, sender=sender, recipient=recipient),
            )
            self._groups[key] = _Counter(group)
        return self._groups[key]


def _rank(group: Group) -> tuple[int, int, int]:
    return EFFECTS.index(group.effect), _WHATS.index(group.what), -group.count
