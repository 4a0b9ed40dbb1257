"""What to change so that what is accepted would be rejected. Owns the ways in, each with the change that shuts it."""

from collections.abc import Iterator

from sidecar.commands.explain.change import (
    EXAMPLES,
    REPORTS,
    Advice,
    Change,
    Setup,
    Value,
    advise,
    holding,
    is_wide,
    new_table,
    relay_hosts,
    rewrite,
    values_of,
)
from sidecar.core.evaluate.envelope import Envelope
from sidecar.core.evaluate.evaluator import Judgement
from sidecar.core.policy import RecipientAnswer
from sidecar.core.policy.address import domain_of
from sidecar.core.policy.domains import WILDCARD
from sidecar.core.settings.values import ANY_LISTENER, DomainEntry, LogMode

_THEN = "Then it is rejected at RCPT at the latest."
_THEN_REPORTS = "Then only reports pass from this peer, and only to the domains that take them."


def to_reject(setup: Setup, envelope: Envelope, judgement: Judgement) -> Advice | None:
    """Say what to change so that the envelope would be rejected; None where no recipient of it is accepted."""
    accepted = [recipient for recipient in judgement.recipients if recipient.accept]
    if not accepted:
        return None
    relays = any(recipient.relay for recipient in accepted)
    takes_reports = any(recipient.takes_reports for recipient in accepted)
    # What was no report is rejected as soon as nobody relays it; whether the domain takes reports need not change.
    leaves_reports = relays and takes_reports and envelope.kind not in {"oob", "arf"}
    keys = ("relay_to",) if leaves_reports else ("relay_to", *REPORTS)
    changes = [*(_peer(setup, envelope) if relays else ()), *_domains(setup, envelope, accepted, keys)]
    return advise("reject", changes, apply="all", then=_THEN_REPORTS if leaves_reports else _THEN)


def _peer(setup: Setup, envelope: Envelope) -> Iterator[Change]:
    """Shut what lets this peer relay to anywhere."""
    hosts = setup.relay_hosts(envelope.listener)
    if found := holding(hosts.networks, envelope.peer):
        left = [network.text for network in hosts.networks if network not in found]
        narrower = ", or list only those of its addresses that may relay" if any(map(is_wide, found)) else ""
        names = " and ".join(network.text for network in found)
        yield relay_hosts(hosts, left, f"Take {names} out of relay_hosts{narrower}.")
    origin = _origin_entry(setup, envelope)
    if origin is not None:
        yield from _origin(origin, envelope)


def _origin_entry(setup: Setup, envelope: Envelope) -> DomainEntry | None:
    return setup.policy.lookup(envelope.listener, domain_of(envelope.sender))


def _origin(origin: DomainEntry, envelope: Envelope) -> Iterator[Change]:
    left = _granted(origin, envelope)
    if "relay_from" in left:
        names = " and ".join(network.text for network in holding(origin.relay_from, envelope.peer))
        text = f"Take {names} out of relay_from: whoever is in it may relay by naming a sender that {origin.path} stands for."
        yield rewrite(origin, {"relay_from": left["relay_from"]}, text)
    if "relay_from_authz" in left:
        text = f"Take {envelope.authz_id} out of relay_from_authz, or change its password, if somebody else has used it."
        yield rewrite(origin, {"relay_from_authz": left["relay_from_authz"]}, text)


def _granted(origin: DomainEntry, envelope: Envelope) -> dict[str, Value]:
    """Give the keys by which senders' `origin` lets this peer relay, with what is left of each without it."""
    left: dict[str, Value] = {}
    if found := holding(origin.relay_from, envelope.peer):
        left["relay_from"] = [network.text for network in origin.relay_from if network not in found]
    if envelope.authz_id is not None and envelope.authz_id in origin.relay_from_authz:
        left["relay_from_authz"] = [name for name in origin.relay_from_authz if name != envelope.authz_id]
    return left


def _domains(setup: Setup, envelope: Envelope, recipients: list[RecipientAnswer], keys: tuple[str, ...]) -> Iterator[Change]:
    """Shut what the recipients' domains take from anyone by these keys."""
    for domain in dict.fromkeys(recipient.domain for recipient in recipients):
        entry = setup.policy.lookup(envelope.listener, domain)
        shut = [] if entry is None else [key for key in keys if getattr(entry, key) not in {False, LogMode.IGNORE}]
        if entry is None or not shut:
            continue
        # A new entry takes the wildcard from names above it (contract: "Lookup"): the sender's must not fall to a wider one.
        if entry.domain in {WILDCARD, domain} or domain.endswith(f".{domain_of(envelope.sender)}"):
            yield from _entry(setup, entry, shut)
            continue
        # What the entry grants to this sender goes as well, or the new one would keep it.
        granted = _granted(entry, envelope) if entry == _origin_entry(setup, envelope) else {}
        values: dict[str, Value] = values_of(entry) | granted | dict.fromkeys(shut, False)
        text = f"Take {domain}, and what is below it, out of {entry.path}: an entry of its own replaces the wildcard's."
        yield new_table(entry.where("").file, entry.listener, domain, values, text)


def _entry(setup: Setup, entry: DomainEntry, shut: list[str]) -> Iterator[Change]:
    every = "every domain without an entry of its own" if entry.domain == WILDCARD else entry.domain
    for key in shut:
        what = f"no {REPORTS[key]}" if key in REPORTS else "no mail from just anyone"
        yield rewrite(entry, {key: False}, f"Take {what} for {every}.")
    # In a listener's own map a name would take others with its top label out of the map's `*` (contract: "Lookup").
    if entry.domain == WILDCARD and entry.listener == ANY_LISTENER:
        for key in shut:
            if key in REPORTS and key not in setup.named:
                text = f"Name the domain that your {REPORTS[key]} come back to, in place of {EXAMPLES[key]}."
                yield new_table(entry.where("").file, entry.listener, EXAMPLES[key], {key: "LogThenDrop"}, text)
