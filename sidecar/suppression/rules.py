"""Which addresses are suppressed, why and until when: a function of the events of an address.

Owns counts, windows, expiry, and which events are kept. The order in which events arrive never matters, so the list is the same
however often the journal was read. Never reads a record, a clock or a disk.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from typing import Final, Literal

from msgspec import Struct

from sidecar.core.settings.suppression import IGNORED_TYPES, SuppressionRule

NEVER: Final = 0
"""The `expires` of what only a person removes."""

MICROSECONDS: Final = 1_000_000
_DAY: Final = 86400 * MICROSECONDS
# Changes by hand of one address that are kept. Each is a decision of a person or of an import.
_CHANGES_LIMIT: Final = 20

EventKind = Literal["report", "add", "remove"]
EntrySource = Literal["reports", "manual"]


class Event(Struct, frozen=True, kw_only=True, gc=False, order=True):
    """A report about an address, or a change by hand.

    `time` is in microseconds since 1970. `word` is the bounce class or feedback type, or the reason of a change. `id` is the
    report's message, or the record of the change: one id counts once. `expires` (seconds since 1970) is of an "add".
    """

    time: int
    id: str
    kind: EventKind = "report"
    word: str
    expires: int = NEVER


class ListEntry(Struct, frozen=True, kw_only=True, gc=False):
    """Why an address is suppressed. Times are in seconds since 1970; `expires` can be `NEVER`.

    `source` is "reports" or "manual"; `reports` has the ids of the messages behind it, the oldest first.
    """

    reason: str
    source: EntrySource
    since: int
    expires: int
    reports: tuple[str, ...] = ()

    @property
    def rank(self) -> tuple[bool, int, int]:
        """The entry that lasts longest has the highest rank; of equal ones the earlier."""
        return self.expires == NEVER, self.expires, -self.since


class Ruleset:
    """Rules in their order. Of several rules with one word the first counts."""

    def __init__(self, rules: Iterable[SuppressionRule]) -> None:
        self.rules = tuple(rules)
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
        return lasts is not None and event.time + lasts <= now * MICROSECONDS

    def kept(self, events: Iterable[Event], now: int) -> set[Event]:
        """Return the events of one address that count or can count. The number of them is bounded for each day."""
        events = [event for event in events if not self.is_over(event, now)]
        removed = max((event for event in events if event.kind == "remove"), default=None)
        groups: defaultdict[tuple[str, str, int], list[Event]] = defaultdict(list)
        for event in events:
            if event.kind == "report":
                groups["report", event.word, event.time // _DAY].append(event)
            elif event.kind == "add":
                groups["add", "", 0].append(event)
        limits = {"report": self._kept_of_day, "add": _CHANGES_LIMIT}
        after = -1 if removed is None else removed.time
        newest = {
            event
            for (kind, _, _), group in groups.items()
            # The newest, because a removal cancels the oldest.
            for event in sorted(group)[-limits[kind] :]
            if event.time > after
        }
        return newest if removed is None else newest | {removed}

    def entry(self, events: Iterable[Event], now: int) -> ListEntry | None:
        """Return the entry of an address from the events that `kept` returned; None if it is not suppressed at `now`."""
        by_rule: defaultdict[int, list[Event]] = defaultdict(list)
        found: list[ListEntry] = []
        rules: dict[int, SuppressionRule] = {}
        for event in sorted(events):
            if event.kind == "add":
                since = event.time // MICROSECONDS
                found.append(ListEntry(reason=event.word, source="manual", since=since, expires=event.expires))
            elif event.kind == "report" and (rule := self.rule(event.word)) is not None:
                by_rule[id(rule)].append(event)
                rules[id(rule)] = rule
        for key, own in by_rule.items():
            found += _triggered(own, rules[key])
        lasting = (one for one in found if one.expires == NEVER or one.expires > now)
        return max(lasting, key=lambda one: (one.rank, one.reason), default=None)


def _horizon(rule: SuppressionRule) -> int | None:
    """Return how long a report can matter, in microseconds; None if for good."""
    return None if rule.expire == NEVER else (rule.within + rule.expire) * MICROSECONDS


def _triggered(events: list[Event], rule: SuppressionRule) -> Iterator[ListEntry]:
    """Yield an entry for each event, from the oldest, at which the rule has enough reports."""
    first = 0
    ids: Counter[str] = Counter()
    days: Counter[int] = Counter()
    for number, event in enumerate(events):
        ids[event.id] += 1
        days[event.time // _DAY] += 1
        while events[first].time <= event.time - rule.within * MICROSECONDS:
            _drop(ids, events[first].id)
            _drop(days, events[first].time // _DAY)
            first += 1
        if len(ids) >= rule.count and len(days) >= rule.days:
            since = event.time // MICROSECONDS
            expires = NEVER if rule.expire == NEVER else since + rule.expire
            behind = tuple(dict.fromkeys(one.id for one in events[first : number + 1]))
            yield ListEntry(reason=event.word, source="reports", since=since, expires=expires, reports=behind[-rule.count :])


def _drop(counts: Counter[str] | Counter[int], key: str | int) -> None:
    own: Counter[str | int] = counts  # type: ignore[assignment] # one function for both
    own[key] -= 1
    if not own[key]:
        del own[key]


class EntryChange(Struct, frozen=True, kw_only=True):
    """An address whose entry two lists have differently. None is an address that is not on the list."""

    address: str
    old: ListEntry | None
    new: ListEntry | None


def differences(old: Mapping[str, ListEntry], new: Mapping[str, ListEntry]) -> Iterator[EntryChange]:
    """Yield what changes from one list to another, by address."""
    for address in sorted(old.keys() | new.keys()):
        if old.get(address) != new.get(address):
            yield EntryChange(address=address, old=old.get(address), new=new.get(address))
