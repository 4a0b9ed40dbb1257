"""The configuration after lines were added or changed, and the names whose mail it then decides otherwise.

All who propose a change of the settings make it here, and prove it with the same evaluator. Owns which other tables a new
table needs, so that it changes nothing for other names (policy reference, Lookup). Never reads or writes a file.
"""

from collections.abc import Iterable, Iterator, Mapping
from ipaddress import IPv4Address, IPv6Address, ip_address
from itertools import count
from typing import Any, Final

from msgspec import Struct
from msgspec.structs import replace

from sidecar.core.evaluate.envelope import Envelope, MessageKind
from sidecar.core.evaluate.evaluator import REACH, Evaluator
from sidecar.core.evaluate.spelling import PERMISSIONS
from sidecar.core.names import DOMAIN_LIMIT, NO_DOMAIN, IPAddress, lineage
from sidecar.core.open_domains import Pattern, pattern_of, patterns_at
from sidecar.core.settings.domain_table import ChangedTable, table_of
from sidecar.core.settings.settings import Settings
from sidecar.core.settings.values import ANY_LISTENER, DomainEntry, LogMode, Network, NetworkList
from sidecar.core.text import quoted

# For documentation, and to be discarded (RFC 5737, RFC 3849, RFC 6666): one of them is an external host, unless all can relay.
EXTERNAL: Final = tuple(map(ip_address, ("192.0.2.1", "198.51.100.1", "203.0.113.1", "2001:db8::1", "100::1")))
_KINDS: Final[tuple[MessageKind, ...]] = ("other", "oob", "arf")
# Only a host that can relay to every domain can send to such a local part (policy reference, Addresses).
_ELSEWHERE: Final = "x%elsewhere.example@elsewhere.example"
# More tables than this are no advice: a name has four labels, and each of them needs two tables at most.
TABLES_LIMIT: Final = 12
# Networks and users of one entry that are tried. The comparison of the entries themselves has no limit.
_SENDERS_TRIED: Final = 8


class UnprovedError(Exception):
    """A change needs more tables than a person writes, or changes what it must not change."""


class Moved(Struct, frozen=True, kw_only=True):
    """Names whose mail a change decides otherwise on a listener: as recipients, or as senders. `opens`: some mail gets further.

    `found` is the entry that they found before.
    """

    listener: str
    names: Pattern
    opens: bool
    found: DomainEntry | None


class Draft:
    """The configuration of an evaluator with changes. `changed` has the new and the rewritten entries, `added` the new ones."""

    def __init__(self, before: Evaluator) -> None:
        self.before = self.after = before
        self._table = self._changed_table = table_of(before.settings.domains)
        self.changed: dict[tuple[str, str], DomainEntry] = {}
        self.added: dict[tuple[str, str], DomainEntry] = {}
        self._removed: list[str] = []

    def set(self, listener: str, domain: str, values: Mapping[str, Any], *, file: str | None = None) -> None:
        """Set values of the entry of `domain` in the map of `listener`. `values` are fields of `DomainEntry`.

        A new entry, for `file`, has the values that the name has by its wildcard, except for `values`. A name that is listed,
        or is a parent of one, finds no wildcard for the names below it: further entries keep what these names have. Raise
        UnprovedError.
        """
        if (own := self._changed_table.listeners[listener].get(domain)) is not None:
            self._put(_with(own, values))
            return
        before, names, known = self.after.policy, pattern_of(domain), len(self.added)
        self._put(_with(_entry(before.lookup(listener, names.probe), listener, domain, file), values))
        for other in _around(domain):
            was = before.lookup(listener, other.probe)
            now = self.after.policy.lookup(listener, other.probe)
            if other != names and (grants(was) != grants(now) or _leaves(listener, was, now)):
                self._put(_entry(was, listener, str(other), file))
                if len(self.added) - known > TABLES_LIMIT:
                    raise UnprovedError(f"the change needs more than {TABLES_LIMIT} tables")

    def remove(self, listener: str, domain: str) -> None:
        """Remove an entry. This reads all others, and keeps nothing for the names that found it."""
        key = listener, domain
        kept = [entry for entry in self._changed_table if (entry.listener, entry.domain) != key]
        self.changed.pop(key, None)
        self.added.pop(key, None)
        self._removed.append(domain)
        self._table = self._changed_table = table_of(kept)
        self._use(replace(self.after.settings, domains=self._table))

    def set_relay_hosts(self, listener: str, hosts: NetworkList) -> None:
        """Replace the relay hosts of a listener with its own list, or those of all other listeners."""
        settings = self.after.settings
        if listener in settings.listener_relay_hosts:
            changed = replace(settings, listener_relay_hosts={**settings.listener_relay_hosts, listener: hosts})
        else:
            changed = replace(settings, relay_hosts=hosts)
        self._use(changed)

    def _put(self, entry: DomainEntry) -> None:
        key = entry.listener, entry.domain
        if key in self.added or entry.domain not in self._changed_table.listeners[entry.listener]:
            self.added[key] = entry
        self.changed[key] = entry
        self._changed_table = ChangedTable(self._table, [*self.changed.values()])
        self._use(replace(self.after.settings, domains=self._changed_table))

    def _use(self, settings: Settings) -> None:
        # Bounce rules decide on no mail, and take long to compile.
        self.after = Evaluator(replace(settings, bounce_rules=()))

    def moved(self, domains: Iterable[str] = ()) -> list[Moved]:
        """Return the names whose mail is decided otherwise, among `domains`, changed entries, and all above and below them.

        A name finds its entry by its longest parent that is listed, or is a parent of a listed name, and the changed entries
        have no other parents than these. So they, and one unlisted name below each of them, represent all names. Names that
        leave or enter a listener's own map count as opened: the other map can have any entry for them.
        """
        listeners = sorted({ANY_LISTENER, *self.before.policy.listeners})
        touched = (*domains, *self._removed, *(domain for _, domain in self.changed))
        names = dict.fromkeys(each for domain in touched for each in _around(domain))
        return [found for listener in listeners for each in names if (found := self._move(listener, each)) is not None]

    def _move(self, listener: str, names: Pattern) -> Moved | None:
        was, now = (side.policy.lookup(listener, names.probe) for side in (self.before, self.after))
        answers = [
            (one, _reach(self.before, one), _reach(self.after, one)) for one in self._questions(listener, names, was, now)
        ]
        # Of one name the other entry is known.
        leaves = names.below and (_leaves(listener, was, now) or self._enters(listener, names, was, now))
        if not leaves and grants(was) == grants(now) and all(before == after for _, before, after in answers):
            return None
        # A report that is relayed where other mail was relayed already is not more. Mail of a sender in this domain is.
        mail = max((before for one, before, _ in answers if one.kind == "other" and not one.sender), default=0)
        opens = leaves or any(after > max(before, 0 if one.sender else mail) for one, before, after in answers)
        return Moved(listener=listener, names=names, opens=opens, found=was)

    def _enters(self, listener: str, names: Pattern, was: DomainEntry | None, now: DomainEntry | None) -> bool:
        """Return True if names enter a listener's own map, and some of them may have found other shared entries than `was`."""
        shared = self._changed_table.listeners[ANY_LISTENER]
        return _leaves(listener, now, was) and shared.is_node(names.name)

    def _questions(self, listener: str, names: Pattern, was: DomainEntry | None, now: DomainEntry | None) -> Iterator[Envelope]:
        """Yield mail of an external host to these names, and mail with such senders of each host and user in the entries."""
        if (name := self._example(names)) is None:
            return
        address = f"x@{name}" if name else "postmaster"
        external = self._external(listener)
        if external is not None:
            for kind in _KINDS:  # ordinary mail first
                yield _envelope(external, listener, "", address, kind)
        entries = [entry for entry in (now, was) if entry is not None]
        networks = [*dict.fromkeys(network for entry in entries for network in entry.relay_from)]
        for peer in map(_first_address, networks[:_SENDERS_TRIED]):
            yield _envelope(peer, listener, address, _ELSEWHERE, "other")
        logins = [*dict.fromkeys(login for entry in entries for login in entry.relay_from_authz)]
        for login in logins[:_SENDERS_TRIED]:
            yield replace(_envelope(external or EXTERNAL[0], listener, address, _ELSEWHERE, "other"), authz_id=login)

    def _example(self, names: Pattern) -> str | None:
        """Return one of the names that an address can have; None if all are too long."""
        if not names.below:
            return names.name
        tables = self._changed_table.listeners.values()
        examples = (f"x{number}.{names.name}".removesuffix(".") for number in count())
        found = next(name for name in examples if not any(own.is_node(name) for own in tables))
        return found if len(found) <= DOMAIN_LIMIT else None

    def _external(self, listener: str) -> IPAddress | None:
        """Return an address that cannot relay to every domain, before and after the change, or None."""

        def is_external(peer: IPAddress) -> bool:
            probe = _envelope(peer, listener, "", _ELSEWHERE, "other")
            return not (_reach(self.before, probe) or _reach(self.after, probe))

        return next(filter(is_external, EXTERNAL), None)


def _leaves(listener: str, was: DomainEntry | None, now: DomainEntry | None) -> bool:
    """Return True if names leave a listener's own map: then they find any entry of the other map, not only `now`."""
    own = [entry is not None and entry.listener == listener for entry in (was, now)]
    return listener != ANY_LISTENER and own == [True, False]


def grants(entry: DomainEntry | None) -> tuple[object, ...]:
    """Return what an entry permits, in a form that is equal for all entries that permit the same; None permits nothing."""
    if entry is None:
        return False, frozenset(), frozenset(), LogMode.IGNORE, LogMode.IGNORE
    networks = frozenset(network.span for network in entry.relay_from)
    return entry.relay_to, networks, frozenset(entry.relay_from_authz), entry.log_oob, entry.log_arf


def _around(domain: str) -> Iterator[Pattern]:
    """Yield the names at, above and below an entry, and those of no other entry."""
    if domain == NO_DOMAIN:
        yield pattern_of(domain)
    for name in ("", *lineage(pattern_of(domain).name)):
        yield from patterns_at(name)


def _entry(found: DomainEntry | None, listener: str, domain: str, file: str | None) -> DomainEntry:
    """Return a new entry that permits what `found` does."""
    path = quoted(domain, limit=len(domain))
    if listener != ANY_LISTENER:
        path = f"listener.{quoted(listener)}.{path}"
    new = DomainEntry(listener=listener, domain=domain, path=path, line=0, steps={"": (file or "", 0)})
    if found is None:
        return new
    return _with(new, {key: value for key in PERMISSIONS if (value := getattr(found, key)) != getattr(new, key)})


def _with(entry: DomainEntry, values: Mapping[str, Any]) -> DomainEntry:
    # A key without its own line has that of the table.
    return replace(entry, steps={**dict.fromkeys(values, entry.steps[""]), **entry.steps}, **values)


def _envelope(peer: IPAddress, listener: str, sender: str, recipient: str, kind: MessageKind) -> Envelope:
    return Envelope(peer=peer, listener=listener, authz_id=None, sender=sender, recipients=(recipient,), kind=kind)


def _first_address(network: Network) -> IPAddress:
    return IPv4Address(network.first) if network.version == 4 else IPv6Address(network.first)  # noqa: PLR2004 - IPv4


def _reach(side: Evaluator, envelope: Envelope) -> int:
    return REACH.get(side.judge(envelope).outcome, 0)
