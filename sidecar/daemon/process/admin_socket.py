"""The listening socket of [admin]: opened once, before root's rights are given up, and inherited by the process that serves it.

Owns the socket's name, its rights and its end. Never accepts a connection.
"""

import socket
from pathlib import Path
from types import TracebackType
from typing import Self

from sidecar.core.settings.values import AdminSettings
from sidecar.daemon.sockets import ListenError, SocketPath, private_path, resolve


class AdminSocket:
    """A socket that listens; `name` is in the settings' spelling. As a context manager, it removes its path in the end."""

    def __init__(self, one: socket.socket, name: str, path: SocketPath | None = None) -> None:
        self.socket = one
        self.name = name
        self._path = path

    def close(self) -> None:
        """Close the socket in this process; in others it still listens."""
        self.socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Close the socket, and remove its path."""
        self.close()
        if self._path is not None:
            self._path.remove()


def open_admin_socket(settings: AdminSettings) -> AdminSocket:
    """Open the socket of the settings. Raise ListenError."""
    kind, _, where = settings.socket.partition(":")
    if kind == "unix":
        one = socket.socket(socket.AF_UNIX)
        try:
            with private_path(settings, "admin") as private:
                one.bind(str(private))
        except BaseException:
            one.close()
            raise
    else:
        one = _inet(settings.socket)
    one.listen()
    return AdminSocket(one, settings.socket, SocketPath(Path(where)) if kind == "unix" else None)


def _inet(shown: str) -> socket.socket:
    try:
        family, address = resolve(shown)
        # asyncio sends small answers at once (TCP_NODELAY) only if it knows that this is TCP: 0.5 ms instead of 44.
        one = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    except OSError as error:
        raise ListenError(f"cannot listen on {shown}: {error.strerror}; choose an address of this machine") from error
    try:
        # Connections of a former sidecar that are still closing do not keep the port.
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        one.bind(address)
    except OSError as error:
        one.close()
        fix = "stop what is listening there, or choose another port for admin.socket"
        raise ListenError(f"cannot listen on {shown}: {error.strerror}; {fix}") from error
    return one
