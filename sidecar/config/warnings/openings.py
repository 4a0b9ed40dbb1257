"""Settings that permit more than one operator can want: wide names that accept or relay, wide networks, mail loops.

Owns how wide is too wide. These are warnings: the operator can know better.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import Final, Literal

from sidecar.config.readers import network
from sidecar.config.warnings.findings import Findings
from sidecar.core.findings import Finding, warning
from sidecar.core.settings.values import DomainEntry, LogMode, Network, Settings, Where

_REPORTS: Final = {"log_oob": "bounce", "log_arf": "feedback"}

# These have no public mailboxes: RFC 6761 section 6, RFC 6762 with its appendix G, and ICANN's own reservation.
_PRIVATE_TOPS: Final = frozenset(
    ("corp", "example", "home", "internal", "intranet", "invalid", "lan", "local", "localhost", "private", "test")
)
# Second labels below which countries register domains. A list of public suffixes has a few more, and is soon out of date.
_REGISTRY_LABELS: Final = frozenset(("ac", "co", "com", "edu", "go", "gob", "gov", "mil", "ne", "net", "nom", "or", "org"))
_COUNTRY_LETTERS: Final = 2  # ISO 3166-1; no other top-level domain has two letters

# The networks of one site: at most a /48 of IPv6 (RFC 6177); no IPv4 network smaller than a /24 is routed.
_SITE: Final = {4: 24, 6: 48}
# A few hosts send for one domain. A provider gives a customer up to a /28 of IPv4. One host has a /64 of IPv6, 16 have a /60.
_FEW_HOSTS: Final = {4: 28, 6: 60}
_BITS: Final = {4: 32, 6: 128}
# Addresses that no external host has: private, loopback, link-local, benchmarks, documentation (RFC 6890).
_OWN: Final = tuple(
    map(
        network,
        (
            "10.0.0.0/8",
            "127.0.0.0/8",
            "169.254.0.0/16",
            "172.16.0.0/12",
            "192.168.0.0/16",
            "198.18.0.0/15",
            "fc00::/7",
            "fe80::/10",
            "2001:db8::/32",
        ),
    )
)
_SHARED: Final = network("100.64.0.0/10")

Reach = Literal["all", "public", "shared", "few", "none"]
_REACH_WORDS: Final[dict[Reach, str]] = {
    "public": "a wide public network",
    "shared": "which providers share among their customers (RFC 6598)",
}


def note_opening(entry: DomainEntry, findings: Findings) -> None:
    """Add warnings for what an entry permits to more peers, or for more domains, than one operator has."""
    if is_wide(entry.domain):
        relayed = [key for key in _REPORTS if getattr(entry, key) is LogMode.LOG_THEN_RELAY]
        dropped = [key for key in _REPORTS if getattr(entry, key) is LogMode.LOG_THEN_DROP]
        if entry.relay_to:
            findings.note(_open_relay, entry)
        elif relayed:
            findings.note(_report_relay, entry, relayed)
        elif dropped:
            findings.note(_wide_reports, entry, dropped)
    for each in entry.relay_from:
        _note_senders(entry, each, findings)


def _note_senders(entry: DomainEntry, each: Network, findings: Findings) -> None:
    match _reach(each):
        case "all":
            findings.note(_open_senders, entry, each)
        case "public" | "shared" as reach:
            findings.note(_wide_senders, entry, each, _REACH_WORDS[reach])
        case "none":
            findings.note(_no_peer, entry.where("relay_from"), each)
        case "few":
            if not entry.relay_from_authz and _has_many_hosts(each):
                findings.note(_wide_senders, entry, each, "a public network of more than 16 hosts")


def note_relay_hosts(settings: Settings, findings: Findings) -> None:
    """Add a warning for each network in `relay_hosts` that is wider than one operator's."""
    for hosts in (settings.relay_hosts, *settings.listener_relay_hosts.values()):
        for each in hosts.networks:
            match _reach(each):
                case "all":
                    findings.note(_open_hosts, hosts.where, each)
                case "public" | "shared" as reach:
                    findings.note(_wide_hosts, hosts.where, each, _REACH_WORDS[reach])
                case "none":
                    findings.note(_no_peer, hosts.where, each)
                case "few":
                    pass


def note_true(entry: DomainEntry, findings: Findings) -> None:
    """Add a warning for a `log_*` key that is `true` after all files are merged: it means LogThenRelay, which few expect.

    A domain with `relay_to` has a route in the MTA, and a wide name has a graver warning.
    """
    if entry.trues and not (entry.relay_to or is_wide(entry.domain)):
        findings.note(_true_relays, entry)


def is_wide(domain: str) -> bool:
    """Return True if an entry matches domains of others: `*`, or all names below a top-level domain or a registry's."""
    if not domain.startswith("*."):
        return domain == "*"
    *below, top = domain[2:].split(".")
    if not below:
        return top not in _PRIVATE_TOPS
    return len(below) == 1 and below[0] in _REGISTRY_LABELS and len(top) == _COUNTRY_LETTERS


# Thousands of domains tend to name the same few networks.
@lru_cache(maxsize=4096)
def _reach(peers: Network) -> Reach:
    # "few" also for a private network of any size
    if peers.prefix == 0:
        return "all"
    if peers.prefix == _BITS[peers.version] and peers.first == 0:
        return "none"
    if peers.prefix >= _SITE[peers.version] or any(_within(peers, own) for own in _OWN):
        return "few"
    return "shared" if _within(peers, _SHARED) else "public"


def _has_many_hosts(peers: Network) -> bool:
    return peers.prefix < _FEW_HOSTS[peers.version] and not any(_within(peers, own) for own in (*_OWN, _SHARED))


def _within(inner: Network, outer: Network) -> bool:
    shift = _BITS[outer.version] - outer.prefix
    return inner.version == outer.version and inner.prefix >= outer.prefix and (inner.first ^ outer.first) >> shift == 0


def _recipients(entry: DomainEntry) -> str:
    base = entry.domain.removeprefix("*").removeprefix(".")
    return f'every domain below "{base}" that has no entry' if base else "every domain that has no entry"


def _senders(entry: DomainEntry) -> str:
    if entry.domain == "*":
        return "any domain that has no entry"
    return f'a domain below "{entry.domain[2:]}"' if entry.domain.startswith("*.") else f'"{entry.domain}"'


def _reports(keys: Sequence[str]) -> str:
    return " or ".join(_REPORTS[key] for key in keys) + " report"


def _open_relay(entry: DomainEntry) -> Finding:
    return warning(
        "open_relay",
        entry.where("relay_to"),
        f"This is an open relay: every host can send any mail to {_recipients(entry)}.",
        "Write relay_to = true only for the domains that this server accepts mail for.",
    )


def _report_relay(entry: DomainEntry, keys: Sequence[str]) -> Finding:
    return warning(
        "report_relay",
        entry.where(keys[0]),
        f"External hosts pass RCPT for {_recipients(entry)}, and what looks like a {_reports(keys)} is relayed there.",
        'Write the domains that your reports return to instead, with "LogThenDrop".',
    )


def _wide_reports(entry: DomainEntry, keys: Sequence[str]) -> Finding:
    return warning(
        "wide_reports",
        entry.where(keys[0]),
        f"External hosts pass RCPT for {_recipients(entry)}: only the end of a message shows if it is a {_reports(keys)}.",
        "Write the domains that your reports return to instead.",
    )


def _open_senders(entry: DomainEntry, each: Network) -> Finding:
    return warning(
        "open_relay",
        entry.where("relay_from"),
        f"This is an open relay: {each.text} matches every host, and a host with an envelope sender in {_senders(entry)} can "
        "send any mail to any domain.",
        "Write the addresses of the servers that send for it, or use relay_from_authz instead.",
    )


def _wide_senders(entry: DomainEntry, each: Network, reach: str) -> Finding:
    # One of the two keys is enough (see the policy reference, RCPT). Who sets both can expect that both are required.
    beside = ", authenticated or not" if entry.relay_from_authz else ""
    return warning(
        "wide_network",
        entry.where("relay_from"),
        f"Every host in {each.text}, {reach}, can send any mail to any domain with an envelope sender in {_senders(entry)}"
        f"{beside}.",
        "Write the addresses of the servers that send for it, or use relay_from_authz instead.",
    )


def _open_hosts(where: Where | None, each: Network) -> Finding:
    return warning(
        "open_relay",
        where,
        f"This is an open relay: {each.text} matches every host, and a relay host can send any mail to any domain.",
        "Write the networks of your own servers.",
    )


def _wide_hosts(where: Where | None, each: Network, reach: str) -> Finding:
    return warning(
        "wide_network",
        where,
        f"Every host in {each.text}, {reach}, can send any mail to any domain.",
        "Write the networks of your own servers.",
    )


def _no_peer(where: Where | None, each: Network) -> Finding:
    return warning(
        "never_matches",
        where,
        f"No peer has the address {each.text}.",
        "Write the right addresses, or remove it.",
    )


def _true_relays(entry: DomainEntry) -> Finding:
    keys = entry.trues
    means = " and ".join(f"{key} = true" for key in keys) + (" means" if len(keys) == 1 else " mean")
    return warning(
        "report_loop",
        entry.where(keys[0]),
        f'{means} "LogThenRelay": the MTA sends the report to the domain\'s MX. If that is this server, it is a mail loop.',
        'Write "LogThenDrop", or "LogThenRelay" in words if the MTA has another route for this domain.',
    )
