"""What changes in relay_hosts, the global list and those of single listeners, as sets of addresses.

Owns the meaning of these changes. Never looks at listener domains.
"""

from collections.abc import Iterator

from msgspec import Struct

from sidecar.commands.diff.space import AddressSpace, is_wide, key_of
from sidecar.commands.diff.values import RuleChange, Side
from sidecar.core.settings.values import Network, NetworkList
from sidecar.core.text import quoted


class _Lists(Struct, frozen=True, kw_only=True):
    """The list that holds on one listener before and after; `listener` None is every listener without a list of its own."""

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
    """Give the networks that were added and taken out."""
    before, after = old.settings, new.settings
    yield from _changes(_Lists(listener=None, old=before.relay_hosts, new=after.relay_hosts), old, new)
    for listener in dict.fromkeys((*before.listener_relay_hosts, *after.listener_relay_hosts)):
        own = before.listener_relay_hosts.get(listener), after.listener_relay_hosts.get(listener)
        lists = _Lists(listener=listener, old=own[0] or before.relay_hosts, new=own[1] or after.relay_hosts)
        changes = list(_changes(lists, old, new))
        if not changes and None in own:
            changes = [_only_its_own(lists, old, new, added=own[0] is None)]
        yield from changes


def _only_its_own(lists: _Lists, old: Side, new: Side, *, added: bool) -> RuleChange:
    """A listener got a list of its own, or lost it, and the list that holds instead has the same networks."""
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
        text="nothing changes: it holds what the global relay_hosts holds",
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
            yield _taken_out(lists, network, new_space, old)


def _added(lists: _Lists, network: Network, old_space: AddressSpace, new: Side) -> RuleChange:
    known, wide = old_space.holds(network), is_wide(network)
    text = f"{network.text} may relay to anywhere{lists.on}"
    if known:
        text = f"nothing changes: what was listed before holds {network.text} already"
    elif wide:
        text += ": that is more or less everybody"
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


def _taken_out(lists: _Lists, network: Network, new_space: AddressSpace, old: Side) -> RuleChange:
    kept = new_space.holds(network)
    rest = ", but for what other networks in the list hold of it" if new_space.touches(network) else ""
    text = f"{network.text} may not relay any more{lists.on}{rest}"
    if kept:
        text = f"nothing changes: what is listed now still holds {network.text}"
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
