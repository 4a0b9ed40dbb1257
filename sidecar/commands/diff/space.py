"""Lists of networks as sets of addresses: whether one holds what another does.

Owns the arithmetic of addresses. Never says what a network may do.
"""

from bisect import bisect_right
from collections.abc import Iterable, Sequence

from sidecar.core.settings.values import Network

_BITS = {4: 32, 6: 128}

# A network wider than these holds more than any one organisation's own: private use ends at a /8 (RFC 1918), and a large
# provider's allocation at a /19 (IPv6).
_WIDEST = {4: 8, 6: 16}

NetworkKey = tuple[int, int, int]


def key_of(network: Network) -> NetworkKey:
    """Give what makes two spellings of one network equal."""
    return network.version, network.first, network.prefix


def is_wide(network: Network) -> bool:
    """Tell whether a network lets in more or less everybody."""
    return network.prefix < _WIDEST[network.version]


class AddressSpace:
    """The addresses of some networks, as runs that neither touch nor overlap."""

    def __init__(self, networks: Iterable[Network]) -> None:
        self._runs: dict[int, list[tuple[int, int]]] = {version: [] for version in _BITS}
        for network in sorted(networks, key=lambda network: network.first):
            runs = self._runs[network.version]
            first, last = _ends(network)
            if runs and first <= runs[-1][1] + 1:
                first, last = runs[-1][0], max(last, runs.pop()[1])
            runs.append((first, last))

    def holds(self, network: Network) -> bool:
        """Tell whether every address of `network` is in here."""
        first, last = _ends(network)
        return any(run[0] <= first and last <= run[1] for run in self._near(network))

    def touches(self, network: Network) -> bool:
        """Tell whether some address of `network` is in here."""
        first, last = _ends(network)
        return any(run[0] <= last and first <= run[1] for run in self._near(network))

    def _near(self, network: Network) -> Sequence[tuple[int, int]]:
        """Give the last run that begins no later than the network ends: no other one can hold or touch more of it."""
        runs = self._runs[network.version]
        index = bisect_right(runs, _ends(network)[1], key=lambda run: run[0])
        return runs[max(index - 1, 0) : index]


def _ends(network: Network) -> tuple[int, int]:
    return network.first, network.first + (1 << (_BITS[network.version] - network.prefix)) - 1
