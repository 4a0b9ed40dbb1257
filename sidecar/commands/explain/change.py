"""A change of the settings as a value: what to write, where, and what it opens.

Owns the lines and their spelling, as TOML or, in a file named so, as JSON has them. Never decides which change helps.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

import msgspec
from msgspec import Struct

from sidecar.core.names import IPAddress
from sidecar.core.policy import Policy
from sidecar.core.settings.values import ANY_LISTENER, DomainEntry, LogMode, Network, NetworkList, Settings
from sidecar.core.text import quoted

Value = bool | str | Sequence[str]

EXAMPLES = {"log_oob": "bounce.example.com", "log_arf": "fbl.example.com"}
"""Domains that stand for the operator's own."""

REPORTS = {"log_oob": "bounces", "log_arf": "complaints"}

_BITS = {4: 32, 6: 128}
# A line with more networks than this is neither read nor pasted.
_NETWORKS_TOLD = 8
# A message may have a thousand recipients, each in a domain of its own.
_CHANGES_TOLD = 8


class Change(Struct, frozen=True, kw_only=True):
    """One change of the settings.

    `lines` belong at `file`:`line`, in place of what these keys have there; where `line` is None, they are a new table for
    `file`. The file is None where only the operator knows which. `opens` says what else the change lets in, if anything.
    """

    text: str
    file: str | None = None
    line: int | None = None
    key: str | None = None
    lines: tuple[str, ...] = ()
    opens: str | None = None


class Advice(Struct, frozen=True, kw_only=True):
    """What would make the policy `aim`: all of `changes` together, or any one of them, and what would be `then`.

    `more` counts changes for further domains that are left out, and alike.
    """

    aim: Literal["reject", "accept"]
    apply: Literal["all", "one"]
    changes: tuple[Change, ...]
    more: int = 0
    then: str


class Setup(Struct, frozen=True, kw_only=True):
    """One configuration, with what advice wants to know of it.

    `domains_file` is the listener domains file for a new table; `named` are the report keys that some domain which is no
    wildcard has.
    """

    settings: Settings
    policy: Policy
    domains_file: str | None
    named: frozenset[str]

    def relay_hosts(self, listener: str) -> NetworkList:
        """Give the list of relay hosts that holds on `listener`."""
        return self.settings.listener_relay_hosts.get(listener, self.settings.relay_hosts)


def set_up(settings: Settings, policy: Policy) -> Setup:
    """Look a configuration over once."""
    exact = [entry for entry in settings.domains if not entry.domain.startswith("*")]
    return Setup(
        settings=settings,
        policy=policy,
        domains_file=settings.domains[-1].lines[""][0] if settings.domains else None,
        named=frozenset(key for key in REPORTS if any(getattr(entry, key) is not LogMode.IGNORE for entry in exact)),
    )


def advise(aim: Literal["reject", "accept"], changes: Iterable[Change], *, apply: Literal["all", "one"], then: str) -> Advice:
    """Make one advice of these changes, each said once."""
    each = tuple(dict.fromkeys(changes))
    told = each[:_CHANGES_TOLD]
    return Advice(aim=aim, apply=apply, changes=told, more=len(each) - len(told), then=then)


def rewrite(entry: DomainEntry, values: Mapping[str, Value], text: str, *, opens: str | None = None) -> Change:
    """Give keys of an entry that is there other values."""
    where = entry.where(next(iter(values)) if len(values) == 1 else "")
    lines = tuple(_line(where.file, key, value) for key, value in values.items())
    return Change(text=text, file=where.file, line=where.line, key=where.key, lines=lines, opens=opens)


def new_table(  # noqa: PLR0913 - a table is where it stands, what it is called, what it says and why
    file: str | None, listener: str, domain: str, values: Mapping[str, Value], text: str, *, opens: str | None = None
) -> Change:
    """Add a domain that has no entry of its own."""
    if _is_json(file):
        table = f"{_json(domain)}: {_json(values)}"
        lines: tuple[str, ...] = (table if listener == ANY_LISTENER else f'"listener": {{{_json(listener)}: {{{table}}}}}',)
    else:
        path = _toml(domain) if listener == ANY_LISTENER else f"listener.{_toml(listener)}.{_toml(domain)}"
        lines = (f"[{path}]", *(_line(file, key, value) for key, value in values.items()))
    return Change(text=text, file=file, lines=lines, opens=opens)


def relay_hosts(setting: NetworkList, networks: Sequence[str], text: str, *, opens: str | None = None) -> Change:
    """Give the list of relay hosts these networks; where they are many, the text alone has to do."""
    where = setting.where
    lines = () if len(networks) > _NETWORKS_TOLD else (_line(None, "relay_hosts", networks),)
    if where is None:
        return Change(text=text, key="relay_hosts", lines=lines, opens=opens)
    return Change(text=text, file=where.file, line=where.line, key=where.key, lines=lines, opens=opens)


def values_of(entry: DomainEntry) -> dict[str, Value]:
    """Give what an entry sets to something else than the default."""
    values: dict[str, Value] = {"relay_to": True} if entry.relay_to else {}
    if entry.relay_from:
        values["relay_from"] = [network.text for network in entry.relay_from]
    if entry.relay_from_authz:
        values["relay_from_authz"] = entry.relay_from_authz
    modes = {"log_oob": entry.log_oob, "log_arf": entry.log_arf}
    return values | {key: mode.value for key, mode in modes.items() if mode is not LogMode.IGNORE}


def holding(networks: Iterable[Network], peer: IPAddress) -> list[Network]:
    """Give every network that holds `peer`."""
    version, number = peer.version, int(peer)
    return [
        network
        for network in networks
        if network.version == version and (number ^ network.first) >> (_BITS[version] - network.prefix) == 0
    ]


def is_wide(network: Network) -> bool:
    """Tell whether a network is more than one address."""
    return network.prefix < _BITS[network.version]


def _line(file: str | None, key: str, value: Value) -> str:
    return f"{_json(key)}: {_json(value)}" if _is_json(file) else f"{key} = {_toml(value)}"


def _toml(value: Value) -> str:
    if isinstance(value, bool):
        return _json(value)
    if isinstance(value, str):
        return quoted(value, limit=len(value))
    return f"[{', '.join(map(_toml, value))}]"


def _json(value: Value | Mapping[str, Value]) -> str:
    return msgspec.json.encode(value).decode()


def _is_json(file: str | None) -> bool:
    return file is not None and file.endswith(".json")
