"""The listening socket of [admin]: opened once, before root's rights are given up, and inherited by the process that serves it.

Owns the socket's name, its rights and its end. Never accepts a connection.
"""

import os
import socket
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from sidecar.core.settings.values import AdminSettings
from sidecar.daemon.milter.listener import ListenError, give, refuse_if_taken


class AdminSocket:
    """A socket that listens; `name` is as the settings spell it. As a context manager, it takes its path away in the end."""

    def __init__(self, one: socket.socket, name: str, path: Path | None = None) -> None:
        self.socket = one
        self.name = name
        self._path = path
        self._inode = None if path is None else path.stat().st_ino

    def close(self) -> None:
        """Let go of the socket in this process; in others it goes on to listen."""
        self.socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Let go of the socket, and take its path away if it is still ours and its folder lets us."""
        self.close()
        if self._path is not None:
            with suppress(FileNotFoundError, PermissionError):
                if self._path.stat().st_ino == self._inode:
                    self._path.unlink()


def open_admin_socket(settings: AdminSettings) -> AdminSocket:
    """Open the socket of the settings. Raises ListenError."""
    kind, _, where = settings.socket.partition(":")
    one = _unix(Path(where), settings) if kind == "unix" else _inet(where, settings.socket)
    one.listen()
    return AdminSocket(one, settings.socket, Path(where) if kind == "unix" else None)


def _unix(path: Path, settings: AdminSettings) -> socket.socket:
    """Bind a private name, give it its rights, and only then rename it to the public one, as the milter's is."""
    private = path.with_name(f"{path.name}.{os.getpid()}")
    refuse_if_taken(path, "admin.socket")
    one = socket.socket(socket.AF_UNIX)
    umask = os.umask(0o777 & ~settings.socket_mode)
    try:
        one.bind(str(private))
        give(private, settings.socket_owner, settings.socket_group)
        private.rename(path)
    except (OSError, LookupError) as error:
        private.unlink(missing_ok=True)
        one.close()
        raise ListenError(f"cannot set up {settings.socket}: {error}") from error
    finally:
        os.umask(umask)
    return one


def _inet(where: str, shown: str) -> socket.socket:
    host, _, port = where.rpartition(":")
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host.strip("[]"), int(port), type=socket.SOCK_STREAM)[0]
        # asyncio sends small answers at once (TCP_NODELAY) only where it is told that this is TCP: 0.5 ms instead of 44.
        one = socket.socket(family, kind, protocol)
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
