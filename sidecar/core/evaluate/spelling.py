"""How lines of a listener domains file are spelled, in TOML or, by the name of the file, in JSON."""

from collections.abc import Iterable, Mapping, Sequence

import msgspec

from sidecar.core.settings.values import ANY_LISTENER, DomainEntry, LogMode, Network
from sidecar.core.text import quoted

PERMISSIONS = ("relay_to", "relay_from", "relay_from_authz", "log_oob", "log_arf")
"""The keys of an entry, in the order of the documents."""

Value = bool | str | Sequence[str]


def is_json(file: str | None) -> bool:
    """Return True if KumoMTA reads a file of this name as JSON. Its pattern has any character in place of the dot."""
    return file is not None and not file.endswith("toml")


def values_of(entry: DomainEntry, keys: Iterable[str]) -> dict[str, Value]:
    """Return these keys of an entry with their values as a file has them. `false` stands for Ignore."""
    return {key: _plain(getattr(entry, key)) for key in keys}


def set_values(entry: DomainEntry) -> dict[str, Value]:
    """Return the keys that an entry sets; an entry that sets none permits nothing, which the line of one key shows."""
    return values_of(entry, [key for key in PERMISSIONS if key in entry.steps] or ["relay_to"])


def key_lines(file: str | None, values: Mapping[str, Value]) -> tuple[str, ...]:
    """Return one line for each key."""
    if is_json(file):
        return tuple(f"{_json(key)}: {_json(value)}" for key, value in values.items())
    return tuple(f"{key} = {_toml(value)}" for key, value in values.items())


def table_lines(file: str | None, tables: Mapping[str, Mapping[str, Value]], listener: str = ANY_LISTENER) -> tuple[str, ...]:
    """Return new tables by domain, for one listener or for all."""
    if is_json(file):
        members = [f"{_json(domain)}: {_json(values)}" for domain, values in tables.items()]
        if listener == ANY_LISTENER:
            return tuple(",\n".join(members).split("\n"))
        return (f'"listener": {{{_json(listener)}: {{{", ".join(members)}}}}}',)
    lines: list[str] = []
    for domain, values in tables.items():
        path = _toml(domain) if listener == ANY_LISTENER else f"listener.{_toml(listener)}.{_toml(domain)}"
        lines += [f"[{path}]", *key_lines(file, values)]
    return tuple(lines)


def _plain(value: bool | str | LogMode | Sequence[Network | str]) -> Value:  # noqa: FBT001 - any value of an entry
    if isinstance(value, LogMode):
        return False if value is LogMode.IGNORE else value.value
    if isinstance(value, bool | str):
        return value
    # `any` is two networks, and one word.
    return [*dict.fromkeys(item.text if isinstance(item, Network) else item for item in value)]


def _toml(value: Value) -> str:
    if isinstance(value, bool):
        return _json(value)
    if isinstance(value, str):
        return quoted(value, limit=len(value))
    return f"[{', '.join(map(_toml, value))}]"


def _json(value: Value | Mapping[str, Value]) -> str:
    return msgspec.json.encode(value).decode()
