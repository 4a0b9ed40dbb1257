"""Changes of the settings after which a recorded message would be rejected or accepted: lines, place, and what else they allow.

Owns which changes are proposed, and their text. Only changes that are proved with the changed configuration are proposed.
Never says that a change should be made.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cached_property
from typing import Any, Literal

from msgspec import Struct
from msgspec.structs import replace

from sidecar.core.disposition import REJECTED, Disposition
from sidecar.core.evaluate.changes import Draft, Moved, UnprovedError
from sidecar.core.evaluate.envelope import Envelope
from sidecar.core.evaluate.evaluator import Evaluator, Judgement
from sidecar.core.evaluate.spelling import key_lines, set_values, table_lines, values_of
from sidecar.core.names import NO_DOMAIN, IPAddress
from sidecar.core.networks import containing, parse_network, texts
from sidecar.core.open_domains import Pattern
from sidecar.core.policy.address import domain_of, has_route, is_ambiguous, is_readable, is_text
from sidecar.core.policy.answers import name_of
from sidecar.core.policy.policy import WILDCARD
from sidecar.core.settings.domain_table import table_of
from sidecar.core.settings.values import ANY_LISTENER, DomainEntry, LogMode, NetworkList

# Domains that stand for the operator's own.
_EXAMPLES = {"log_oob": "bounce.example.com", "log_arf": "fbl.example.com"}
_REPORTS = {"log_oob": "bounces", "log_arf": "complaints"}
_REPORT_KEYS = {"oob": ("log_oob",), "arf": ("log_arf",), "unknown": tuple(_REPORTS)}
_CLOSED: dict[str, Any] = {"relay_to": False, "log_oob": LogMode.IGNORE, "log_arf": LogMode.IGNORE}

# A line with more networks is too long to read or to paste.
_NETWORKS_LIMIT = 8
# A message may have a thousand recipients in as many domains.
_CHANGES_LIMIT = 8

_KEPT = "The other tables keep for other names what they have now."
_NOT_PROVED = "No change of the settings is proved to do only that. Compare your own change with `sidecar diff`."


class Change(Struct, frozen=True, kw_only=True):
    """One change of the settings.

    `lines` replace those of these keys at `file`:`line`. If `line` is None, they are new tables for `file`. The file is None
    if only the operator knows it. `opens` says what else the change allows, if anything. `concerns` has the domains (written as
    a listener domain) and networks whose mail is decided otherwise; a wildcard stands for the names that find it.
    """

    text: str
    file: str | None = None
    line: int | None = None
    key: str | None = None
    lines: tuple[str, ...] = ()
    opens: str | None = None
    concerns: tuple[str, ...] = ()


class Advice(Struct, frozen=True, kw_only=True):
    """What makes the policy `aim`: all of `changes` together, or any one of them. `then` is the result.

    `changes` is empty if none is proved. `more` counts similar changes for further domains that are left out.
    """

    aim: Literal["reject", "accept"]
    apply: Literal["all", "one"]
    changes: tuple[Change, ...]
    more: int = 0
    then: str


class Adviser:
    """Advice for one configuration."""

    def __init__(self, evaluator: Evaluator) -> None:
        settings = evaluator.settings
        # Bounce rules decide on no mail, and each changed configuration would compile them.
        self._evaluator = Evaluator(replace(settings, domains=table_of(settings.domains), bounce_rules=()))

    @cached_property
    def _domains_file(self) -> str | None:
        """The listener domains file for a new table where the name has no entry: that of the last one."""
        domains = self._evaluator.settings.domains
        return domains[-1].where("").file if domains else None

    @cached_property
    def _has_no_pattern(self) -> bool:
        """Whether a new table for any name on every listener changes nothing for other names: no wildcard is above it."""
        shared = table_of(self._evaluator.settings.domains).listeners[ANY_LISTENER]
        return not any(domain.startswith("*.") for domain in shared)

    @cached_property
    def _named(self) -> set[str]:
        """The report keys of domains that are not wildcards."""
        exact = [entry for entry in self._evaluator.settings.domains if not entry.domain.startswith("*")]
        return {key for key in _REPORTS if any(getattr(entry, key) is not LogMode.IGNORE for entry in exact)}

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
        keys = ("relay_to",) if leaves_reports else tuple(_CLOSED)
        closing = _Closing(Draft(self._evaluator), envelope)
        try:
            if relays:
                closing.close_peer()
            closing.close_domains([recipient.domain for recipient in accepted], keys)
        except UnprovedError:
            return Advice(aim="reject", apply="all", changes=(), then=_NOT_PROVED)
        if not closing.is_proved(leaves_reports=leaves_reports):
            return Advice(aim="reject", apply="all", changes=(), then=_NOT_PROVED)
        then = "Then it is rejected at RCPT at the latest."
        if leaves_reports:
            then = "Then only reports from this peer are accepted, and only by the domains that accept reports."
        named = Adviser(closing.draft.after).named_instead(closing.wide, {one.domain for one in accepted})
        changes = (*closing.changes(), *named)
        return _advice("reject", changes, apply="all", then=then, left_out=len(closing.left_out))

    def named_instead(self, keys: Iterable[str], rejected: set[str]) -> Iterator[Change]:
        """Propose tables for the reports that the entry `*` no longer accepts, but not for a domain in `rejected`."""
        for key in keys:
            if key in _REPORTS and key not in self._named and self._has_no_pattern and _EXAMPLES[key] not in rejected:
                text = f"Name the domain to which your {_REPORTS[key]} return, in place of {_EXAMPLES[key]}."
                opens = "any host can then send reports to it"
                yield from self._widen(ANY_LISTENER, _EXAMPLES[key], {key: LogMode.LOG_THEN_DROP}, text, opens)

    # --- from rejected to accepted

    def to_accept(self, envelope: Envelope) -> Advice | None:
        """Return the changes after which all recipients are accepted, the narrowest first; None if no change can do that."""
        if not all(map(is_text, envelope.recipients)):
            return None
        domains = _writable_domains(envelope)
        then = "Then the recipients that the change is for are accepted." if len(domains) > 1 else "Then it is accepted."
        changes = [*self._report_openings(envelope, domains), *self._openings(envelope, domains)]
        if not changes:
            return Advice(aim="accept", apply="one", changes=(), then=_NOT_PROVED)
        return _advice("accept", changes, apply="one", then=then)

    def _report_openings(self, envelope: Envelope, domains: list[str]) -> Iterator[Change]:
        keys = _REPORT_KEYS.get(envelope.kind, ())  # none if the message was not a report
        listener = envelope.listener
        for key in keys if not envelope.recipients and self._has_no_pattern else ():
            text = f"If your {_REPORTS[key]} return to this server, name their domain, in place of {_EXAMPLES[key]}."
            opens = "any host can then send reports to it"
            yield from self._widen(listener, _EXAMPLES[key], {key: LogMode.LOG_THEN_DROP}, text, opens)
        for domain in domains:
            entry = self._lookup(listener, domain)
            closed = [key for key in keys if entry is None or getattr(entry, key) is LogMode.IGNORE]
            if not closed:
                continue
            what = " and ".join(_REPORTS[key] for key in closed)
            text = f"If {what} return to {domain}, let it accept them."
            opens = f"any host can then name recipients in {domain}, and send them reports"
            # Without the kind of the message, the change is proved for a report of each of these kinds.
            reports = [replace(envelope, kind="oob" if key == "log_oob" else "arf") for key in closed]
            values = dict.fromkeys(closed, LogMode.LOG_THEN_DROP)
            yield from self._widen(listener, domain, values, text, opens, proofs=reports)

    def _openings(self, envelope: Envelope, domains: list[str]) -> Iterator[Change]:
        listener, peer, login, sender = envelope.listener, envelope.peer, envelope.authz_id, domain_of(envelope.sender)
        for domain in domains:
            text = f"If this server receives the mail of {domain}, let any host send to it."
            opens = f"any host can then send any mail to {domain}"
            yield from self._widen(listener, domain, {"relay_to": True}, text, opens, proofs=[envelope])
        if login is not None and _is_writable(sender):
            origin = self._lookup(listener, sender)
            known = () if origin is None else origin.relay_from_authz
            text = f"If {login} may send as {sender}, let this login relay."
            opens = f"every user of this login can then send any mail to any domain as {sender}"
            values = {"relay_from_authz": (*known, login)}
            yield from self._widen(listener, sender, values, text, opens, proofs=[envelope], is_sender=True)
        hosts = _relay_hosts(self._evaluator, listener)
        added = NetworkList(networks=(*hosts.networks, parse_network(str(peer))), where=hosts.where)
        draft = Draft(self._evaluator)
        draft.set_relay_hosts(listener, added)
        if not draft.moved(domains) and draft.after.judge(envelope).outcome not in REJECTED:
            text = f"If {peer} is one of your own servers, add it to relay_hosts."
            yield _list_relay_hosts(added, text, [str(peer)], "this peer can then send any mail to any domain")

    def _lookup(self, listener: str, domain: str) -> DomainEntry | None:
        return self._evaluator.policy.lookup(listener, domain)

    def _widen(  # noqa: PLR0913 - the parts of a change, and of its proof
        self,
        listener: str,
        domain: str,
        values: Mapping[str, Any],
        text: str,
        opens: str,
        *,
        proofs: Iterable[Envelope] = (),
        is_sender: bool = False,
    ) -> Iterator[Change]:
        """Propose values for `domain`, in its own entry or in a new one, if it is proved that this opens nothing else.

        The recipients of `proofs` in the domain, or all if it is the sender's, must be accepted with the change.
        """
        entry = self._lookup(listener, domain)
        place, file = (ANY_LISTENER, self._domains_file) if entry is None else (entry.listener, entry.where("").file)
        draft = Draft(self._evaluator)
        try:
            draft.set(place, domain, values, file=file)
        except UnprovedError:
            return
        own = Pattern(name=domain, below=False)
        if any(move.names != own for move in draft.moved()):
            return
        for envelope in proofs:
            named = envelope.recipients if is_sender else [one for one in envelope.recipients if domain_of(one) == domain]
            if any(
                draft.after.judge(replace(envelope, recipients=(one,))).outcome in REJECTED for one in filter(_is_plain, named)
            ):
                return
        if entry is not None and entry.domain == domain:
            yield _rewrite(draft, entry, [*values], text, opens)
        else:
            if entry is not None and any(key not in values and getattr(entry, key) for key in set_values(entry)):
                text += f" It keeps the values of {entry.path}."
            yield _new_tables(draft, place, file, text, domain, opens)


class _Closing:
    """Changes after which an envelope is rejected, all in one draft. `wide` has the keys that the entry `*` no longer sets."""

    def __init__(self, draft: Draft, envelope: Envelope) -> None:
        self.draft, self._envelope = draft, envelope
        self.wide: list[str] = []
        # Further domains, for which the same change is not written.
        self.left_out: set[str] = set()
        # A later step can change an entry again, so the lines are written at the end.
        self._changes: list[Callable[[], Change]] = []
        self._own: set[str] = set()
        self._rewritten: set[tuple[str, str]] = set()

    def changes(self) -> list[Change]:
        return [write() for write in self._changes]

    def is_proved(self, *, leaves_reports: bool) -> bool:
        """Return True if the envelope is rejected, nothing opens, and only the domains that the text names are closed."""
        closed = tuple(one for one in self._envelope.recipients if domain_of(one) not in self.left_out)
        after = self.draft.after.judge(replace(self._envelope, recipients=closed))
        rejected = {Disposition.REJECTED_AT_CONNECT, Disposition.REJECTED_AT_RCPT}
        if any(recipient.relay for recipient in after.recipients) or (not leaves_reports and after.outcome not in rejected):
            return False
        domains = [domain_of(address) for address in (*closed, self._envelope.sender)]
        return all(not move.opens and self._is_named(move) for move in self.draft.moved(domains))

    def _is_named(self, move: Moved) -> bool:
        is_own = not move.names.below and move.names.name in self._own
        return is_own or (move.found is not None and (move.found.listener, move.found.domain) in self._rewritten)

    def close_peer(self) -> None:
        hosts, peer = _relay_hosts(self.draft.after, self._envelope.listener), self._envelope.peer
        if found := containing(hosts.networks, peer):
            left = NetworkList(networks=tuple(one for one in hosts.networks if one not in found), where=hosts.where)
            self.draft.set_relay_hosts(self._envelope.listener, left)
            is_wide = any(first < last for _, first, last in (network.span for network in found))
            rest = ": then no host in it can relay. Or list only those of its addresses that may relay" if is_wide else ""
            change = _list_relay_hosts(left, f"Remove {' and '.join(texts(found))} from relay_hosts{rest}.", texts(found))
            self._changes.append(lambda: change)
        self._close_sender(peer)

    def _close_sender(self, peer: IPAddress) -> None:
        origin = self._lookup(domain_of(self._envelope.sender))
        if origin is None:
            return
        if found := containing(origin.relay_from, peer):
            names = " and ".join(texts(found))
            text = f"Remove {names} from relay_from: every host in it can relay with a sender that {origin.path} matches."
            self._rewrite(origin, {"relay_from": tuple(one for one in origin.relay_from if one not in found)}, text)
        if (login := self._envelope.authz_id) is not None and login in origin.relay_from_authz:
            text = f"Remove {login} from relay_from_authz, or change its password if another person has used it."
            self._rewrite(origin, {"relay_from_authz": tuple(one for one in origin.relay_from_authz if one != login)}, text)

    def close_domains(self, domains: Iterable[str], keys: Iterable[str]) -> None:
        own, wild = dict[tuple[str, str], DomainEntry](), list[str]()
        for domain in dict.fromkeys(domains):
            entry = self._lookup(domain)
            if entry is not None and _open_keys(entry, keys):
                if _is_writable(domain) and entry.domain not in {WILDCARD, domain}:
                    wild.append(domain)
                else:
                    own[entry.listener, entry.domain] = entry
                    if len(own) > _CHANGES_LIMIT:
                        self.left_out.add(domain)
        # A new table copies the values of its wildcard: entries that exist are closed first, parents before names below them.
        for entry in [*own.values()][:_CHANGES_LIMIT]:
            self._close_entry(entry, keys)
        room = max(_CHANGES_LIMIT - len(self._changes), 1)
        for domain in sorted(wild[:room], key=lambda domain: domain.count(".")):
            self._exclude(domain, keys)
        self.left_out.update(wild[room:])

    def _lookup(self, domain: str) -> DomainEntry | None:
        return self.draft.after.policy.lookup(self._envelope.listener, domain)

    def _close_entry(self, entry: DomainEntry, keys: Iterable[str]) -> None:
        every = f"every domain that {entry.path} matches" if entry.domain.startswith("*.") else name_of(entry.domain)
        every = "every domain without its own entry" if entry.domain == WILDCARD else every
        for key in _open_keys(entry, keys):
            what = _REPORTS.get(key, "mail from external hosts")
            self._rewrite(entry, {key: _CLOSED[key]}, f"Accept no {what} for {every}.")
            # In a listener's own map, a name would hide other names with its top label from `*` (policy reference, Lookup).
            if entry.domain == WILDCARD and entry.listener == ANY_LISTENER:
                self.wide.append(key)

    def _exclude(self, domain: str, keys: Iterable[str]) -> None:
        entry = self._lookup(domain)
        if entry is None or not (closed := _open_keys(entry, keys)):
            return
        file, before = entry.where("").file, set(self.draft.added)
        self.draft.set(entry.listener, domain, {key: _CLOSED[key] for key in closed}, file=file)
        self._own.add(domain)
        added = [key for key in self.draft.added if key not in before]
        text = f"Exclude {domain} from {entry.path}: its own entry replaces the wildcard's."
        self._changes.append(lambda: _new_tables(self.draft, entry.listener, file, text, domain, among=added))

    def _rewrite(self, entry: DomainEntry, values: Mapping[str, Any], text: str) -> None:
        self.draft.set(entry.listener, entry.domain, values)
        self._rewritten.add((entry.listener, entry.domain))
        self._changes.append(lambda: _rewrite(self.draft, entry, [*values], text))


def _open_keys(entry: DomainEntry, keys: Iterable[str]) -> list[str]:
    return [key for key in keys if getattr(entry, key) != _CLOSED[key]]


def _relay_hosts(evaluator: Evaluator, listener: str) -> NetworkList:
    return evaluator.settings.listener_relay_hosts.get(listener, evaluator.settings.relay_hosts)


def _rewrite(draft: Draft, entry: DomainEntry, keys: list[str], text: str, opens: str | None = None) -> Change:
    """Return the change of an entry that exists, with the values of the draft."""
    where = entry.where(keys[0] if len(keys) == 1 else "")
    lines = key_lines(where.file, values_of(draft.changed[entry.listener, entry.domain], keys))
    return Change(
        text=text, file=where.file, line=where.line, key=where.key, lines=lines, opens=opens, concerns=(entry.domain,)
    )


def _new_tables(  # noqa: PLR0913, PLR0917 - the parts of a change
    draft: Draft,
    listener: str,
    file: str | None,
    text: str,
    domain: str,
    opens: str | None = None,
    among: Iterable[tuple[str, str]] | None = None,
) -> Change:
    """Return the change that adds a domain, with the tables that keep what other names have."""
    keys = draft.added if among is None else among
    tables = {name: set_values(draft.added[listener, name]) for _, name in keys}
    if len(tables) > 1:
        text = f"{text} {_KEPT}"
    return Change(text=text, file=file, lines=table_lines(file, tables, listener), opens=opens, concerns=(domain,))


def _list_relay_hosts(setting: NetworkList, text: str, concerns: list[str], opens: str | None = None) -> Change:
    """Return the change of the list of relay hosts. If the networks are many, the text is enough."""
    networks = texts(setting.networks)
    lines = () if len(networks) > _NETWORKS_LIMIT else key_lines(None, {"relay_hosts": networks})
    change = Change(text=text, key="relay_hosts", lines=lines, opens=opens, concerns=tuple(concerns))
    return change if (where := setting.where) is None else replace(change, file=where.file, line=where.line, key=where.key)


def _advice(
    aim: Literal["reject", "accept"], changes: Iterable[Change], *, apply: Literal["all", "one"], then: str, left_out: int = 0
) -> Advice:
    each = tuple(dict.fromkeys(changes))
    shown = each[:_CHANGES_LIMIT]
    return Advice(aim=aim, apply=apply, changes=shown, more=left_out + len(each) - len(shown), then=then)


def _writable_domains(envelope: Envelope) -> list[str]:
    return [domain for domain in dict.fromkeys(map(domain_of, filter(_is_plain, envelope.recipients))) if _is_writable(domain)]


def _is_plain(recipient: str) -> bool:
    return is_readable(recipient) and not (has_route(recipient) or is_ambiguous(recipient))


def _is_writable(domain: str) -> bool:
    """Return True if an entry for `domain` matches only this domain: an external host can send to `x@*`."""
    return domain != NO_DOMAIN and WILDCARD not in domain
