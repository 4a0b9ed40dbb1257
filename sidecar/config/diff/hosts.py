"""Changes of relay_hosts, the global list and those of listeners, as sets of addresses.

netaddr's IPSet takes 50 ms to compare a network with 20,000 others: minutes for a list that is replaced.
"""

from bisect import bisect_right
from collections.abc import Iterable, Iterator
from functools import partial

from sidecar.config.diff.values import RuleChange, Side
from sidecar.core.networks import texts
from sidecar.core.settings.values import Network, NetworkList
from sidecar.core.text import quoted

# A wider network belongs to more than one organisation: private use ends at a /8 (RFC 1918), and a large
# provider has a /19 of IPv6.
_WIDEST = {4: 8, 6: 16}


def host_changes(old: Side, new: Side) -> Iterator[RuleChange]:
    """Yield the networks that were added or removed."""
    before, after = _lists(old), _lists(new)
    for listener in before | after:
        key = "relay_hosts" if listener is None else f"listener.{quoted(listener)}.relay_hosts"
        change = partial(RuleChange, kind="relay_hosts", listener=listener, key=key)
        was, now = before.get(listener, before[None]), after.get(listener, after[None])
        same = "no effect: it has the networks of the global relay_hosts"
        if by_key(was.networks).keys() != by_key(now.networks).keys():
            yield from dict.fromkeys(_list_changes(change, old, was, new, now))  # `any` is two networks
        elif listener not in before:
            yield change(action="added", new=new.spot(texts(now.networks), now.where), text=same)
        elif listener not in after:
            yield change(action="removed", old=old.spot(texts(was.networks), was.where), text=same)


def _lists(side: Side) -> dict[str | None, NetworkList]:
    """Return the lists by listener; None is for all listeners without a list."""
    return dict([(None, side.evaluator.settings.relay_hosts), *side.evaluator.settings.listener_relay_hosts.items()])


def _list_changes(
    change: partial[RuleChange], old: Side, was: NetworkList, new: Side, now: NetworkList
) -> Iterator[RuleChange]:
    on = f" on {listener}" if (listener := change.keywords["listener"]) else ""
    before, after = by_key(was.networks), by_key(now.networks)
    old_space, new_space = AddressSpace(was.networks), AddressSpace(now.networks)
    for network in (after[key] for key in after if key not in before):
        spot, wide = new.spot(network.text, now.where), is_wide(network)
        if old_space.holds(network):
            yield change(action="added", new=spot, text=f"no effect: the list before already contains {network.text}")
        else:
            text = f"{network.text} can relay to every domain{on}{': that is most of the internet' if wide else ''}"
            yield change(action="added", effect="opens", danger=wide, new=spot, text=text)
    for network in (before[key] for key in before if key not in after):
        spot = old.spot(network.text, was.where)
        if new_space.holds(network):
            yield change(action="removed", old=spot, text=f"no effect: the list still contains {network.text}")
        else:
            rest = ", except for addresses in other networks of the list" if new_space.touches(network) else ""
            yield change(action="removed", effect="closes", old=spot, text=f"{network.text} can no longer relay{on}{rest}")


def by_key(networks: Iterable[Network]) -> dict[tuple[int, int, int], Network]:
    """Return networks by a key that is equal for all spellings of a network."""
    return {network.span: network for network in networks}


def is_wide(network: Network) -> bool:
    """Return True if a network is wider than any organisation's."""
    return network.prefix < _WIDEST[network.version]


class AddressSpace:
    """The addresses of networks, as separate ranges."""

    def __init__(self, networks: Iterable[Network]) -> None:
        self._runs: dict[int, list[tuple[int, int]]] = {version: [] for version in _WIDEST}
        for network in sorted(networks, key=lambda network: network.first):
            version, first, last = network.span
            runs = self._runs[version]
            if runs and first <= runs[-1][1] + 1:
                first, last = runs[-1][0], max(last, runs.pop()[1])
            runs.append((first, last))

    def holds(self, network: Network) -> bool:
        """Return True if every address of `network` is in the set."""
        (_, first, last), run = network.span, self._near(network)
        return run is not None and run[0] <= first and last <= run[1]

    def touches(self, network: Network) -> bool:
        """Return True if some address of `network` is in the set."""
        run = self._near(network)
        return run is not None and network.first <= run[1]

    def _near(self, network: Network) -> tuple[int, int] | None:
        """Return the last range that begins before the end of the network: no other can contain it."""
        version, _, last = network.span
        runs = self._runs[version]
        index = bisect_right(runs, last, key=lambda run: run[0])
        return runs[index - 1] if index else None
