"""What to change so that what is rejected would be accepted, and what each change opens besides.

Owns the ways that could be opened. Never says that one should be.
"""

from collections.abc import Iterator

from sidecar.commands.explain.change import (
    EXAMPLES,
    REPORTS,
    Advice,
    Change,
    Setup,
    Value,
    advise,
    new_table,
    relay_hosts,
    rewrite,
    values_of,
)
from sidecar.core.evaluate.envelope import Envelope
from sidecar.core.policy.address import NO_DOMAIN, domain_of, has_route, is_ambiguous, is_readable, is_text
from sidecar.core.policy.domains import WILDCARD
from sidecar.core.settings.values import ANY_LISTENER

_REPORT_KEYS = {"oob": ("log_oob",), "arf": ("log_arf",), "unknown": tuple(REPORTS)}


def to_accept(setup: Setup, envelope: Envelope) -> Advice | None:
    """Say what to change so that all recipients would be accepted; None where nothing can make them so."""
    if not all(map(is_text, envelope.recipients)):
        return None
    changes = [
        *_reports(setup, envelope),
        *_mail(setup, envelope),
        *_login(setup, envelope),
        _peer(setup, envelope),
    ]
    several = len(_domains(envelope)) > 1
    then = "Then the recipients that the change is for are accepted." if several else "Then it is accepted."
    return advise("accept", changes, apply="one", then=then)


def _reports(setup: Setup, envelope: Envelope) -> Iterator[Change]:
    """Let the recipients' domains take reports, unless the message was none."""
    keys = _REPORT_KEYS.get(envelope.kind, ())
    if not envelope.recipients:
        for key in keys:
            text = f"If your {REPORTS[key]} come back to this server, name their domain, in place of {EXAMPLES[key]}."
            yield _widen(setup, envelope, EXAMPLES[key], {key: "LogThenDrop"}, text, "anyone may then send reports to it")
    what = " and ".join(REPORTS[key] for key in keys)
    for domain in _domains(envelope) if keys else ():
        text = f"If {what} come back to {domain}, let it take them."
        opens = f"anyone may then name recipients in {domain}, and send them reports"
        yield _widen(setup, envelope, domain, dict.fromkeys(keys, "LogThenDrop"), text, opens)


def _mail(setup: Setup, envelope: Envelope) -> Iterator[Change]:
    for domain in _domains(envelope):
        text = f"If this server is there for the mail of {domain}, let anyone send to it."
        yield _widen(setup, envelope, domain, {"relay_to": True}, text, f"anyone may then send anything to {domain}")


def _login(setup: Setup, envelope: Envelope) -> Iterator[Change]:
    domain = domain_of(envelope.sender)
    if envelope.authz_id is None or not _may_be_written(domain):
        return
    entry = setup.policy.lookup(envelope.listener, domain)
    known = () if entry is None else entry.relay_from_authz
    text = f"If {envelope.authz_id} may send as {domain}, let this login relay."
    opens = f"whoever has this login may then send anything to anywhere as {domain}"
    yield _widen(setup, envelope, domain, {"relay_from_authz": [*known, envelope.authz_id]}, text, opens)


def _peer(setup: Setup, envelope: Envelope) -> Change:
    hosts = setup.relay_hosts(envelope.listener)
    networks = [*(network.text for network in hosts.networks), str(envelope.peer)]
    text = f"If {envelope.peer} is a server of your own, add it to relay_hosts."
    return relay_hosts(hosts, networks, text, opens="this peer may then send anything to anywhere")


def _widen(  # noqa: PLR0913, PLR0917 - what is written, for whom, and the two sentences about it
    setup: Setup, envelope: Envelope, domain: str, values: dict[str, Value], text: str, opens: str
) -> Change:
    """Let `domain` have these values: in its own entry, or in a new one that keeps what it has from a wildcard."""
    entry = setup.policy.lookup(envelope.listener, domain)
    if entry is not None and entry.domain == domain:
        return rewrite(entry, values, text, opens=opens)
    if entry is None:
        return new_table(setup.domains_file, ANY_LISTENER, domain, values, text, opens=opens)
    if entry.domain == WILDCARD and entry.listener != ANY_LISTENER:
        # KumoMTA's walk (contract: "Lookup"); `check` warns of it as well.
        opens += f", and {entry.path} serves no other names with this top label any more"
    kept = values_of(entry)
    text += f" It keeps what {entry.path} says." if kept else ""
    return new_table(entry.where("").file, entry.listener, domain, kept | values, text, opens=opens)


def _domains(envelope: Envelope) -> list[str]:
    """Give the recipients' domains that an entry could be written for, each once."""
    plain = (one for one in envelope.recipients if is_readable(one) and not (has_route(one) or is_ambiguous(one)))
    return [domain for domain in dict.fromkeys(map(domain_of, plain)) if _may_be_written(domain)]


def _may_be_written(domain: str) -> bool:
    """Tell whether an entry for `domain` is one for this domain alone: a stranger may send to `x@*`."""
    return domain != NO_DOMAIN and WILDCARD not in domain
