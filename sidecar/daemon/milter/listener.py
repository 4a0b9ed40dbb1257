"""The listening socket: opened once by the supervisor through libmilter, then shared with every worker by fork.

Owns the socket's name, its mode and owner, and its end. Never accepts a connection; an engine does.
"""

import errno
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import milter

from sidecar.core.settings.values import MilterSettings
from sidecar.daemon.sockets import ListenError, SocketPath, private_path, resolve

# libmilter keeps a pointer into this string object.
NAME = "sidecar"
# Connections that wait while no worker accepts: a reload or a crash takes 100 ms, and busy MTAs open 1,000 a second.
_BACKLOG = 1024


class Listener:
    """A listening socket. `name` is the setting, `address` its local end; `path` is None for an inet socket."""

    def __init__(self, *, name: str, descriptor: int, address: str | int, path: Path | None) -> None:
        self.name = name
        self._address = address
        self._descriptor = descriptor
        self._path = None if path is None else SocketPath(path)
        self._silent = socket.socketpair()
        # Two workers wake for one connection; the later one must not wait in accept() for the next.
        os.set_blocking(self._descriptor, False)
        if path is None:
            # Accepted sockets inherit this. Without it, a small answer can wait until the MTA acknowledges the last one.
            with _seen_as_socket(self._descriptor) as listening:
                listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def fileno(self) -> int:
        """Return the descriptor, for an engine that accepts from it."""
        return self._descriptor

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
            return sum(_local_end(number) == self._address for number in _descriptors())
        except OSError:
            # Listing needs a descriptor; if there is none, connections have them all.
            return 1

    def prove_alive(self, report: Callable[[], None]) -> None:
        """Call this: each connection has its own thread, and if all of them hang, so does the caller's."""
        report()


def _descriptors() -> list[int]:
    """Return the descriptors of this process. Raise OSError if none is left for the listing."""
    return list(map(int, os.listdir("/proc/self/fd")))  # noqa: PTH208 - names, not paths


def _listening() -> set[int]:
    """Return the descriptors of this process that listen."""
    return {number for number in _descriptors() if _listens(number)}


def _listens(descriptor: int) -> bool:
    try:
        with _seen_as_socket(descriptor) as one:
            return bool(one.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))
    except OSError:
        return False


def _local_end(descriptor: int) -> str | int | None:
    """Return the path of a UNIX socket, or the port of an inet socket, whose address varies if it listens on all.

    None if the descriptor is no such socket, or is closed by now.
    """
    try:
        with _seen_as_socket(descriptor) as one:
            local = one.getsockname()
    except OSError:
        return None
    if isinstance(local, tuple):
        return int(local[1])
    return local if isinstance(local, str) else None


@contextmanager
def _seen_as_socket(descriptor: int) -> Iterator[socket.socket]:
    """Yield a descriptor as a socket, and do not close it. Raise OSError if it is none."""
    one = socket.socket(fileno=descriptor)
    try:
        yield one
    finally:
        one.detach()


def listen(settings: MilterSettings) -> Listener:
    """Open the socket of the settings. Raise ListenError."""
    kind, _, where = settings.socket.partition(":")
    if kind == "unix":
        with private_path(settings, "milter") as private:
            descriptor = _open(f"unix:{private}", shown=settings.socket)
        return Listener(name=settings.socket, descriptor=descriptor, address=str(private), path=Path(where))
    return _listen_inet(settings.socket)


def _listen_inet(shown: str) -> Listener:
    try:
        family, address = resolve(shown)
        with socket.socket(family) as probe:
            # As libmilter does: closing connections of an earlier sidecar do not keep the port in use.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        in_use = error.errno == errno.EADDRINUSE
        fix = "stop what is listening there, or choose another port" if in_use else "choose an address of this machine"
        raise ListenError(f"cannot listen on {shown}: {error.strerror}; {fix}") from error
    kind = "inet6" if family == socket.AF_INET6 else "inet"
    descriptor = _open(f"{kind}:{address[1]}@[{address[0]}]", shown=shown)
    return Listener(name=shown, descriptor=descriptor, address=address[1], path=None)


def _open(connection: str, *, shown: str) -> int:
    """Have libmilter open the socket. Return its descriptor. Raise ListenError."""
    before = _listening()
    try:
        milter.register(NAME)
        milter.setconn(connection)
        milter.setbacklog(_BACKLOG)
        milter.opensocket(1)
    except milter.error as error:
        raise ListenError(f"libmilter cannot listen on {shown}: {error}; the system log has libmilter's reason") from error
    # libmilter does not return the descriptor.
    opened = _listening() - before
    if len(opened) != 1:
        raise ListenError(f"libmilter opened {len(opened)} sockets for {shown} instead of one")
    return opened.pop()
