"""What lets strangers do more than anybody means: wide names that take or relay, and wide networks that may relay.

Owns how wide is too wide. Never refuses anything: an operator may know better.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import Final, Literal

from sidecar.config.readers import network
from sidecar.config.warnings.findings import Findings
from sidecar.core.findings import Finding, warning
from sidecar.core.settings.values import DomainEntry, LogMode, Network, Settings, Where

_REPORTS: Final = {"log_oob": "bounce", "log_arf": "feedback"}

# No stranger's mailbox is below these: RFC 6761 section 6, RFC 6762 with its appendix G, and ICANN's own reservation.
_PRIVATE_TOPS: Final = frozenset(
    ("corp", "example", "home", "internal", "intranet", "invalid", "lan", "local", "localhost", "private", "test")
)
# Where countries register domains below a second label, they call it so. A whole list of public suffixes would find a few more,
# and would be a dependency that is out of date from the day it is installed.
_REGISTRY_LABELS: Final = frozenset(("ac", "co", "com", "edu", "go", "gob", "gov", "mil", "ne", "net", "nom", "or", "org"))
_COUNTRY_LETTERS: Final = 2  # ISO 3166-1; no other top-level domain is so short

# What one site has to itself: RFC 6177 gives a site a /48 of IPv6 at most, and the world routes no IPv4 below /24.
_SITE: Final = {4: 24, 6: 48}
# What sends for one domain is a few hosts, and a provider gives a customer up to a /28 of IPv4 unasked; whoever has more also
# has others in it: customers, or machines that nobody looks after. Of IPv6 one host has a /64, and 16 have a /60.
_FEW_HOSTS: Final = {4: 28, 6: 60}
_BITS: Final = {4: 32, 6: 128}
# What no stranger connects from: private, loopback and link-local addresses, those of benchmarks and documentation (RFC 6890).
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

Reach = Literal["everybody", "public", "shared", "few", "nobody"]
_REACH_WORDS: Final[dict[Reach, str]] = {
    "public": "a wide public network",
    "shared": "which providers share out among their customers (RFC 6598)",
}


def note_opening(entry: DomainEntry, findings: Findings) -> None:
    """Note what an entry permits to more peers, or for more domains, than one operator can have."""
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
        case "everybody":
            findings.note(_open_senders, entry, each)
        case "public" | "shared" as reach:
            findings.note(_wide_senders, entry, each, _REACH_WORDS[reach])
        case "nobody":
            findings.note(_no_peer, entry.where("relay_from"), each)
        case "few":
            if not entry.relay_from_authz and _has_many_hosts(each):
                findings.note(_wide_senders, entry, each, "a public network of more than 16 hosts")


def note_relay_hosts(settings: Settings, findings: Findings) -> None:
    """Note relay hosts that are not the operator's own."""
    for hosts in (settings.relay_hosts, *settings.listener_relay_hosts.values()):
        for each in hosts.networks:
            match _reach(each):
                case "everybody":
                    findings.note(_open_hosts, hosts.where, each)
                case "public" | "shared" as reach:
                    findings.note(_wide_hosts, hosts.where, each, _REACH_WORDS[reach])
                case "nobody":
                    findings.note(_no_peer, hosts.where, each)
                case "few":
                    pass


def is_wide(domain: str) -> bool:
    """Tell whether a name stands for domains of strangers: `*`, or all that is below a top-level domain or a registry's."""
    if not domain.startswith("*."):
        return domain == "*"
    *below, top = domain[2:].split(".")
    if not below:
        return top not in _PRIVATE_TOPS
    return len(below) == 1 and below[0] in _REGISTRY_LABELS and len(top) == _COUNTRY_LETTERS


# Thousands of domains tend to name the same few networks.
@lru_cache(maxsize=4096)
def _reach(peers: Network) -> Reach:
    """Tell who is in a network of peers that may relay: "few" where it is narrow, or one's own."""
    if peers.prefix == 0:
        return "everybody"
    if peers.prefix == _BITS[peers.version] and peers.first == 0:
        return "nobody"
    if peers.prefix >= _SITE[peers.version] or any(_within(peers, own) for own in _OWN):
        return "few"
    return "shared" if _within(peers, _SHARED) else "public"


def _has_many_hosts(peers: Network) -> bool:
    """Tell whether a network has more public hosts than send for one domain."""
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
        f"This makes an open relay: anyone may send anything to {_recipients(entry)}.",
        "Write relay_to = true only for the domains that this server takes mail for.",
    )


def _report_relay(entry: DomainEntry, keys: Sequence[str]) -> Finding:
    return warning(
        "report_relay",
        entry.where(keys[0]),
        f"Every stranger passes RCPT for {_recipients(entry)}, and what looks like a {_reports(keys)} is passed on to it.",
        'Name the domains that your reports come back to instead, and write "LogThenDrop" there.',
    )


def _wide_reports(entry: DomainEntry, keys: Sequence[str]) -> Finding:
    return warning(
        "wide_reports",
        entry.where(keys[0]),
        f"Every stranger passes RCPT for {_recipients(entry)}, since only the end of a message shows that it is no "
        f"{_reports(keys)}.",
        "Name the domains that your reports come back to instead.",
    )


def _open_senders(entry: DomainEntry, each: Network) -> Finding:
    return warning(
        "open_relay",
        entry.where("relay_from"),
        f"This makes an open relay: {each.text} is everybody, and whoever writes an envelope sender in {_senders(entry)} may "
        "send anything to anyone.",
        "Write the addresses of the servers that send for it, or use relay_from_authz instead.",
    )


def _wide_senders(entry: DomainEntry, each: Network, reach: str) -> Finding:
    # Either key is enough (contract section 3); whoever writes both may well mean that both are needed.
    beside = ", authenticated or not" if entry.relay_from_authz else ""
    return warning(
        "wide_network",
        entry.where("relay_from"),
        f"Whoever is in {each.text}, {reach}, and writes an envelope sender in {_senders(entry)} may send anything to anyone"
        f"{beside}.",
        "Write the addresses of the servers that send for it, or use relay_from_authz instead.",
    )


def _open_hosts(where: Where | None, each: Network) -> Finding:
    return warning(
        "open_relay",
        where,
        f"This makes an open relay: {each.text} is everybody, and may send anything to anyone.",
        "Write the networks of your own servers.",
    )


def _wide_hosts(where: Where | None, each: Network, reach: str) -> Finding:
    return warning(
        "wide_network",
        where,
        f"Whoever is in {each.text}, {reach}, may send anything to anyone.",
        "Write the networks of your own servers.",
    )


def _no_peer(where: Where | None, each: Network) -> Finding:
    return warning(
        "never_matches",
        where,
        f"No peer has the address {each.text}.",
        "Write the addresses that are meant, or take it out.",
    )
