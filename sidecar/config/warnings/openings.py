"""Settings that permit more than one operator can want: wide names that accept or relay, wide networks, mail loops.

Owns how wide is too wide. These are warnings: the operator can know better.
"""

from collections.abc import Iterable
from functools import lru_cache
from typing import Final, Literal

from sidecar.config.findings import Findings, Kind
from sidecar.config.readers import network
from sidecar.core.settings.settings import Settings
from sidecar.core.settings.values import DomainEntry, LogMode, Network
from sidecar.core.text import quoted

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
# Addresses that no external host has: private, loopback, link-local, benchmarks, documentation (RFC 6890).
_OWN_IPV4: Final = "10.0.0.0/8 127.0.0.0/8 169.254.0.0/16 172.16.0.0/12 192.168.0.0/16 198.18.0.0/15"
_OWN: Final = tuple(map(network, f"{_OWN_IPV4} fc00::/7 fe80::/10 2001:db8::/32".split()))
_SHARED: Final = network("100.64.0.0/10")

Reach = Literal["all", "public", "shared", "few", "none"]
_REACH_WORDS: Final[dict[Reach, str]] = {
    "public": "a wide public network",
    "shared": "which providers share among their customers (RFC 6598)",
}

_OPEN_RELAY: Final = Kind(
    "open_relay",
    "This is an open relay: every host can send any mail to {recipients}.",
    "Write relay_to = false here, and true only for the domains that this server accepts mail for.",
)
_REPORT_RELAY: Final = Kind(
    "report_relay",
    "External hosts pass RCPT for {recipients}, and what looks like a {reports} is relayed there.",
    'Write false here, and name the domains that your reports return to, with "LogThenDrop".',
)
_WIDE_REPORTS: Final = Kind(
    "wide_reports",
    "External hosts pass RCPT for {recipients}: only the end of a message shows if it is a {reports}.",
    "Write false here, and name the domains that your reports return to. Do not remove the table: a wider one could relay.",
)
_SENDERS_FIX: Final = "Write the addresses of the servers that send for it, or use relay_from_authz instead."
_OPEN_SENDERS: Final = Kind(
    "open_relay",
    "This is an open relay: {network} matches every host, and a host with an envelope sender in {senders} can "
    "send any mail to any domain.",
    _SENDERS_FIX,
)
_WIDE_SENDERS: Final = Kind(
    "wide_network",
    "Every host in {network}, {reach}, can send any mail to any domain with an envelope sender in {senders}{beside}.",
    _SENDERS_FIX,
)
_HOSTS_FIX: Final = "Write the networks of your own servers."
_OPEN_HOSTS: Final = Kind(
    "open_relay",
    "This is an open relay: {network} matches every host, and a relay host can send any mail to any domain.",
    _HOSTS_FIX,
)
_WIDE_HOSTS: Final = Kind("wide_network", "Every host in {network}, {reach}, can send any mail to any domain.", _HOSTS_FIX)
_NO_PEER: Final = Kind("never_matches", "No peer has the address {network}.", "Write the right addresses, or remove it.")
_TRUE_RELAYS: Final = Kind(
    "report_loop",
    '{trues} {means} "LogThenRelay": the MTA sends the report to the domain\'s MX. If that is this server, it is a mail loop.',
    'Write "LogThenDrop", or "LogThenRelay" in words if the MTA has another route for this domain.',
)


def note_opening(entry: DomainEntry, findings: Findings) -> None:
    """Add warnings for what an entry permits to more peers, or for more domains, than one operator has."""
    if wide := is_wide(entry.domain):
        recipients = _recipients(entry.domain)
        relayed = [key for key in _REPORTS if getattr(entry, key) is LogMode.LOG_THEN_RELAY]
        dropped = [key for key in _REPORTS if getattr(entry, key) is LogMode.LOG_THEN_DROP]
        if entry.relay_to:
            findings.warn(_OPEN_RELAY, entry.where("relay_to"), recipients=recipients)
        elif keys := relayed or dropped:
            kind = _REPORT_RELAY if relayed else _WIDE_REPORTS
            reports = " or ".join(_REPORTS[key] for key in keys) + " report"
            findings.warn(kind, entry.where(keys[0]), recipients=recipients, reports=reports)
    for each in _by_text(entry.relay_from):
        _note_senders(entry, each, findings)
    if entry.trues and not (wide or entry.relay_to):
        # `true`, after all files are merged, means LogThenRelay, which few expect. With relay_to the MTA has a route.
        trues = " and ".join([f"{key} = true" for key in entry.trues])
        findings.warn(
            _TRUE_RELAYS, entry.where(entry.trues[0]), trues=trues, means="means" if len(entry.trues) == 1 else "mean"
        )


def _note_senders(entry: DomainEntry, peers: Network, findings: Findings) -> None:
    reach = _reach(peers)
    if reach == "all":
        findings.warn(_OPEN_SENDERS, entry.where("relay_from"), network=_named(peers), senders=_senders(entry.domain))
    elif reach == "none":
        findings.warn(_NO_PEER, entry.where("relay_from"), network=_named(peers))
    elif reach != "few" or (not entry.relay_from_authz and _has_many_hosts(peers)):
        words = _REACH_WORDS.get(reach, "a public network of more than 16 hosts")
        # One of the two keys is enough (see the policy reference, RCPT). An operator can expect that both are required.
        beside = ", authenticated or not" if entry.relay_from_authz else ""
        senders = _senders(entry.domain)
        findings.warn(
            _WIDE_SENDERS, entry.where("relay_from"), network=_named(peers), reach=words, senders=senders, beside=beside
        )


def note_relay_hosts(settings: Settings, findings: Findings) -> None:
    """Add a warning for each network in `relay_hosts` that is wider than one operator's."""
    for hosts in (settings.relay_hosts, *settings.listener_relay_hosts.values()):
        for each in _by_text(hosts.networks):
            reach = _reach(each)
            if reach != "few":
                kind = {"all": _OPEN_HOSTS, "none": _NO_PEER}.get(reach, _WIDE_HOSTS)
                findings.warn(kind, hosts.where, network=_named(each), reach=_REACH_WORDS.get(reach))


def is_wide(domain: str) -> bool:
    """Return True if an entry matches domains of others: `*`, or all names below a top-level domain or a registry's."""
    if not domain.startswith("*."):
        return domain == "*"
    *below, top = domain[2:].split(".")
    if not below:
        return top not in _PRIVATE_TOPS
    return len(below) == 1 and below[0] in _REGISTRY_LABELS and len(top) == _COUNTRY_LETTERS


def _by_text(networks: Iterable[Network]) -> Iterable[Network]:
    # `any` is two networks.
    return {network.text: network for network in networks}.values()


# Thousands of domains tend to name the same few networks.
@lru_cache(maxsize=4096)
def _reach(peers: Network) -> Reach:
    # "few" also for a private network of any size
    if peers.prefix == 0:
        return "all"
    if peers.span == (peers.version, 0, 0):
        return "none"
    if peers.prefix >= _SITE[peers.version] or any(_within(peers, own) for own in _OWN):
        return "few"
    return "shared" if _within(peers, _SHARED) else "public"


def _has_many_hosts(peers: Network) -> bool:
    return peers.prefix < _FEW_HOSTS[peers.version] and not any(_within(peers, own) for own in (*_OWN, _SHARED))


def _within(inner: Network, outer: Network) -> bool:
    (version, first, last), (outer_version, outer_first, outer_last) = inner.span, outer.span
    return version == outer_version and outer_first <= first and last <= outer_last


def _recipients(domain: str) -> str:
    base = domain.removeprefix("*").removeprefix(".")
    return f'every domain below "{base}" that has no entry' if base else "every domain that has no entry"


def _senders(domain: str) -> str:
    if domain in {"*", ""}:
        return "any domain that has no entry" if domain else "no domain (the null sender)"
    return f'a domain below "{domain[2:]}"' if domain.startswith("*.") else f'"{domain}"'


def _named(network: Network) -> str:
    """Return a network for a sentence: KumoMTA's word is in quotes, as in the file."""
    return quoted(network.text) if network.text.isalpha() else network.text
