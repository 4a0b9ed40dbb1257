"""Membership of a peer in a list of networks. Costs one look-up for each prefix length in the list, however long it is."""

from collections.abc import Iterable

from sidecar.settings.names import IPAddress
from sidecar.settings.values import Network

_BITS = {4: 32, 6: 128}


class Networks:
    """An immutable set of networks that can tell which of them holds an address, the narrowest first."""

    def __init__(self, networks: Iterable[Network]) -> None:
        tables: dict[tuple[int, int], dict[int, Network]] = {}
        for network in networks:
            shift = _BITS[network.version] - network.prefix
            tables.setdefault((network.version, shift), {}).setdefault(network.first >> shift, network)
        self._tables = {
            version: sorted(
                ((shift, table) for (family, shift), table in tables.items() if family == version),
                key=lambda pair: pair[0],
            )
            for version in _BITS
        }

    def find(self, address: IPAddress) -> Network | None:
        """Give the narrowest network that holds `address`, or None."""
        number = int(address)
        for shift, table in self._tables[address.version]:
            if (network := table.get(number >> shift)) is not None:
                return network
        return None
