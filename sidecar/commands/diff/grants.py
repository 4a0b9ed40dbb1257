"""Compare what two entries permit for the same names.

Owns the words for each key, and whether a change opens or closes.
"""

from collections.abc import Iterator
from typing import Any, Final

from msgspec import Struct

from sidecar.commands.diff.hosts import AddressSpace, by_key, is_wide, texts
from sidecar.commands.diff.values import Effect, effect_of
from sidecar.core.settings.values import DomainEntry, LogMode

_NO_ENTRY: Final = DomainEntry(listener="", domain="", path="", lines={})
_REPORTS: Final = {"log_oob": "bounce reports", "log_arf": "feedback reports"}
# How far a report gets: 0 is rejected.
_REACH: Final = {LogMode.IGNORE: 0, LogMode.LOG_THEN_DROP: 1, LogMode.LOG_THEN_RELAY: 2}
_DISPOSITIONS: Final = {1: "dropped", 2: "relayed"}
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
    old, new = before or _NO_ENTRY, after or _NO_ENTRY
    if (opens := new.relay_to) != old.relay_to:
        text = f"every host can relay to {names}" if opens else f"external hosts can no longer relay to {names}"
        effect: Effect = "opens" if opens else "closes"
        yield KeyDifference(key="relay_to", effect=effect, danger=opens, old=not opens, new=opens, text=text)
    if by_key(old.relay_from).keys() != by_key(new.relay_from).keys():
        old_space, new_space = AddressSpace(old.relay_from), AddressSpace(new.relay_from)
        more = [network for network in new.relay_from if not old_space.holds(network)]
        less = [network for network in old.relay_from if not new_space.holds(network)]
        effect, text = _senders(names, texts(more), texts(less))
        was, now = texts(old.relay_from), texts(new.relay_from)
        yield KeyDifference(key="relay_from", effect=effect, danger=any(map(is_wide, more)), old=was, new=now, text=text)
    was, now = list(old.relay_from_authz), list(new.relay_from_authz)
    if (known := set(was)) != (kept := set(now)):
        effect, text = _senders(names, [name for name in now if name not in known], [name for name in was if name not in kept])
        yield KeyDifference(key="relay_from_authz", effect=effect, old=was, new=now, text=text)
    # With relay_to, before and after, a report that is not logged is relayed as other mail.
    unlogged = _REACH[LogMode.LOG_THEN_RELAY] if old.relay_to and new.relay_to else 0
    for key in _REPORTS:
        if getattr(old, key) is not getattr(new, key):
            yield _log(key, names, getattr(old, key), getattr(new, key), unlogged)


def _senders(names: str, added: list[str], gone: list[str]) -> tuple[Effect, str]:
    parts = [f"{_some(added)} can relay to every domain with a sender in {names}"] if added else []
    parts += [f"{_some(gone)} can no longer relay with a sender in {names}"] if gone else []
    effect: Effect = "opens" if added else "closes" if gone else "neither"
    return effect, "; ".join(parts) or "no effect: the networks have the same addresses"


def _some(names: list[str]) -> str:
    if (more := len(names) - _NAMED) > 0:
        return f"{', '.join(names[:_NAMED])} and {more} more"
    return " and ".join(filter(None, (", ".join(names[:-1]), names[-1])))


def _log(key: str, names: str, old: LogMode, new: LogMode, unlogged: int) -> KeyDifference:
    """Return the change of a log mode. A report that is not logged gets as far as `unlogged`."""
    before, after = _REACH[old] or unlogged, _REACH[new] or unlogged
    if new is LogMode.IGNORE:
        then = "relayed as other mail, and no longer logged" if after else "no longer accepted from external hosts"
        text = f"{_REPORTS[key]} to {names} are {then}"
    elif not before:
        text = f"external hosts pass RCPT for {names}: {_REPORTS[key]} are logged and {_DISPOSITIONS[after]}"
    elif after == before:
        text = f"{_REPORTS[key]} to {names} are logged, and relayed as before"
    else:
        text = f"{_REPORTS[key]} to {names} are logged and {_DISPOSITIONS[after]}, no longer {_DISPOSITIONS[before]}"
    return KeyDifference(key=key, effect=effect_of(before, after), old=old.value, new=new.value, text=text)
