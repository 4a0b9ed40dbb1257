"""Who may relay by an MTA's own settings, beside who may by the sidecar's.

Owns the comparison of the two sets of addresses. Never reads an MTA's spelling of them.
"""

import re
from collections.abc import Iterable, Iterator

import netaddr  # type: ignore[import-untyped]  # the package ships no annotations

from sidecar.core.settings.values import Network, Settings

# This machine's own connections: no stranger has such an address, and Debian lists more of them than anybody needs.
_LOOPBACK = netaddr.IPSet(["127.0.0.0/8", "::1"])
_LISTED = 20
_MAPPED = netaddr.IPNetwork("::ffff:0:0/96")  # the IPv4-mapped addresses (RFC 4291 section 2.5.5.2)


def block(text: str) -> netaddr.IPNetwork:
    """Read an address or a network as MTAs write them, an IPv4-mapped one as IPv4. Raises netaddr.AddrFormatError."""
    found = netaddr.IPNetwork(text)
    if found in _MAPPED:
        return netaddr.IPNetwork((found.first - _MAPPED.first, found.prefixlen - _MAPPED.prefixlen), version=4)
    return found


def relay_hosts(settings: Settings) -> netaddr.IPSet:
    """Give the addresses that are relay hosts on some listener."""
    lists = (settings.relay_hosts, *settings.listener_relay_hosts.values())
    return _addresses(network for each in lists for network in each.networks)


def relaying(settings: Settings) -> netaddr.IPSet:
    """Give the addresses that the sidecar lets relay, some of them only for senders in one domain."""
    return relay_hosts(settings) | _addresses(network for entry in settings.domains for network in entry.relay_from)


def beyond(some: netaddr.IPSet, others: netaddr.IPSet) -> list[str]:
    """Write the networks of `some` that are not in `others`; this machine's own do not count."""
    return [_written(found) for found in (some - others - _LOOPBACK).iter_cidrs()]


def forgets_this_machine(some: netaddr.IPSet, others: netaddr.IPSet) -> bool:
    """Tell whether 127.0.0.1 is in `some` and not in `others`. Whether ::1 is used at all cannot be told from settings."""
    return "127.0.0.1" in some - others


def holds_everybody(addresses: netaddr.IPSet) -> bool:
    """Tell whether a whole address family is among the addresses."""
    return any(found.prefixlen == 0 for found in addresses.iter_cidrs())


def listed(addresses: netaddr.IPSet) -> str | None:
    """Write addresses as a value of Postfix's mynetworks; None where there are too many for a sentence."""
    blocks = [str(found) for found in addresses.iter_cidrs()]
    return " ".join(re.sub(r"(.*:.*)(/.*)", r"[\1]\2", each) for each in blocks) if len(blocks) <= _LISTED else None


def _addresses(networks: Iterable[Network]) -> netaddr.IPSet:
    return netaddr.IPSet(_blocks(networks))


def _blocks(networks: Iterable[Network]) -> Iterator[netaddr.IPNetwork]:
    for network in networks:
        yield netaddr.IPNetwork((network.first, network.prefix), version=network.version)


def _written(found: netaddr.IPNetwork) -> str:
    return str(found.ip) if found.size == 1 else str(found)
