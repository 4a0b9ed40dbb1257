"""An MTA's own relay control compared with the sidecar's: domains that it relays to, and networks that can relay.

Never reads an MTA's settings.
"""

import re
from collections.abc import Callable, Iterable, Iterator

import netaddr  # type: ignore[import-untyped]  # the package ships no annotations

from sidecar.commands.doctor.findings import Found, some
from sidecar.core.names import is_literal, lineage
from sidecar.core.open_domains import OpenDomains, Pattern, boundary
from sidecar.core.settings.settings import Settings
from sidecar.core.settings.values import Network

# No external host has these addresses, and Debian lists more of them than needed.
_LOOPBACK = netaddr.IPSet(["127.0.0.0/8", "::1"])
_LISTED = 20
_MAPPED = netaddr.IPNetwork("::ffff:0:0/96")  # the IPv4-mapped addresses (RFC 4291 section 2.5.5.2)


def compare(  # noqa: PLR0913 - the relay control of any MTA
    domains: OpenDomains,
    *,
    mta: str,
    key: str,
    relays: Callable[[str], bool],
    accepts: Callable[[str], bool],
    names: Iterable[str],
    fix: str,
    remove: str,
) -> Iterator[Found]:
    """Return one finding for all that the MTA rejects and the sidecar accepts, and one for all that it relays beyond that.

    The MTA `relays` to other hosts; `accepts` adds the domains that end at this machine. `names` are all names in its settings.
    `fix` is what to add, `remove` what to remove.
    """
    # As in the export, without address literals.
    every = {name for listed in (*domains.names, *names) for name in lineage(listed) if not is_literal(name)}
    if rejected := _patterns(every, lambda name: name in domains and not accepts(name)):
        text = f"{mta} rejects mail for {some(rejected)} before it asks the sidecar, which accepts it from external hosts."
        yield "error", "rejected_before_sidecar", key, text, fix
    if wider := _patterns(every, lambda name: relays(name) and name not in domains):
        text = f"{mta} relays to {some(wider)} for any host: only the sidecar rejects that mail."
        yield "warning", "relays_beyond_policy", key, text, remove


def compare_hosts(  # noqa: PLR0913 - the relay control of any MTA
    mta: str, key: str, allowed: netaddr.IPSet, wanted: netaddr.IPSet, *, fix: str, remove: str
) -> Iterator[Found]:
    """Compare the hosts that can relay by the settings of both."""
    if wider := beyond(allowed, wanted):
        text = f"{mta} lets {some(wider)} relay, and the sidecar does not: only the sidecar rejects that mail."
        yield "warning", "relays_beyond_policy", key, text, remove
    if narrower := beyond(wanted, allowed):
        text = f"{some(narrower)} can relay by the sidecar's settings, but {mta} rejects that mail before it asks the sidecar."
        yield "error", "rejected_before_sidecar", key, text, fix


def _patterns(names: Iterable[str], holds: Callable[[str], bool]) -> list[str]:
    """Write the set `holds` in few patterns: a name is left out if the set has all names below its parent."""
    rest = Pattern(name="", below=True)
    members = [pattern for pattern, is_member in boundary(holds, sorted(names)).items() if is_member]
    return [str(pattern) for pattern in ([rest, *members] if holds(rest.probe) else members)]


def block(text: str) -> netaddr.IPNetwork:
    """Return the network of an address or CIDR block, an IPv4-mapped one as IPv4. Raise netaddr.AddrFormatError."""
    found = netaddr.IPNetwork(text)
    if found in _MAPPED:
        return netaddr.IPNetwork((found.first - _MAPPED.first, found.prefixlen - _MAPPED.prefixlen), version=4)
    return found


def relay_hosts(settings: Settings) -> netaddr.IPSet:
    """Return the addresses that are relay hosts on some listener."""
    lists = (settings.relay_hosts, *settings.listener_relay_hosts.values())
    return _addresses(network for each in lists for network in each.networks)


def global_relay_hosts(settings: Settings) -> netaddr.IPSet:
    """Return the relay hosts for mail without a listener."""
    return _addresses(settings.relay_hosts.networks)


def relaying(settings: Settings) -> netaddr.IPSet:
    """Return the addresses that can relay by the sidecar's settings, some of them only for senders in one domain."""
    return relay_hosts(settings) | _addresses(network for entry in settings.domains for network in entry.relay_from)


def _addresses(networks: Iterable[Network]) -> netaddr.IPSet:
    return netaddr.IPSet([netaddr.IPNetwork((each.first, each.prefix), version=each.version) for each in networks])


def beyond(addresses: netaddr.IPSet, *others: netaddr.IPSet) -> list[str]:
    """Return the networks of the first set that are in none of the others, without this machine's own."""
    for each in (*others, _LOOPBACK):
        addresses -= each
    return in_words(addresses)


def in_words(addresses: netaddr.IPSet) -> list[str]:
    """Return the networks of a set; one of a single address as this address."""
    return [str(found.ip) if found.size == 1 else str(found) for found in addresses.iter_cidrs()]


def in_mynetworks(addresses: netaddr.IPSet) -> str | None:
    """Write addresses as a value of Postfix's mynetworks; None if there are too many for a sentence."""
    blocks = [re.sub(r"(.*:.*)(/.*)", r"[\1]\2", str(found)) for found in addresses.iter_cidrs()]
    return " ".join(blocks) if len(blocks) <= _LISTED else None
