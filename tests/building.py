"""Settings and policies for tests, built by hand: what a file would say, without the file."""

from collections.abc import Iterable, Mapping
from ipaddress import ip_network
from pathlib import Path
from typing import Any, Literal

from sidecar.core.settings.settings import Settings
from sidecar.core.settings.values import (
    ANY_LISTENER,
    DomainEntry,
    JournalSettings,
    LogMode,
    LogSettings,
    MilterSettings,
    Network,
    NetworkList,
    Where,
)

MODES = {mode.value: mode for mode in LogMode}


def network(text: str) -> Network:
    """Read a network as the settings room would."""
    parsed = ip_network(text)
    version: Literal[4, 6] = 4 if parsed.version == 4 else 6
    return Network(text=text, version=version, first=int(parsed.network_address), prefix=parsed.prefixlen)


def networks(*texts: str, key: str = "relay_hosts") -> NetworkList:
    """Make a list of relay hosts that stands on line 1 of sidecar.toml."""
    where = Where(file="sidecar.toml", line=1, key=key)
    return NetworkList(networks=tuple(map(network, texts)), where=where)


def entry(domain: str, listener: str = ANY_LISTENER, **keys: Any) -> DomainEntry:
    """Make a listener domain; its table stands on line 1 of domains.toml and its keys on the lines after it."""
    steps = {key: ("domains.toml", step) for step, key in enumerate(["", *keys])}
    values: dict[str, Any] = {
        key: MODES[value]
        if key.startswith("log_")
        else tuple(map(network, value))
        if key == "relay_from"
        else tuple(value)
        if key == "relay_from_authz"
        else value
        for key, value in keys.items()
    }
    path = f'"{domain}"' if listener == ANY_LISTENER else f'listener."{listener}"."{domain}"'
    return DomainEntry(listener=listener, domain=domain, path=path, line=1, steps=steps, **values)


def settings(
    domains: Iterable[DomainEntry] = (),
    *,
    relay_hosts: Iterable[str] = ("127.0.0.1", "::1"),
    listener_relay_hosts: Mapping[str, Iterable[str]] | None = None,
    **more: Any,
) -> Settings:
    """Make whole settings around some listener domains."""
    return Settings(
        relay_hosts=networks(*relay_hosts),
        listener_relay_hosts={
            listener: networks(*texts, key=f'listener."{listener}".relay_hosts')
            for listener, texts in (listener_relay_hosts or {}).items()
        },
        milter=MilterSettings(),
        journal=JournalSettings(directory=Path("journal")),
        log=LogSettings(),
        state_directory=Path("state"),
        domains=tuple(domains),
        **more,
    )
