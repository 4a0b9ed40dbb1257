"""The listener policy: the decisions at connect and for each recipient (policy reference, Connect and RCPT).

Owns the rules. Never reads a file, a clock or a socket, and has no state.
"""

from collections.abc import Callable, Iterator
from functools import cached_property, lru_cache

import msgspec

from sidecar.core.classifier import Classifier
from sidecar.core.names import UNLISTED, IPAddress, parents
from sidecar.core.networks import Networks, texts
from sidecar.core.policy.address import domain_of, has_route, is_ambiguous, is_readable, matched_domain
from sidecar.core.policy.answers import Because, ConnectAnswer, RecipientAnswer, because, name_of
from sidecar.core.settings.domain_table import ListenerDomains, table_of
from sidecar.core.settings.settings import Settings
from sidecar.core.settings.values import ANY_LISTENER, DomainEntry, LogMode, NetworkList

WILDCARD = "*"

# Domains that send. The networks of an entry with a thousand of them need some 100 kB.
_SENDERS_KEPT = 1024

# Peers and their reasons, at some 500 bytes.
_PEERS_KEPT = 1024

_PERMISSIONS = ("relay_to", "relay_from", "relay_from_authz", "log_oob", "log_arf")
_REPORT_WORDS = {"log_oob": "bounce reports", "log_arf": "feedback reports"}
_MODE_WORDS = {LogMode.LOG_THEN_RELAY: "logs them and relays them", LogMode.LOG_THEN_DROP: "logs them and drops them"}

_NOTHING_ACCEPTED = Because(text="no listener domain accepts mail from external hosts on this listener")


class RelayHosts:
    """The relay hosts of one listener, and where its list was set."""

    def __init__(self, setting: NetworkList) -> None:
        self._networks = Networks(setting.networks)
        self._setting = setting
        # Asked at connect and for each recipient: to spell an address takes as long as to decide.
        self._presence = lru_cache(_PEERS_KEPT)(self._made_presence)
        self.absence = lru_cache(_PEERS_KEPT)(self._made_absence)

    def reason(self, peer: IPAddress) -> Because | None:
        """Return why `peer` is a relay host, or None if it is not."""
        return None if (network := self._networks.find(peer)) is None else self._presence(peer, network.text)

    def _made_presence(self, peer: IPAddress, network: str) -> Because:
        place = "in the default relay_hosts" if self._setting.where is None else "in relay_hosts"
        return because(f"{peer} is a relay host: {network} is {place}", self._setting.where, network)

    def _made_absence(self, peer: IPAddress) -> Because:
        """Return the reason that `peer` is no relay host, with the place of the list."""
        return because(f"{peer} is not in relay_hosts", self._setting.where)


class Policy:
    """An immutable policy. Settings are complete and valid, so building it cannot fail.

    `classify` returns the class of a bounce or rejection from its SMTP response as one line; it is None without rules.
    """

    def __init__(self, settings: Settings) -> None:
        rules, domains = settings.bounce_rules, table_of(settings.domains)
        self.classify: Callable[[str], str | None] | None = Classifier(rules).classify if rules else None
        self._relay_hosts = RelayHosts(settings.relay_hosts)
        self._own_relay_hosts = {listener: RelayHosts(hosts) for listener, hosts in settings.listener_relay_hosts.items()}
        self._own = dict(domains.listeners)
        self._shared = self._own.pop(ANY_LISTENER)
        self._star = self._shared.get(WILDCARD)
        self._grants_senders = any(
            entry.relay_from or entry.relay_from_authz for own in domains.listeners.values() for entry in own.examples()
        )
        self._relay_from: dict[tuple[str, str], Networks] = {}
        self._shared_deferral = _deferral(next(filter(_permission, self._shared.examples()), None))
        self._deferrals = {listener: _deferral(self._opening(own)) for listener, own in self._own.items()}

    @property
    def depends_on_listener(self) -> bool:
        """Whether a listener has its own rules: no peer can be judged without its listener then."""
        return bool(self._own or self._own_relay_hosts)

    @property
    def listeners(self) -> frozenset[str]:
        """The listeners that have rules of their own."""
        return frozenset((*self._own, *self._own_relay_hosts))

    @property
    def rejects_at_connect(self) -> bool:
        """Whether some listener rejects external hosts at connect."""
        return any(deferral is None for deferral in (self._shared_deferral, *self._deferrals.values()))

    def lookup(self, listener: str, domain: str) -> DomainEntry | None:
        """Return the entry of `domain` (normal form) on `listener`: from its own map, the shared map, or the shared `*`."""
        own = self._own.get(listener)
        if own is not None and (entry := own.find(domain)) is not None:
            return entry
        return self._shared.find(domain) or self._star

    def at_connect(self, peer: IPAddress, listener: str) -> ConnectAnswer:
        """Decide on a peer that has connected."""
        relay_hosts = self._relay_hosts_of(listener)
        if (reason := relay_hosts.reason(peer)) is not None:
            return ConnectAnswer(accept=True, deferred=False, because=(reason,))
        absence = relay_hosts.absence(peer)
        deferral = self._deferrals.get(listener, self._shared_deferral)
        if deferral is None:
            return ConnectAnswer(accept=False, deferred=False, because=(absence, _NOTHING_ACCEPTED))
        return ConnectAnswer(accept=True, deferred=True, because=(absence, deferral))

    def at_rcpt(  # noqa: PLR0913 - what the rules look at; the spelling only belongs to the answer
        self, peer: IPAddress, listener: str, authz_id: str | None, sender: str, recipient: str, *, mta_spelling: str = ""
    ) -> RecipientAnswer:
        """Decide on one recipient. `sender` and `recipient` are addresses without angle brackets."""
        domain = domain_of(recipient)
        entry = self.lookup(listener, matched_domain(recipient))
        relaying = self._relay_reason(peer, listener, authz_id, sender)
        outbound = relaying is not None
        granted = entry if outbound else _granted_to_external(entry, recipient)
        if relaying is None and granted is not None and granted.relay_to:
            relaying = because(f"{name_of(domain)} accepts all mail from any host", granted.where("relay_to"), value=True)
        reasons = [] if relaying is None else [relaying]
        if granted is not None:
            reasons += _report_reasons(granted, domain)
        return RecipientAnswer(
            address=recipient,
            mta_spelling=mta_spelling,
            domain=domain,
            relay=relaying is not None,
            outbound=outbound,
            log_oob=LogMode.IGNORE if granted is None else granted.log_oob,
            log_arf=LogMode.IGNORE if granted is None else granted.log_arf,
            because=tuple(reasons or self._rejection(peer, listener, entry, recipient, domain)),
        )

    def _relay_hosts_of(self, listener: str) -> RelayHosts:
        return self._own_relay_hosts.get(listener, self._relay_hosts)

    def _relay_reason(self, peer: IPAddress, listener: str, authz_id: str | None, sender: str) -> Because | None:
        """Return why this peer is permitted to relay to any recipient, or None."""
        if (reason := self._relay_hosts_of(listener).reason(peer)) is not None or not self._grants_senders:
            return reason
        domain = domain_of(sender)
        origin = self.lookup(listener, matched_domain(sender))
        if origin is None:
            return None
        if origin.relay_from and (found := self._senders_of(origin).find(peer)) is not None:
            text = f"{peer} is permitted to relay for senders in {name_of(domain)}: it is in {found.text}"
            return because(text, origin.where("relay_from"), found.text)
        if authz_id is not None and authz_id in origin.relay_from_authz:
            text = f"user {authz_id} is permitted to relay for senders in {name_of(domain)}"
            return because(text, origin.where("relay_from_authz"), authz_id)
        return None

    def _senders_of(self, origin: DomainEntry) -> Networks:
        """Return the networks of `relay_from`, made once for domains that send."""
        name = origin.listener, origin.domain
        if (networks := self._relay_from.get(name)) is None:
            if len(self._relay_from) >= _SENDERS_KEPT:
                self._relay_from.clear()
            networks = self._relay_from[name] = Networks(origin.relay_from)
        return networks

    def _rejection(
        self, peer: IPAddress, listener: str, entry: DomainEntry | None, recipient: str, domain: str
    ) -> tuple[Because, ...]:
        absence = self._relay_hosts_of(listener).absence(peer)
        if entry is None:
            return (Because(text=f"no listener domain matches {name_of(domain)}"), absence)
        if entry.relay_to or entry.log_oob is not LogMode.IGNORE or entry.log_arf is not LogMode.IGNORE:
            if is_ambiguous(recipient):
                text = f"programs disagree about the domain of this address; external hosts must write it as {domain}"
            else:
                text = "an MTA could read this address as another one, so external hosts are not permitted to use it"
            return (because(text, entry.where("")), absence)
        return (because(f"{entry.path} accepts no mail for {name_of(domain)} from external hosts", entry.where("")), absence)

    def _opening(self, own: ListenerDomains) -> DomainEntry | None:
        """Return an entry that a listener with its own map can reach, and that permits something to external hosts."""
        if (opening := next(filter(_permission, own.examples()), None)) is not None:
            return opening
        coverage, shared = Coverage(own), self._shared
        if coverage.covers(WILDCARD):
            return None
        return next((entry for entry in filter(_permission, shared.values()) if not coverage.covers(entry.domain)), None)


class Coverage:
    """What one listener's map of domains covers, so that another map is never asked (policy reference, Lookup)."""

    def __init__(self, domains: ListenerDomains) -> None:
        self._domains = domains

    def covers(self, pattern: str) -> bool:
        """Return True if every domain that `pattern`, the name of an entry, can stand for finds an entry in this map.

        A wildcard is not covered if a name that no file lists finds nothing. Nor is it if a node below it has no entry, or no
        wildcard below itself.
        """
        if not pattern.startswith(WILDCARD):
            return self._domains.find(pattern) is not None
        base = pattern.removeprefix(WILDCARD)
        return self._domains.find(_unlisted(base)) is not None and base.removeprefix(".") not in self._holed

    @cached_property
    def _holed(self) -> frozenset[str]:
        """The parents of every node that finds nothing itself, or has no wildcard below; `""` is the root."""
        nodes = {
            node for name in self._domains.names() for node in (name, *parents(name)) if node and not node.startswith(WILDCARD)
        }
        return frozenset(
            parent
            for name in nodes
            if self._domains.find(name) is None or self._domains.find(_unlisted(f".{name}")) is None
            for parent in ("", *parents(name))
        )


def _unlisted(base: str) -> str:
    """Return a name below `base` that no file can list."""
    return f"{UNLISTED}{base}"


def _deferral(opening: DomainEntry | None) -> Because | None:
    """Return why external hosts are not rejected at connect; None if no entry permits anything."""
    if opening is None or (key := _permission(opening)) is None:
        return None
    value = getattr(opening, key)
    if isinstance(value, LogMode):
        value = value.value
    elif key == "relay_from":
        value = texts(opening.relay_from)
    text = f"the recipient's domain decides at RCPT, because {opening.path} sets {key}"
    return because(text, opening.where(key), value)


def _permission(entry: DomainEntry) -> str | None:
    """Return the first key by which `entry` permits something to external hosts."""
    return next((key for key in _PERMISSIONS if (value := getattr(entry, key)) and value is not LogMode.IGNORE), None)


def _granted_to_external(entry: DomainEntry | None, recipient: str) -> DomainEntry | None:
    """Return what `entry` grants to a peer without permission to relay, for this address.

    Nothing, if an MTA could read another address, or map the domain to other A-labels: it would relay by permission of the
    wrong entry, or could not remove the recipient by this name. With another domain in the local part, only dropped reports.
    """
    if entry is None or not is_readable(recipient) or is_ambiguous(recipient):
        return None
    if not has_route(recipient):
        return entry
    log_oob, log_arf = (LogMode.IGNORE if mode is LogMode.LOG_THEN_RELAY else mode for mode in (entry.log_oob, entry.log_arf))
    return msgspec.structs.replace(entry, relay_to=False, log_oob=log_oob, log_arf=log_arf)


def _report_reasons(entry: DomainEntry, domain: str) -> Iterator[Because]:
    for key, mode in (("log_oob", entry.log_oob), ("log_arf", entry.log_arf)):
        if mode is not LogMode.IGNORE:
            text = f"{name_of(domain)} accepts {_REPORT_WORDS[key]} from any host, {_MODE_WORDS[mode]}"
            yield because(text, entry.where(key), mode.value)


def compile_policy(settings: Settings) -> Policy:
    """Return the policy of `settings`."""
    return Policy(settings)
