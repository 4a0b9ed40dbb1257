"""Changes of listener domains: the entries themselves, and the names that therefore find another entry.

Owns which names are compared, and the words for each key. The policy finds the entry of a name.
"""

from collections.abc import Iterable, Iterator
from functools import partial
from typing import Any, Final, NamedTuple

from msgspec import Struct

from sidecar.config.diff.hosts import AddressSpace, by_key, is_wide
from sidecar.config.diff.values import EFFECTS, Action, Effect, RuleChange, Side, Spot, effect_of
from sidecar.core.names import lineage
from sidecar.core.networks import texts
from sidecar.core.open_domains import Pattern, pattern_of, patterns_at
from sidecar.core.settings.domain_table import table_of
from sidecar.core.settings.values import ANY_LISTENER, DomainEntry, LogMode

_NO_ENTRY: Final = DomainEntry(listener="", domain="", path="", line=0, steps={})
_REPORTS: Final = {"log_oob": "bounce reports", "log_arf": "feedback reports"}
# How far a report gets: 0 is rejected.
_REACH: Final = {LogMode.IGNORE: 0, LogMode.LOG_THEN_DROP: 1, LogMode.LOG_THEN_RELAY: 2}
_DISPOSITIONS: Final = {1: "dropped", 2: "relayed"}
_NAMED: Final = 3

_Key = tuple[str, str]
"""Listener and domain of an entry."""


class _Ends(NamedTuple):
    """An entry, or what names find, before and after. None is no entry."""

    old: DomainEntry | None
    new: DomainEntry | None

    @property
    def entry(self) -> DomainEntry:
        """The new entry, or else the old one."""
        entry = self.new or self.old
        assert entry is not None  # noqa: S101 - asked only of the ends of an entry
        return entry

    @property
    def keys(self) -> tuple[_Key | None, _Key | None]:
        old, new = (None if entry is None else (entry.listener, entry.domain) for entry in self)
        return old, new

    @property
    def action(self) -> Action:
        return "added" if self.old is None else "removed" if self.new is None else "changed"


def domain_changes(old: Side, new: Side) -> Iterator[RuleChange]:
    """Yield the entries that differ, key by key, then the names that find another entry."""
    return _Domains(old, new).changes()


class _Domains:
    """The listener domains of both sides. The entries of `pairs` are in the order of the files."""

    def __init__(self, old: Side, new: Side) -> None:
        self.old, self.new = old, new
        before, after = (
            {(entry.listener, entry.domain): entry for entry in side.evaluator.settings.domains} for side in (old, new)
        )
        self.pairs = {key: _Ends(before.get(key), after.get(key)) for key in before | after}
        # Names where a walk ends on one side only: parents of names that match nothing have no entry.
        tables = (table_of(side.evaluator.settings.domains).listeners for side in (old, new))
        ends_before, ends_after = ({(name, end) for name, own in table.items() for end in own.names()} for table in tables)
        self.ends = sorted((ends_before ^ ends_after) - self.pairs.keys())

    def changes(self) -> Iterator[RuleChange]:
        changed: dict[_Key, _Ends] = {}
        for (listener, domain), pair in self.pairs.items():
            # An entry on one side only is compared with what its names find on the other side.
            found = pair if pair.action == "changed" else self.find(listener, pattern_of(domain))
            ends = _Ends(pair.old or found.old, pair.new or found.new)
            changes = list(self.entry_changes(pair, ends))
            if changes:
                changed[listener, domain] = ends
            yield from changes
        yield from self.lookup_changes(changed)

    def find(self, listener: str, names: Pattern) -> _Ends:
        return _Ends(*(side.evaluator.policy.lookup(listener, names.probe) for side in (self.old, self.new)))

    def spots(self, ends: _Ends, key: str, old: object, new: object) -> tuple[Spot, Spot]:
        """Return two values of `key` with the places of both ends."""
        places = (None if entry is None else entry.where(key) for entry in ends)
        return self.old.spot(old, next(places)), self.new.spot(new, next(places))

    def entry_changes(self, pair: _Ends, ends: _Ends) -> Iterator[RuleChange]:
        entry, action, names = pair.entry, pair.action, _on(pair.entry.listener, pattern_of(pair.entry.domain))
        change = partial(RuleChange, kind="domain", action=action, listener=_listener(entry.listener))
        found = list(differences(names, *ends))
        for one in found:
            old, new = self.spots(ends, one.key, one.old, one.new)
            key = f"{entry.path}.{one.key}"
            yield change(effect=one.effect, danger=one.danger, key=key, old=old, new=new, text=one.text)
        if not found and action != "changed":
            # The old entry can be removed in the same change, so it permitted.
            other, verb = (ends.old, "permitted") if action == "added" else (ends.new, "permits")
            why = "it permits nothing, as before" if other is None else f"{other.path} {verb} the same"
            old, new = self.spots(pair, "", entry.path, entry.path)
            was, now = (None, new) if action == "added" else (old, None)
            yield change(key=entry.path, old=was, new=now, text=f"no effect for {names}: {why}")

    def lookup_changes(self, changed: dict[_Key, _Ends]) -> Iterator[RuleChange]:
        """Yield the names that find another entry, except those that a changed entry already explains.

        A name finds its entry by its longest parent that is listed, or is a parent of a listed name. So the listed names, their
        parents, and one unlisted name below each of these represent all names.
        """
        explained = {ends.keys for ends in changed.values()}
        causes = self.causes(changed)
        for listener in dict.fromkeys(listener for listener, _ in (*changed, *self.ends)):
            domains = (domain for where, domain in (*self.pairs, *self.ends) if where in {listener, ANY_LISTENER})
            for name in ("", *dict.fromkeys(name for domain in domains for name in lineage(pattern_of(domain).name))):
                # A name and the names below it are one change if both find the same.
                moved: dict[tuple[_Key | None, _Key | None], list[Pattern]] = {}
                for names in patterns_at(name):
                    keys = self.find(listener, names).keys
                    is_new = keys[0] != keys[1] and keys not in explained
                    if is_new and (listener == ANY_LISTENER or keys != self.find(ANY_LISTENER, names).keys):
                        moved.setdefault(keys, []).append(names)
                for patterns in moved.values():
                    yield from self.move(listener, patterns, causes.get((listener, name), ""))

    def causes(self, changed: Iterable[_Key]) -> dict[_Key, str]:
        """Return, for each name, the entry at or below it that was added or removed: the cause of another lookup."""
        causes: dict[_Key, str] = {}
        for listener, domain in changed:
            pair = self.pairs[listener, domain]
            if pair.action != "changed":
                side = self.new if pair.action == "added" else self.old
                place = side.spot(None, pair.entry.where("")).place
                for name in lineage(pattern_of(domain).name):
                    causes.setdefault((listener, name), f", because {pair.entry.path} was {pair.action} ({place})")
        return causes

    def move(self, listener: str, patterns: list[Pattern], cause: str) -> Iterator[RuleChange]:
        ends = self.find(listener, patterns[0])
        found = list(differences(_on(listener, patterns[0]), *ends))
        if found:
            old, new = self.spots(ends, "", *(None if entry is None else entry.path for entry in ends))
            yield RuleChange(
                kind="lookup",
                action="changed",
                effect=min((difference.effect for difference in found), key=EFFECTS.index),
                danger=any(difference.danger for difference in found),
                listener=_listener(listener),
                key=" and ".join(map(_words, patterns)),
                old=old,
                new=new,
                text="; ".join(difference.text for difference in found) + cause,
            )


def _words(names: Pattern) -> str:
    if names.name:
        return str(names)
    return "every domain that no other entry matches" if names.below else "addresses without a domain"


def _on(listener: str, names: Pattern) -> str:
    return _words(names) if listener == ANY_LISTENER else f"{_words(names)} (on {listener})"


def _listener(listener: str) -> str | None:
    return None if listener == ANY_LISTENER else listener


# --- what two entries permit for the same names


class KeyDifference(Struct, frozen=True, kw_only=True):
    """One key with a different effect. `old` and `new` are JSON values."""

    key: str
    effect: Effect
    danger: bool = False
    old: Any
    new: Any
    text: str


def differences(names: str, before: DomainEntry | None, after: DomainEntry | None) -> Iterator[KeyDifference]:
    """Yield, key by key, what changes for `names` that find `after` instead of `before`; None is no entry."""
    old, new = before or _NO_ENTRY, after or _NO_ENTRY
    if (opens := new.relay_to) != old.relay_to:
        text = f"every host can relay to {names}" if opens else f"external hosts can no longer relay to {names}"
        effect: Effect = "opens" if opens else "closes"
        yield KeyDifference(key="relay_to", effect=effect, danger=opens, old=not opens, new=opens, text=text)
    if by_key(old.relay_from).keys() != by_key(new.relay_from).keys():
        old_space, new_space = AddressSpace(old.relay_from), AddressSpace(new.relay_from)
        more = [network for network in new.relay_from if not old_space.holds(network)]
        less = [network for network in old.relay_from if not new_space.holds(network)]
        effect, text = _senders(names, texts(more), texts(less))
        was, now = texts(old.relay_from), texts(new.relay_from)
        yield KeyDifference(key="relay_from", effect=effect, danger=any(map(is_wide, more)), old=was, new=now, text=text)
    was, now = list(old.relay_from_authz), list(new.relay_from_authz)
    if (known := set(was)) != (kept := set(now)):
        effect, text = _senders(names, [name for name in now if name not in known], [name for name in was if name not in kept])
        yield KeyDifference(key="relay_from_authz", effect=effect, old=was, new=now, text=text)
    # With relay_to, before and after, a report that is not logged is relayed as other mail.
    unlogged = _REACH[LogMode.LOG_THEN_RELAY] if old.relay_to and new.relay_to else 0
    for key in _REPORTS:
        if getattr(old, key) is not getattr(new, key):
            yield _log(key, names, getattr(old, key), getattr(new, key), unlogged)


def _senders(names: str, added: list[str], gone: list[str]) -> tuple[Effect, str]:
    parts = [f"{_some(added)} can relay to every domain with a sender in {names}"] if added else []
    parts += [f"{_some(gone)} can no longer relay with a sender in {names}"] if gone else []
    effect: Effect = "opens" if added else "closes" if gone else "neither"
    return effect, "; ".join(parts) or "no effect: the networks have the same addresses"


def _some(names: list[str]) -> str:
    if (more := len(names) - _NAMED) > 0:
        return f"{', '.join(names[:_NAMED])} and {more} more"
    return " and ".join(filter(None, (", ".join(names[:-1]), names[-1])))


def _log(key: str, names: str, old: LogMode, new: LogMode, unlogged: int) -> KeyDifference:
    """Return the change of a log mode. A report that is not logged gets as far as `unlogged`."""
    before, after = _REACH[old] or unlogged, _REACH[new] or unlogged
    if new is LogMode.IGNORE:
        then = "relayed as other mail, and no longer logged" if after else "no longer accepted from external hosts"
        text = f"{_REPORTS[key]} to {names} are {then}"
    elif not before:
        text = f"external hosts pass RCPT for {names}: {_REPORTS[key]} are logged and {_DISPOSITIONS[after]}"
    elif after == before:
        text = f"{_REPORTS[key]} to {names} are logged, and relayed as before"
    else:
        text = f"{_REPORTS[key]} to {names} are logged and {_DISPOSITIONS[after]}, no longer {_DISPOSITIONS[before]}"
    return KeyDifference(key=key, effect=effect_of(before, after), old=old.value, new=new.value, text=text)
