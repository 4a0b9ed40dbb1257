"""The listening socket: opened once by the supervisor, then shared with every worker by fork.

Owns the socket's name, its mode and owner, and its end. Never accepts a connection; an engine does.
"""

import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from sidecar.core.settings.values import MilterSettings
from sidecar.daemon.sockets import SocketPath, open_listening

# Connections that wait while no worker accepts: a reload or a crash takes 100 ms, and busy MTAs open 1,000 a second.
_BACKLOG = 1024


class Listener:
    """A socket that listens. `name` is in the settings' spelling; `path` is None for an inet socket."""

    def __init__(self, one: socket.socket, *, name: str, path: Path | None = None) -> None:
        self.name = name
        self.family = one.family
        self._address = _end_of(one)
        self._path = None if path is None else SocketPath(path)
        self._silent = socket.socketpair()
        # Two workers wake for one connection; the later one must not wait in accept() for the next.
        one.setblocking(False)  # noqa: FBT003 - as in the standard library
        if path is None:
            # Accepted sockets inherit this. Without it, a small answer can wait until the MTA acknowledges the last one.
            one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._descriptor = one.detach()

    def fileno(self) -> int:
        """Return the descriptor, for an engine that accepts from it."""
        return self._descriptor

    def move_to(self, descriptor: int) -> None:
        """Move to another descriptor, in the place of what is open there."""
        os.dup2(self._descriptor, descriptor, inheritable=False)
        os.close(self._descriptor)
        self._descriptor = descriptor

    def withdraw(self) -> None:
        """Remove the socket's path, if it is still ours: from here on no MTA finds it."""
        if self._path is not None:
            self._path.remove()

    def close(self) -> None:
        """Close the socket in a process that never accepted from it; it ends when the workers have left it too."""
        self.withdraw()
        os.close(self._descriptor)
        for one in self._silent:
            one.close()

    def leave(self) -> None:
        """Stop accepting in this process only; open connections stay open.

        libmilter has no call for that, so its descriptor is replaced with a socket that nothing connects to. (A shutdown of the
        socket makes libmilter abort its connections.) A poll() of libmilter keeps the socket for up to 5 seconds: so long a
        port can stay in use while connections are open. Only an accept() that runs at this moment can still accept one.
        """
        os.dup2(self._silent[0].fileno(), self._descriptor)

    def open_connections(self) -> int:
        """Count this process's connections from MTAs, silent ones included; call it after `leave`."""
        try:
            return sum(_local_end(number) == self._address for number in open_descriptors())
        except OSError:
            # Listing needs a descriptor; if there is none, connections have them all.
            return 1

    def prove_alive(self, report: Callable[[], None]) -> None:
        """Call this: each connection has its own thread, and if all of them hang, so does the caller's."""
        report()


def open_descriptors() -> list[int]:
    """Return the descriptors of this process. Raise OSError if none is left for the listing."""
    return list(map(int, os.listdir("/proc/self/fd")))  # noqa: PTH208 - names, not paths


def _local_end(descriptor: int) -> str | int | None:
    """Return the path of a UNIX socket, or the port of an inet socket, whose address varies if it listens on all.

    None if the descriptor is no such socket, or is closed by now.
    """
    try:
        with seen_as_socket(descriptor) as one:
            return _end_of(one)
    except OSError:
        return None


def _end_of(one: socket.socket) -> str | int | None:
    local = one.getsockname()
    if isinstance(local, tuple):
        return int(local[1])
    return local if isinstance(local, str) else None


@contextmanager
def seen_as_socket(descriptor: int) -> Iterator[socket.socket]:
    """Yield a descriptor as a socket, and do not close it. Raise OSError if it is none."""
    one = socket.socket(fileno=descriptor)
    try:
        yield one
    finally:
        one.detach()


def listen(settings: MilterSettings) -> Listener:
    """Open the socket of the settings. Raise ListenError."""
    kind, _, where = settings.socket.partition(":")
    one = open_listening(settings, "milter", backlog=_BACKLOG)
    return Listener(one, name=settings.socket, path=Path(where) if kind == "unix" else None)
