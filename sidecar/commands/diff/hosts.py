"""Changes of relay_hosts, the global list and those of listeners, as sets of addresses."""

from collections.abc import Iterator

from msgspec import Struct

from sidecar.commands.diff.space import AddressSpace, is_wide, key_of
from sidecar.commands.diff.values import RuleChange, Side
from sidecar.core.settings.values import Network, NetworkList
from sidecar.core.text import quoted


class _Lists(Struct, frozen=True, kw_only=True):
    """The list of one listener before and after. `listener` is None for all listeners without a list."""

    listener: str | None
    old: NetworkList
    new: NetworkList

    @property
    def key(self) -> str:
        return "relay_hosts" if self.listener is None else f"listener.{quoted(self.listener)}.relay_hosts"

    @property
    def on(self) -> str:
        return "" if self.listener is None else f" on {self.listener}"


def host_changes(old: Side, new: Side) -> Iterator[RuleChange]:
    """Yield the networks that were added or removed."""
    before, after = old.settings, new.settings
    yield from _changes(_Lists(listener=None, old=before.relay_hosts, new=after.relay_hosts), old, new)
    for listener in dict.fromkeys((*before.listener_relay_hosts, *after.listener_relay_hosts)):
        own = before.listener_relay_hosts.get(listener), after.listener_relay_hosts.get(listener)
        lists = _Lists(listener=listener, old=own[0] or before.relay_hosts, new=own[1] or after.relay_hosts)
        changes = list(_changes(lists, old, new))
        if not changes and None in own:
            changes = [_same_networks(lists, old, new, added=own[0] is None)]
        yield from changes


def _same_networks(lists: _Lists, old: Side, new: Side, *, added: bool) -> RuleChange:
    """Return the change of a listener's list that was added or removed, with the networks of the global list."""
    held, side = (lists.new, new) if added else (lists.old, old)
    spot = side.spot([network.text for network in held.networks], held.where)
    return RuleChange(
        kind="relay_hosts",
        action="added" if added else "removed",
        effect="neither",
        listener=lists.listener,
        key=lists.key,
        old=None if added else spot,
        new=spot if added else None,
        text="no effect: it has the networks of the global relay_hosts",
    )


def _changes(lists: _Lists, old: Side, new: Side) -> Iterator[RuleChange]:
    before = {key_of(network): network for network in lists.old.networks}
    after = {key_of(network): network for network in lists.new.networks}
    if before.keys() == after.keys():
        return
    old_space, new_space = AddressSpace(before.values()), AddressSpace(after.values())
    for key, network in after.items():
        if key not in before:
            yield _added(lists, network, old_space, new)
    for key, network in before.items():
        if key not in after:
            yield _removed(lists, network, new_space, old)


def _added(lists: _Lists, network: Network, old_space: AddressSpace, new: Side) -> RuleChange:
    known, wide = old_space.holds(network), is_wide(network)
    text = f"{network.text} can relay to every domain{lists.on}"
    if known:
        text = f"no effect: the list before already contains {network.text}"
    elif wide:
        text += ": that is most of the internet"
    return RuleChange(
        kind="relay_hosts",
        action="added",
        effect="neither" if known else "opens",
        danger=wide and not known,
        listener=lists.listener,
        key=lists.key,
        old=None,
        new=new.spot(network.text, lists.new.where),
        text=text,
    )


def _removed(lists: _Lists, network: Network, new_space: AddressSpace, old: Side) -> RuleChange:
    kept = new_space.holds(network)
    rest = ", except for addresses in other networks of the list" if new_space.touches(network) else ""
    text = f"{network.text} can no longer relay{lists.on}{rest}"
    if kept:
        text = f"no effect: the list still contains {network.text}"
    return RuleChange(
        kind="relay_hosts",
        action="removed",
        effect="neither" if kept else "closes",
        listener=lists.listener,
        key=lists.key,
        old=old.spot(network.text, lists.old.where),
        new=None,
        text=text,
    )
