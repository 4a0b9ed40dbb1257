"""Whether the socket an MTA names is the one the sidecar listens on.

Owns that comparison, for both MTAs. Never opens a socket.
"""

import ipaddress
from pathlib import Path

from sidecar.config.readers import WrongValue
from sidecar.config.sockets import socket_in


def socket_of(address: str, folder: Path) -> str | None:
    """Give an MTA's milter address as the sidecar's settings would hold it; a relative path starts in `folder`."""
    try:
        return socket_in(folder, "a socket")(address)
    except WrongValue:
        return None


def same_socket(named: str, listening: str) -> bool:
    """Tell whether `named` reaches `listening`, both in the sidecar's spelling.

    A host name is taken at its word, for only the MTA's machine can look it up; and so is every address where the sidecar
    listens on all of them.
    """
    if named == listening or named.startswith("unix:") or listening.startswith("unix:"):
        return named == listening
    host, port = _split(named)
    own_host, own_port = _split(listening)
    return port == own_port and (_is_name(host) or _is_name(own_host) or _reaches(host, own_host))


def _split(socket: str) -> tuple[str, str]:
    host, _, port = socket.removeprefix("inet:").rpartition(":")
    return host.strip("[]"), port


def _is_name(host: str) -> bool:
    return not host.replace(".", "").isdigit() and ":" not in host


def _reaches(host: str, own_host: str) -> bool:
    return host == own_host or ipaddress.ip_address(own_host).is_unspecified
