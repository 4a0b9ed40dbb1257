"""Listeners at which no connection can end.

Owns what an MTA can tell as its own end of a connection. Never asks whether this machine has such an address.
"""

from sidecar.config.warnings.findings import Findings
from sidecar.core.findings import Finding, warning
from sidecar.core.names import HIGHEST_PORT, split_endpoint
from sidecar.core.settings.values import ANY_LISTENER, Settings, Where


def note_listeners(settings: Settings, findings: Findings) -> None:
    """Note the listeners that are no connection's own end."""
    for listener, where in listeners_of(settings).items():
        if not is_an_end(listener):
            findings.note(_no_end, where, listener)


def listeners_of(settings: Settings) -> dict[str, Where | None]:
    """Give every listener that has something of its own, and one place where it stands."""
    places = {listener: hosts.where for listener, hosts in settings.listener_relay_hosts.items()}
    for entry in settings.domains:
        if entry.listener not in places and entry.listener != ANY_LISTENER:
            places[entry.listener] = entry.where("")
    return places


def is_an_end(listener: str) -> bool:
    """Tell whether a TCP connection can have this as its own end: an address of one host, and a port."""
    address, port = split_endpoint(listener)
    return not (address.is_unspecified or address.is_multicast) and port in range(1, HIGHEST_PORT + 1)


def _no_end(where: Where | None, listener: str) -> Finding:
    """A socket may listen on 0.0.0.0, but what the MTA tells is the address that the peer connected to."""
    return warning(
        "never_matches",
        where,
        f"No connection ends at {listener}, so nothing that is set for this listener has an effect.",
        'Write the address and port that peers connect to, such as "203.0.113.1:25", or set it for every listener.',
    )
