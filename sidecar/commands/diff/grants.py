"""Compare what two entries permit for the same names.

Owns the words for each key, and whether a change opens or closes.
"""

from collections.abc import Collection, Iterator
from typing import Any, Final

from msgspec import Struct

from sidecar.commands.diff.space import AddressSpace, is_wide, key_of
from sidecar.commands.diff.values import Effect
from sidecar.core.settings.values import DomainEntry, LogMode, Network

_KEYS: Final = ("relay_to", "relay_from", "relay_from_authz", "log_oob", "log_arf")
_DEFAULTS: Final[dict[str, Any]] = {
    "relay_to": False,
    "relay_from": (),
    "relay_from_authz": (),
    "log_oob": LogMode.IGNORE,
    "log_arf": LogMode.IGNORE,
}
_REPORTS: Final = {"log_oob": "bounce reports", "log_arf": "feedback reports"}
_DISPOSITIONS: Final = {LogMode.LOG_THEN_RELAY: "relayed", LogMode.LOG_THEN_DROP: "dropped"}
# How far a report gets: 0 is rejected.
_REACH: Final = {LogMode.IGNORE: 0, LogMode.LOG_THEN_DROP: 1, LogMode.LOG_THEN_RELAY: 2}
_RELAYED: Final = _REACH[LogMode.LOG_THEN_RELAY]
_NAMED: Final = 3


class KeyDifference(Struct, frozen=True, kw_only=True):
    """One key with a different effect. `old` and `new` are JSON values."""

    key: str
    effect: Effect
    danger: bool = False
    old: Any
    new: Any
    text: str


def differences(names: str, before: DomainEntry | None, after: DomainEntry | None) -> Iterator[KeyDifference]:
    """Yield, key by key, what changes for `names` that find `after` instead of `before`; None is no entry."""
    for key in _KEYS:
        old, new = value_of(before, key), value_of(after, key)
        if old == new:
            continue
        match key:
            case "relay_to":
                yield _relay_to(names, old=old, new=new)
            case "relay_from":
                yield from _relay_from(names, old, new)
            case "relay_from_authz":
                yield from _relay_from_authz(names, old, new)
            case _:
                yield _log(names, key, before, after)


def value_of(entry: DomainEntry | None, key: str) -> Any:  # noqa: ANN401 - each key has a type of its own
    """Return the value of `key`, or the default without an entry."""
    return _DEFAULTS[key] if entry is None else getattr(entry, key)


def _relay_to(names: str, *, old: bool, new: bool) -> KeyDifference:
    text = f"every host can relay to {names}" if new else f"external hosts can no longer relay to {names}"
    return KeyDifference(key="relay_to", effect="opens" if new else "closes", danger=new, old=old, new=new, text=text)


def _log(names: str, key: str, before: DomainEntry | None, after: DomainEntry | None) -> KeyDifference:
    old, new = value_of(before, key), value_of(after, key)
    # With relay_to, before and after, a report that is not logged is relayed as other mail.
    relays = value_of(before, "relay_to") and value_of(after, "relay_to")
    reached, reach = (_RELAYED if relays and mode is LogMode.IGNORE else _REACH[mode] for mode in (old, new))
    what = f"{_REPORTS[key]} to {names}"
    if new is LogMode.IGNORE:
        mail = "relayed as other mail, and no longer logged"
        text = f"{what} are {mail if reach else 'no longer accepted from external hosts'}"
    elif reached == 0:
        text = f"external hosts pass RCPT for {names}: {_REPORTS[key]} are logged and {_DISPOSITIONS[new]}"
    elif reach == reached:
        text = f"{what} are logged, and relayed as before"
    else:
        earlier = _DISPOSITIONS[LogMode.LOG_THEN_RELAY if reached == _RELAYED else LogMode.LOG_THEN_DROP]
        text = f"{what} are logged and {_DISPOSITIONS[new]}, no longer {earlier}"
    effect: Effect = "neither" if reach == reached else "opens" if reach > reached else "closes"
    return KeyDifference(key=key, effect=effect, old=old.value, new=new.value, text=text)


def _relay_from(names: str, old: tuple[Network, ...], new: tuple[Network, ...]) -> Iterator[KeyDifference]:
    if set(map(key_of, old)) == set(map(key_of, new)):
        return
    old_space, new_space = AddressSpace(old), AddressSpace(new)
    added = [network for network in new if not old_space.holds(network)]
    gone = [network.text for network in old if not new_space.holds(network)]
    yield _senders(
        "relay_from",
        names,
        added=[network.text for network in added],
        gone=gone,
        danger=any(map(is_wide, added)),
        values=([network.text for network in old], [network.text for network in new]),
    )


def _relay_from_authz(names: str, old: tuple[str, ...], new: tuple[str, ...]) -> Iterator[KeyDifference]:
    added, gone = [name for name in new if name not in set(old)], [name for name in old if name not in set(new)]
    if added or gone:
        yield _senders("relay_from_authz", names, added=added, gone=gone, values=(list(old), list(new)))


def _senders(  # noqa: PLR0913 - what both lists of senders have in common
    key: str, names: str, *, added: list[str], gone: list[str], values: tuple[list[str], list[str]], danger: bool = False
) -> KeyDifference:
    parts = [f"{_some(added)} can relay to every domain with a sender in {names}"] if added else []
    parts += [f"{_some(gone)} can no longer relay with a sender in {names}"] if gone else []
    text = "; ".join(parts) or "no effect: the networks have the same addresses"
    effect: Effect = "opens" if added else "closes" if gone else "neither"
    return KeyDifference(key=key, effect=effect, danger=danger, old=values[0], new=values[1], text=text)


def _some(names: Collection[str]) -> str:
    *first, last = list(names)[:_NAMED]
    if (more := len(names) - _NAMED) > 0:
        return f"{', '.join([*first, last])} and {more} more"
    return f"{', '.join(first)} and {last}" if first else last
