"""Which addresses are suppressed, why and until when: a function of the events of an address.

Owns counts, windows, expiry, and which events are kept. The order in which events arrive never matters, so the list is the same
however often the journal was read. Never reads a record, a clock or a disk.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import Final, Literal, TypeVar

from msgspec import Struct
from msgspec.structs import replace

from sidecar.core.proof.values import MESSAGE_ID
from sidecar.core.settings.keys import DAY
from sidecar.core.settings.suppression import IGNORED_TYPES, SuppressionRule

NEVER: Final = 0
"""The `expires` of what only a person removes."""

MICROSECONDS: Final = 1_000_000
_DAY: Final = 86400 * MICROSECONDS
# Additions by hand of one address that are kept, with the one that lasts longest. Each is a decision of a person or an import.
_CHANGES_LIMIT: Final = 20
# Proved reports of one day and word that are kept besides those that count, so that their repeats are found. An address with
# more messages a day has failed long before; a repeat of an older one of them can then count once more.
_REPEATABLE: Final = 100

_Key = TypeVar("_Key")
EventKind = Literal["report", "add", "remove"]
EntrySource = Literal["reports", "manual"]


class Event(Struct, frozen=True, kw_only=True, gc=False, order=True, omit_defaults=True):
    """A report about an address, or a change by hand.

    `time` is in microseconds since 1970. `word` is the bounce class or feedback type, or the reason of a change. `id` is the
    report's message, or the record of the change: one id counts once. `expires` (seconds since 1970) is of an "add".
    `verified_ids` are those of a report's proofs, in order (see `Proof`): a repeat of a report shares one of them.
    """

    time: int
    id: str
    kind: EventKind = "report"
    word: str
    expires: int = NEVER
    verified_ids: tuple[str, ...] = ()

    @property
    def is_proved(self) -> bool:
        """Whether it is a report with a proof."""
        return bool(self.verified_ids)


class ListEntry(Struct, frozen=True, kw_only=True, gc=False):
    """Why an address is suppressed. Times are in seconds since 1970; `expires` can be `NEVER`.

    `source` is "reports" or "manual"; `reports` has the ids of the messages behind it, the oldest first. `nodes` are those of
    a fleet that know one of them, or the change.
    """

    reason: str
    source: EntrySource
    since: int
    expires: int
    reports: tuple[str, ...] = ()
    nodes: tuple[str, ...] = ()

    def is_over(self, now: int) -> bool:
        """Return True if the entry has ended at `now`."""
        return self.expires != NEVER and self.expires <= now

    @property
    def rank(self) -> tuple[bool, int, int]:
        """The entry that lasts longest has the highest rank; of equal ones the earlier."""
        return self.expires == NEVER, self.expires, -self.since


class Ruleset:
    """Rules in their order. Of several rules with one word the first counts.

    `proof_age` is `maximum_age` of the proofs in seconds: a report can be repeated so long.
    """

    def __init__(self, rules: Iterable[SuppressionRule], *, proof_age: int) -> None:
        self.rules = tuple(rules)
        # A token is of a day, and clocks differ by less than another.
        self._repeatable = (proof_age + 2 * DAY) * MICROSECONDS
        self._by_word: dict[str, SuppressionRule] = {}
        for rule in self.rules:
            for word in rule.when:
                self._by_word.setdefault(word, rule)
        # Of the reports of one day, more than this change no answer.
        self._kept_of_day = max((rule.count for rule in self.rules), default=0)
        lasting = [_horizon(rule) for rule in self.rules]
        self._longest = None if None in lasting else max((one for one in lasting if one is not None), default=0)

    def rule(self, word: str) -> SuppressionRule | None:
        """Return the rule for a bounce class or a feedback type; None if reports of this word never count."""
        return None if word in IGNORED_TYPES else self._by_word.get(word)

    def is_over(self, event: Event, now: int) -> bool:
        """Return True if an event can change nothing any more at `now` (seconds since 1970), so that it has to be deleted."""
        if event.kind == "add":
            return event.expires != NEVER and event.expires <= now
        if event.kind == "remove":
            # A report from before it can still be read again.
            lasts = self._longest
        else:
            rule = self.rule(event.word)
            lasts = 0 if rule is None else _horizon(rule)
            if lasts and event.is_proved:
                lasts += self._repeatable
        return lasts is not None and event.time + lasts <= now * MICROSECONDS

    def kept(self, events: Iterable[Event], now: int) -> set[Event]:
        """Return the events of one address that count or can count, without repeats. Their number is bounded for each day."""
        counting = [event for event in events if event.kind != "report" or self.rule(event.word) is not None]
        if len(counting) == 1:
            # Most addresses have one event: this takes a fifth of the time.
            return {event for event in counting if not self.is_over(event, now)}
        events = [event for event in without_repeats(counting) if not self.is_over(event, now)]
        removal = _last_removal(events)
        removed = -1 if removal is None else removal.time
        groups: defaultdict[tuple[str, str, int, bool], list[Event]] = defaultdict(list)
        for event in events:
            if event.kind == "report":
                groups["report", event.word, event.time // _DAY, event.is_proved].append(event)
            elif event.kind == "add":
                groups["add", "", 0, False].append(event)
        newest: set[Event] = set()
        for (kind, _, _, is_proved), group in groups.items():
            # A removal does not cancel what a repeat is compared with.
            left = [event for event in group if is_proved or event.time > removed]
            limit = self._kept_of_day + _REPEATABLE * is_proved
            # The newest, because a removal cancels the oldest.
            newest.update(kept_additions(left) if kind == "add" else sorted(left)[-limit:])
        return newest if removal is None else newest | {removal}

    def entry(self, events: Iterable[Event], now: int) -> ListEntry | None:
        """Return the entry of an address from the events that `kept` returned; None if it is not suppressed at `now`."""
        events = sorted(events)
        removal = _last_removal(events)
        by_rule: defaultdict[int, list[Event]] = defaultdict(list)
        found: list[ListEntry] = []
        rules: dict[int, SuppressionRule] = {}
        for event in events:
            if removal is not None and event.time <= removal.time:
                continue
            if event.kind == "add":
                since = event.time // MICROSECONDS
                found.append(ListEntry(reason=event.word, source="manual", since=since, expires=event.expires))
            elif event.kind == "report" and (rule := self.rule(event.word)) is not None:
                by_rule[id(rule)].append(event)
                rules[id(rule)] = rule
        for key, own in by_rule.items():
            found += _triggered(own, rules[key])
        lasting = (one for one in found if not one.is_over(now))
        return max(lasting, key=lambda one: (one.rank, one.reason), default=None)


def kept_additions(events: Iterable[Event]) -> set[Event]:
    """Return the additions of an address that are kept: the newest, and the one that lasts longest."""
    additions = sorted(event for event in events if event.kind == "add")
    longest = max(additions, key=lambda one: (one.expires == NEVER, one.expires, -one.time, one), default=None)
    return {*additions[-_CHANGES_LIMIT:], *(() if longest is None else (longest,))}


def without_repeats(events: Iterable[Event]) -> set[Event]:
    """Return events without reports that repeat an earlier one: of those that share an id of a message, the earliest stays.

    It gets the ids of all of them. Many messages can have one token: a report with nothing else repeats any report with it.
    """
    found: set[Event] = set()
    named: list[Event] = []
    by_token: defaultdict[tuple[str, ...], list[Event]] = defaultdict(list)
    for event in events:
        if any(one.startswith(MESSAGE_ID) for one in event.verified_ids):
            named.append(event)
        elif event.is_proved:
            by_token[event.verified_ids].append(event)
        else:
            found.add(event)
    tokens: set[str] = set()
    for group in _by_message(named):
        found |= _earliest(group)
        tokens.update(*(event.verified_ids for event in group))
    for ids, group in by_token.items():
        if tokens.isdisjoint(ids):
            found |= _earliest(group)
    return found


def _by_message(events: Iterable[Event]) -> Iterable[list[Event]]:
    """Return reports in groups: those that share an id of a message, directly or by way of others."""
    parents: dict[str, str] = {}

    def first(one: str) -> str:
        while (parent := parents.setdefault(one, one)) != one:
            parents[one] = one = parents[parent]
        return one

    named = [(event, [one for one in event.verified_ids if one.startswith(MESSAGE_ID)]) for event in events]
    for _, ids in named:
        for one in ids:
            parents[first(one)] = first(ids[0])
    groups: defaultdict[str, list[Event]] = defaultdict(list)
    for event, ids in named:
        groups[first(ids[0])].append(event)
    return groups.values()


def _earliest(group: list[Event]) -> set[Event]:
    """Return the earliest report of a group, which can have an event for each of several words, with the ids of all."""
    ids = tuple(sorted({one for event in group for one in event.verified_ids}))
    earliest = min((event.time, event.id) for event in group)
    return {replace(event, verified_ids=ids) for event in group if (event.time, event.id) == earliest}


def _last_removal(events: Iterable[Event]) -> Event | None:
    return max((event for event in events if event.kind == "remove"), default=None)


def _horizon(rule: SuppressionRule) -> int | None:
    """Return how long a report can matter, in microseconds; None if for good."""
    return None if rule.expire == NEVER else (rule.within + rule.expire) * MICROSECONDS


def _triggered(events: list[Event], rule: SuppressionRule) -> Iterator[ListEntry]:
    """Yield an entry for each event, from the oldest, at which the rule has enough reports."""
    first = 0
    # A Counter is slower, and most addresses have one event.
    ids: dict[str, int] = {}
    days: dict[int, int] = {}
    for number, event in enumerate(events):
        ids[event.id] = ids.get(event.id, 0) + 1
        day = event.time // _DAY
        days[day] = days.get(day, 0) + 1
        while events[first].time <= event.time - rule.within * MICROSECONDS:
            _drop(ids, events[first].id)
            _drop(days, events[first].time // _DAY)
            first += 1
        if len(ids) >= rule.count and len(days) >= rule.days:
            since = event.time // MICROSECONDS
            expires = NEVER if rule.expire == NEVER else since + rule.expire
            behind = tuple(dict.fromkeys(one.id for one in events[first : number + 1]))
            yield ListEntry(reason=event.word, source="reports", since=since, expires=expires, reports=behind[-rule.count :])


def _drop(counts: dict[_Key, int], key: _Key) -> None:
    if counts[key] == 1:
        del counts[key]
    else:
        counts[key] -= 1
