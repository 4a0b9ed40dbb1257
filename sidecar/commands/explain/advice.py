"""Changes of the settings after which a recorded message would be rejected or accepted: lines, place, and what else they allow.

Owns the lines and their spelling, in TOML or (for a file named so) JSON. Never says that a change should be made.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Literal

import msgspec
from msgspec import Struct

from sidecar.core.evaluate.envelope import Envelope
from sidecar.core.evaluate.evaluator import Evaluator, Judgement
from sidecar.core.names import IPAddress
from sidecar.core.policy import RecipientAnswer
from sidecar.core.policy.address import NO_DOMAIN, domain_of, has_route, is_ambiguous, is_readable, is_text
from sidecar.core.policy.policy import WILDCARD
from sidecar.core.settings.values import ANY_LISTENER, DomainEntry, LogMode, Network, NetworkList
from sidecar.core.text import quoted

Value = bool | str | Sequence[str]

# Domains that stand for the operator's own.
_EXAMPLES = {"log_oob": "bounce.example.com", "log_arf": "fbl.example.com"}
_REPORTS = {"log_oob": "bounces", "log_arf": "complaints"}
_REPORT_KEYS = {"oob": ("log_oob",), "arf": ("log_arf",), "unknown": tuple(_REPORTS)}

_BITS = {4: 32, 6: 128}
# A line with more networks is too long to read or to paste.
_NETWORKS_LIMIT = 8
# A message may have a thousand recipients in as many domains.
_CHANGES_LIMIT = 8


class Change(Struct, frozen=True, kw_only=True):
    """One change of the settings.

    `lines` replace those of these keys at `file`:`line`. If `line` is None, they are a new table for `file`. The file is None
    if only the operator knows it. `opens` says what else the change allows, if anything.
    """

    text: str
    file: str | None = None
    line: int | None = None
    key: str | None = None
    lines: tuple[str, ...] = ()
    opens: str | None = None


class Advice(Struct, frozen=True, kw_only=True):
    """What makes the policy `aim`: all of `changes` together, or any one of them. `then` is the result.

    `more` counts similar changes for further domains that are left out.
    """

    aim: Literal["reject", "accept"]
    apply: Literal["all", "one"]
    changes: tuple[Change, ...]
    more: int = 0
    then: str


class Adviser:
    """Advice for one configuration."""

    def __init__(self, evaluator: Evaluator) -> None:
        self._settings, self._lookup = evaluator.settings, evaluator.policy.lookup
        domains = self._settings.domains
        # The listener domains file for a new table.
        self._domains_file = domains[-1].where("").file if domains else None
        exact = [entry for entry in domains if not entry.domain.startswith("*")]
        # The report keys of domains that are not wildcards.
        self._named = {key for key in _REPORTS if any(getattr(entry, key) is not LogMode.IGNORE for entry in exact)}

    def _relay_hosts(self, listener: str) -> NetworkList:
        return self._settings.listener_relay_hosts.get(listener, self._settings.relay_hosts)

    # --- from accepted to rejected

    def to_reject(self, envelope: Envelope, judgement: Judgement) -> Advice | None:
        """Return the changes after which the envelope is rejected; None if none of its recipients is accepted."""
        accepted = [recipient for recipient in judgement.recipients if recipient.accept]
        if not accepted:
            return None
        relays = any(recipient.relay for recipient in accepted)
        accepts_reports = any(recipient.accepts_reports for recipient in accepted)
        # A message that is not a report is rejected as soon as it is not relayed; the domain may still accept reports.
        leaves_reports = relays and accepts_reports and envelope.kind not in {"oob", "arf"}
        keys = ("relay_to",) if leaves_reports else ("relay_to", *_REPORTS)
        changes = [*(self._close_peer(envelope) if relays else ()), *self._close_domains(envelope, accepted, keys)]
        then = "Then it is rejected at RCPT at the latest."
        if leaves_reports:
            then = "Then only reports from this peer are accepted, and only by the domains that accept reports."
        return _advice("reject", changes, apply="all", then=then)

    def _close_peer(self, envelope: Envelope) -> Iterator[Change]:
        hosts = self._relay_hosts(envelope.listener)
        if found := _containing(hosts.networks, envelope.peer):
            is_wide = any(network.prefix < _BITS[network.version] for network in found)
            narrower = ", or list only those of its addresses that may relay" if is_wide else ""
            text = f"Remove {' and '.join(_texts(found))} from relay_hosts{narrower}."
            yield _list_relay_hosts(hosts, _texts(network for network in hosts.networks if network not in found), text)
        origin = self._origin(envelope)
        if origin is None:
            return
        left = _without_peer(origin, envelope)
        if "relay_from" in left:
            names = " and ".join(_texts(_containing(origin.relay_from, envelope.peer)))
            text = f"Remove {names} from relay_from: every host in it can relay with a sender that {origin.path} matches."
            yield _rewrite(origin, {"relay_from": left["relay_from"]}, text)
        if "relay_from_authz" in left:
            text = f"Remove {envelope.authz_id} from relay_from_authz, or change its password if another person has used it."
            yield _rewrite(origin, {"relay_from_authz": left["relay_from_authz"]}, text)

    def _origin(self, envelope: Envelope) -> DomainEntry | None:
        return self._lookup(envelope.listener, domain_of(envelope.sender))

    def _close_domains(self, envelope: Envelope, recipients: list[RecipientAnswer], keys: tuple[str, ...]) -> Iterator[Change]:
        for domain in dict.fromkeys(recipient.domain for recipient in recipients):
            entry = self._lookup(envelope.listener, domain)
            closed = [] if entry is None else [key for key in keys if getattr(entry, key) not in {False, LogMode.IGNORE}]
            if entry is None or not closed:
                continue
            # A new entry hides the wildcard from names above it (policy reference, Lookup); the sender's domain must keep it.
            if entry.domain in {WILDCARD, domain} or domain.endswith(f".{domain_of(envelope.sender)}"):
                yield from self._close_entry(entry, closed)
                continue
            # What the entry grants to this sender is removed as well, or the new entry would keep it.
            granted = _without_peer(entry, envelope) if entry == self._origin(envelope) else {}
            values: dict[str, Value] = _values_of(entry) | granted | dict.fromkeys(closed, False)
            text = f"Exclude {domain} and its subdomains from {entry.path}: its own entry replaces the wildcard's."
            yield self._new_table(entry, domain, values, text)

    def _close_entry(self, entry: DomainEntry, closed: list[str]) -> Iterator[Change]:
        every = "every domain without its own entry" if entry.domain == WILDCARD else entry.domain
        for key in closed:
            what = _REPORTS.get(key, "mail from external hosts")
            yield _rewrite(entry, {key: False}, f"Accept no {what} for {every}.")
        # In a listener's own map, a name would hide other names with its top label from `*` (policy reference, Lookup).
        if entry.domain != WILDCARD or entry.listener != ANY_LISTENER:
            return
        for key in closed:
            if key in _REPORTS and key not in self._named:
                text = f"Name the domain to which your {_REPORTS[key]} return, in place of {_EXAMPLES[key]}."
                yield self._new_table(entry, _EXAMPLES[key], {key: "LogThenDrop"}, text)

    # --- from rejected to accepted

    def to_accept(self, envelope: Envelope) -> Advice | None:
        """Return the changes after which all recipients are accepted; None if no change can do that."""
        if not all(map(is_text, envelope.recipients)):
            return None
        domains = _writable_domains(envelope)
        then = "Then the recipients that the change is for are accepted." if len(domains) > 1 else "Then it is accepted."
        return _advice("accept", self._openings(envelope, domains), apply="one", then=then)

    def _openings(self, envelope: Envelope, domains: list[str]) -> Iterator[Change]:
        keys = _REPORT_KEYS.get(envelope.kind, ())  # none if the message was not a report
        for key in keys if not envelope.recipients else ():
            text = f"If your {_REPORTS[key]} return to this server, name their domain, in place of {_EXAMPLES[key]}."
            yield self._widen(envelope, _EXAMPLES[key], {key: "LogThenDrop"}, text, "any host can then send reports to it")
        what = " and ".join(_REPORTS[key] for key in keys)
        for domain in domains if keys else ():
            text = f"If {what} return to {domain}, let it accept them."
            opens = f"any host can then name recipients in {domain}, and send them reports"
            yield self._widen(envelope, domain, dict.fromkeys(keys, "LogThenDrop"), text, opens)
        for domain in domains:
            text = f"If this server receives the mail of {domain}, let any host send to it."
            yield self._widen(envelope, domain, {"relay_to": True}, text, f"any host can then send any mail to {domain}")
        peer, login, domain = envelope.peer, envelope.authz_id, domain_of(envelope.sender)
        if login is not None and _is_writable(domain):
            origin = self._origin(envelope)
            known = () if origin is None else origin.relay_from_authz
            text = f"If {login} may send as {domain}, let this login relay."
            opens = f"every user of this login can then send any mail to any domain as {domain}"
            yield self._widen(envelope, domain, {"relay_from_authz": [*known, login]}, text, opens)
        hosts = self._relay_hosts(envelope.listener)
        text = f"If {peer} is one of your own servers, add it to relay_hosts."
        yield _list_relay_hosts(
            hosts, [*_texts(hosts.networks), str(peer)], text, "this peer can then send any mail to any domain"
        )

    # --- changes of one domain

    def _widen(self, envelope: Envelope, domain: str, values: dict[str, Value], text: str, opens: str) -> Change:
        """Set values of `domain`: in its own entry, or in a new one that keeps the values of a wildcard."""
        entry = self._lookup(envelope.listener, domain)
        if entry is not None and entry.domain == domain:
            return _rewrite(entry, values, text, opens)
        kept = {} if entry is None else _values_of(entry)
        if entry is not None and entry.domain == WILDCARD and entry.listener != ANY_LISTENER:
            # See the policy reference, Lookup; `check` has a warning for it.
            opens += f", and {entry.path} no longer matches other names with this top label"
        if entry is not None and kept:
            text += f" It keeps the values of {entry.path}."
        return self._new_table(entry, domain, kept | values, text, opens)

    def _new_table(
        self, beside: DomainEntry | None, domain: str, values: Mapping[str, Value], text: str, opens: str | None = None
    ) -> Change:
        """Add a domain that has no entry: in the file of the entry that it has until then, for the same listener."""
        file = self._domains_file if beside is None else beside.where("").file
        listener = ANY_LISTENER if beside is None else beside.listener
        if _is_json(file):
            table = f"{_json(domain)}: {_json(values)}"
            lines: tuple[str, ...] = (table if listener == ANY_LISTENER else f'"listener": {{{_json(listener)}: {{{table}}}}}',)
        else:
            path = _toml(domain) if listener == ANY_LISTENER else f"listener.{_toml(listener)}.{_toml(domain)}"
            lines = (f"[{path}]", *_lines(file, values))
        return Change(text=text, file=file, lines=lines, opens=opens)


def _rewrite(entry: DomainEntry, values: Mapping[str, Value], text: str, opens: str | None = None) -> Change:
    where = entry.where(next(iter(values)) if len(values) == 1 else "")
    return Change(text=text, file=where.file, line=where.line, key=where.key, lines=_lines(where.file, values), opens=opens)


def _list_relay_hosts(setting: NetworkList, networks: Sequence[str], text: str, opens: str | None = None) -> Change:
    """Set the list of relay hosts. If the networks are many, the text is enough."""
    lines = () if len(networks) > _NETWORKS_LIMIT else _lines(None, {"relay_hosts": networks})
    if (where := setting.where) is None:
        return Change(text=text, key="relay_hosts", lines=lines, opens=opens)
    return Change(text=text, file=where.file, line=where.line, key=where.key, lines=lines, opens=opens)


def _advice(aim: Literal["reject", "accept"], changes: Iterable[Change], *, apply: Literal["all", "one"], then: str) -> Advice:
    each = tuple(dict.fromkeys(changes))
    shown = each[:_CHANGES_LIMIT]
    return Advice(aim=aim, apply=apply, changes=shown, more=len(each) - len(shown), then=then)


def _writable_domains(envelope: Envelope) -> list[str]:
    plain = (one for one in envelope.recipients if is_readable(one) and not (has_route(one) or is_ambiguous(one)))
    return [domain for domain in dict.fromkeys(map(domain_of, plain)) if _is_writable(domain)]


def _is_writable(domain: str) -> bool:
    """Return True if an entry for `domain` matches only this domain: an external host can send to `x@*`."""
    return domain != NO_DOMAIN and WILDCARD not in domain


def _without_peer(origin: DomainEntry, envelope: Envelope) -> dict[str, Value]:
    """Return the keys of the sender's entry by which this peer can relay, with their values without it."""
    left: dict[str, Value] = {}
    if found := _containing(origin.relay_from, envelope.peer):
        left["relay_from"] = _texts(network for network in origin.relay_from if network not in found)
    if envelope.authz_id is not None and envelope.authz_id in origin.relay_from_authz:
        left["relay_from_authz"] = [name for name in origin.relay_from_authz if name != envelope.authz_id]
    return left


def _containing(networks: Iterable[Network], peer: IPAddress) -> list[Network]:
    version, number = peer.version, int(peer)
    return [
        network
        for network in networks
        if network.version == version and (number ^ network.first) >> (_BITS[version] - network.prefix) == 0
    ]


def _texts(networks: Iterable[Network]) -> list[str]:
    return [network.text for network in networks]


def _values_of(entry: DomainEntry) -> dict[str, Value]:
    """Return the values of an entry that are not the default."""
    values: dict[str, Value] = {"relay_to": True} if entry.relay_to else {}
    if entry.relay_from:
        values["relay_from"] = _texts(entry.relay_from)
    if entry.relay_from_authz:
        values["relay_from_authz"] = entry.relay_from_authz
    modes = {"log_oob": entry.log_oob, "log_arf": entry.log_arf}
    return values | {key: mode.value for key, mode in modes.items() if mode is not LogMode.IGNORE}


# --- the spelling of lines


def _lines(file: str | None, values: Mapping[str, Value]) -> tuple[str, ...]:
    if _is_json(file):
        return tuple(f"{_json(key)}: {_json(value)}" for key, value in values.items())
    return tuple(f"{key} = {_toml(value)}" for key, value in values.items())


def _toml(value: Value) -> str:
    if isinstance(value, bool):
        return _json(value)
    if isinstance(value, str):
        return quoted(value, limit=len(value))
    return f"[{', '.join(map(_toml, value))}]"


def _json(value: Value | Mapping[str, Value]) -> str:
    return msgspec.json.encode(value).decode()


def _is_json(file: str | None) -> bool:
    return file is not None and file.endswith(".json")
