"""IP networks: parsed from text, and searched for an address.

Owns the strict CIDR form. Never decides what an address is permitted to do.
"""

import re
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Final

import netaddr  # type: ignore[import-untyped]  # the package ships no annotations

from sidecar.core.names import IPAddress
from sidecar.core.settings.values import Network

_BITS = {4: 32, 6: 128}
_CIDR = re.compile(r"([0-9.]{7,15}|[0-9A-Fa-f:.]{2,45})(?:/(0|[1-9][0-9]{0,2}))?")
_MAPPED: Final = netaddr.IPNetwork("::ffff:0:0/96")  # the IPv4-mapped addresses (RFC 4291 section 2.5.5.2)


class HostBitsError(ValueError):
    """An address inside a network: `host` is the address, `network` the network in full."""

    def __init__(self, host: str, network: str) -> None:
        super().__init__(f"{host} is one address inside {network}")
        self.host = host
        self.network = network


# Thousands of domains name the same few networks: they share one value.
@lru_cache(maxsize=65536)
def parse_network(text: str) -> Network:
    """Return an IP literal or a strict CIDR block: no short forms, no netmasks, no zone; an IPv4-mapped one as IPv4.

    Raise HostBitsError for one with host bits, ValueError for any other text.
    """
    try:
        block = netaddr.IPNetwork(text) if _CIDR.fullmatch(text) else None
    except netaddr.AddrFormatError:
        block = None
    if block is None:
        raise ValueError(text)
    if block.ip != block.network:
        raise HostBitsError(str(block.ip), str(block.cidr))
    if block in _MAPPED:
        return Network(text=text, version=4, first=block.first - _MAPPED.first, prefix=block.prefixlen - _MAPPED.prefixlen)
    return Network(text=text, version=block.version, first=block.first, prefix=block.prefixlen)


EVERY_ADDRESS: Final = tuple(Network(text="any", version=version, first=0, prefix=0) for version in (4, 6))
"""The networks of KumoMTA's word `any`. Both have that text."""


def texts(networks: Iterable[Network]) -> list[str]:
    """Return networks as they are written; `any`, which is two networks, once."""
    return [*dict.fromkeys(network.text for network in networks)]


def containing(networks: Sequence[Network], peer: IPAddress) -> list[Network]:
    """Return the networks with the peer, and those that are written as the same word."""
    version, number = peer.version, int(peer)
    found = {
        network.text
        for network in networks
        if network.version == version and (number ^ network.first) >> (_BITS[version] - network.prefix) == 0
    }
    return [network for network in networks if network.text in found]


class Networks:
    """An immutable set of networks."""

    def __init__(self, networks: Iterable[Network]) -> None:
        self._tables: dict[int, dict[int, dict[int, Network]]] = {4: {}, 6: {}}
        for network in sorted(networks, key=lambda network: network.prefix, reverse=True):
            shift = _BITS[network.version] - network.prefix
            self._tables[network.version].setdefault(shift, {}).setdefault(network.first >> shift, network)

    def find(self, address: IPAddress) -> Network | None:
        """Return the narrowest network with `address`, or None."""
        number = int(address)
        for shift, table in self._tables[address.version].items():
            if (network := table.get(number >> shift)) is not None:
                return network
        return None
