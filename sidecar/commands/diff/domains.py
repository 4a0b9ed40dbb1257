"""Changes of listener domains: the entries themselves, and the names that therefore find another entry.

Owns which names are compared. `grants` compares what entries permit; the policy finds the entry of a name.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from sidecar.commands.diff.grants import differences
from sidecar.commands.diff.values import EFFECTS, Action, RuleChange, Side, Spot
from sidecar.core.settings.values import ANY_LISTENER, DomainEntry

_STAR = "*"
_ROOT = ""
# A name below a domain that no file can list: U+0000 is in no domain name.
_UNLISTED = "\0"


class _Names(NamedTuple):
    """A name, or all names `below` it without an entry. Below the root: all names that no other entry matches."""

    name: str
    below: bool

    @property
    def asked(self) -> str:
        """The name to look up for them."""
        if not self.below:
            return self.name
        return f"{_UNLISTED}.{self.name}" if self.name else _UNLISTED

    def __str__(self) -> str:
        if not self.below:
            return self.name
        return f"*.{self.name}" if self.name else "every domain that no other entry matches"


class _Ends(NamedTuple):
    """An entry, or what names find, before and after. None is no entry."""

    old: DomainEntry | None
    new: DomainEntry | None

    @property
    def known(self) -> DomainEntry:
        """The new entry, or else the old one."""
        entry = self.new or self.old
        assert entry is not None  # noqa: S101 - asked only of the ends of an entry
        return entry

    @property
    def keys(self) -> "tuple[_Key | None, _Key | None]":
        """Listener and domain of both entries."""
        old, new = (None if entry is None else (entry.listener, entry.domain) for entry in self)
        return old, new

    @property
    def action(self) -> Action:
        """What happened to the entry."""
        return "added" if self.old is None else "removed" if self.new is None else "changed"


_Key = tuple[str, str]
"""Listener and domain of an entry."""


def domain_changes(old: Side, new: Side) -> Iterator[RuleChange]:
    """Yield the entries that differ, key by key, then the names that find another entry."""
    pairs = _pairs(old, new)
    changed: dict[_Key, _Ends] = {}
    for key, pair in pairs.items():
        ends = _ends_of(pair, old, new)
        changes = list(_entry_changes(pair, ends, old, new))
        if changes:
            changed[key] = ends
        yield from changes
    yield from _lookup_changes(changed, pairs, old, new)


def _pairs(old: Side, new: Side) -> Mapping[_Key, _Ends]:
    """Pair the entries of both sides, in the order of the files."""
    after = {(entry.listener, entry.domain): entry for entry in new.settings.domains}
    pairs = {}
    for entry in old.settings.domains:
        key = entry.listener, entry.domain
        pairs[key] = _Ends(entry, after.pop(key, None))
    return pairs | {key: _Ends(None, entry) for key, entry in after.items()}


# --- the entries themselves


def _ends_of(pair: _Ends, old: Side, new: Side) -> _Ends:
    """Return, for an entry on one side only, what its names find on the other side."""
    if pair.old is not None and pair.new is not None:
        return pair
    found = _found(pair.known.listener, _names_of(pair.known.domain), old, new)
    return _Ends(pair.old or found.old, pair.new or found.new)


def _entry_changes(pair: _Ends, ends: _Ends, old: Side, new: Side) -> Iterator[RuleChange]:
    """Compare an entry with what its names find on the other side."""
    entry = pair.known
    found = list(differences(_on(entry.listener, _names_of(entry.domain)), *ends))
    for difference in found:
        yield RuleChange(
            kind="domain",
            action=pair.action,
            effect=difference.effect,
            danger=difference.danger,
            listener=_listener(entry.listener),
            key=f"{entry.path}.{difference.key}",
            old=_spot(difference.old, ends.old, difference.key, old),
            new=_spot(difference.new, ends.new, difference.key, new),
            text=difference.text,
        )
    if not found and pair.action != "changed":
        yield _idle_change(pair, ends, old, new)


def _idle_change(pair: _Ends, ends: _Ends, old: Side, new: Side) -> RuleChange:
    """Return the change of an entry that was added or removed without an effect."""
    entry = pair.known
    other = ends.old if pair.old is None else ends.new
    verb = "permitted" if pair.old is None else "permits"  # the old entry can be removed in the same change
    why = "it permits nothing, as before" if other is None else f"{other.path} {verb} the same"
    return RuleChange(
        kind="domain",
        action=pair.action,
        effect="neither",
        listener=_listener(entry.listener),
        key=entry.path,
        old=None if pair.old is None else _spot(entry.path, pair.old, "", old),
        new=None if pair.new is None else _spot(entry.path, pair.new, "", new),
        text=f"no effect for {_on(entry.listener, _names_of(entry.domain))}: {why}",
    )


# --- which entry names find


def _lookup_changes(changed: Mapping[_Key, _Ends], pairs: Mapping[_Key, _Ends], old: Side, new: Side) -> Iterator[RuleChange]:
    """Yield the names that find another entry, except those that a changed entry already explains.

    A name finds its entry by its longest parent that is listed, or is a parent of a listed name. So the listed names, their
    parents, and one unlisted name below each of these represent all names.
    """
    explained = {ends.keys for ends in changed.values()}
    causes = _causes(changed, pairs, old, new)
    for listener in dict.fromkeys(listener for listener, _ in changed):
        for name in _nodes(domain for where, domain in pairs if where in {listener, ANY_LISTENER}):
            moved = []
            for names in _names_around(name):
                ends = _found(listener, names, old, new)
                is_new = not _is_one_entry(ends) and ends.keys not in explained
                if is_new and (listener == ANY_LISTENER or ends.keys != _found(ANY_LISTENER, names, old, new).keys):
                    moved.append((names, ends))
            yield from _moves(listener, moved, causes.get((listener, name), ""), old, new)


def _is_one_entry(ends: _Ends) -> bool:
    """Return True if both sides find the entry of the same name, or none: the change of the entry explains it."""
    old, new = ends.keys
    return old == new


def _causes(changed: Iterable[_Key], pairs: Mapping[_Key, _Ends], old: Side, new: Side) -> Mapping[_Key, str]:
    """Return, for each name, the entry at or below it that was added or removed: the cause of another lookup."""
    causes: dict[_Key, str] = {}
    for key in changed:
        pair, (listener, domain) = pairs[key], key
        if pair.action == "changed":
            continue
        verb, side = ("added", new) if pair.action == "added" else ("removed", old)
        text = f", because {pair.known.path} was {verb} ({side.spot(None, pair.known.where('')).place})"
        for name in _upwards(_names_of(domain).name):
            causes.setdefault((listener, name), text)
    return causes


def _moves(listener: str, moved: list[tuple[_Names, _Ends]], cause: str, old: Side, new: Side) -> Iterator[RuleChange]:
    """Yield one change for a name and the names below it, if both find the same."""
    while moved:
        names, ends = moved.pop(0)
        found = list(differences(_on(listener, names), *ends))
        if not found:
            continue
        alike = [str(other) for other, others in moved if ends.keys == others.keys]
        moved = [(other, others) for other, others in moved if ends.keys != others.keys]
        yield RuleChange(
            kind="lookup",
            action="changed",
            effect=min((difference.effect for difference in found), key=EFFECTS.index),
            danger=any(difference.danger for difference in found),
            listener=_listener(listener),
            key=" and ".join([str(names), *alike]),
            old=Spot(value=None) if ends.old is None else _spot(ends.old.path, ends.old, "", old),
            new=Spot(value=None) if ends.new is None else _spot(ends.new.path, ends.new, "", new),
            text="; ".join(difference.text for difference in found) + cause,
        )


def _found(listener: str, names: _Names, old: Side, new: Side) -> _Ends:
    return _Ends(old.policy.lookup(listener, names.asked), new.policy.lookup(listener, names.asked))


# --- names


def _names_of(domain: str) -> _Names:
    """Return the names that an entry matches: for a wildcard, those below its base."""
    if domain == _STAR:
        return _Names(_ROOT, below=True)
    return _Names(domain[2:], below=True) if domain.startswith("*.") else _Names(domain, below=False)


def _nodes(domains: Iterable[str]) -> Iterable[str]:
    """Return the root, every listed name and its parents, in the order of the entries."""
    nodes = {_ROOT: None}
    for domain in domains:
        for name in _upwards(_names_of(domain).name):
            if name in nodes:
                break
            nodes[name] = None
    return nodes


def _upwards(name: str) -> Iterator[str]:
    """Yield a name and its parents, without the root. An address literal has no parents."""
    while name != _ROOT:
        yield name
        name = _ROOT if _is_literal(name) else name.partition(".")[2]


def _names_around(node: str) -> Iterator[_Names]:
    """Yield the name, and the names below it."""
    if node != _ROOT:
        yield _Names(node, below=False)
    if not _is_literal(node):
        yield _Names(node, below=True)


def _is_literal(name: str) -> bool:
    return name.startswith("[")


def _on(listener: str, names: _Names) -> str:
    return str(names) if listener == ANY_LISTENER else f"{names} (on {listener})"


def _listener(listener: str) -> str | None:
    return None if listener == ANY_LISTENER else listener


def _spot(value: object, entry: DomainEntry | None, key: str, side: Side) -> Spot:
    return Spot(value=value) if entry is None else side.spot(value, entry.where(key))
