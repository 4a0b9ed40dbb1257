"""Networks as sets of addresses.

netaddr's IPSet takes 50 ms to compare a network with 20,000 others: minutes for a list that is replaced.
"""

from bisect import bisect_right
from collections.abc import Iterable, Sequence

from sidecar.core.settings.values import Network

_BITS = {4: 32, 6: 128}

# A wider network belongs to more than one organisation: private use ends at a /8 (RFC 1918), and a large
# provider has a /19 of IPv6.
_WIDEST = {4: 8, 6: 16}

NetworkKey = tuple[int, int, int]


def key_of(network: Network) -> NetworkKey:
    """Return the key of a network, equal for all its spellings."""
    return network.version, network.first, network.prefix


def is_wide(network: Network) -> bool:
    """Return True if a network is wider than any organisation's."""
    return network.prefix < _WIDEST[network.version]


class AddressSpace:
    """The addresses of networks, as separate ranges."""

    def __init__(self, networks: Iterable[Network]) -> None:
        self._runs: dict[int, list[tuple[int, int]]] = {version: [] for version in _BITS}
        for network in sorted(networks, key=lambda network: network.first):
            runs = self._runs[network.version]
            first, last = _ends(network)
            if runs and first <= runs[-1][1] + 1:
                first, last = runs[-1][0], max(last, runs.pop()[1])
            runs.append((first, last))

    def holds(self, network: Network) -> bool:
        """Return True if every address of `network` is in the set."""
        first, last = _ends(network)
        return any(run[0] <= first and last <= run[1] for run in self._near(network))

    def touches(self, network: Network) -> bool:
        """Return True if some address of `network` is in the set."""
        first, last = _ends(network)
        return any(run[0] <= last and first <= run[1] for run in self._near(network))

    def _near(self, network: Network) -> Sequence[tuple[int, int]]:
        # The last range that begins before the end of the network: no other can contain it.
        runs = self._runs[network.version]
        index = bisect_right(runs, _ends(network)[1], key=lambda run: run[0])
        return runs[max(index - 1, 0) : index]


def _ends(network: Network) -> tuple[int, int]:
    return network.first, network.first + (1 << (_BITS[network.version] - network.prefix)) - 1
