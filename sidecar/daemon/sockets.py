"""The sockets that this program listens on: their opening, and of UNIX sockets the paths, the rights, the removal, the users.

Owns these paths. Never accepts a connection.
"""

import errno
import grp
import os
import pwd
import socket
import struct
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from sidecar.core.settings.values import AdminSettings, MilterSettings

# sockaddr_un has space for 108 bytes, the last of them a NUL (unix(7)).
_PATH_LIMIT = 107
_CONNECT_SECONDS = 2.0
SHORTAGES = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
"""The errors of accept() if the system has no descriptor or no memory: the connection waits in the backlog."""


class ListenError(Exception):
    """The socket cannot be opened: one plain sentence, and what to do."""


class SocketPath:
    """The public path of a UNIX socket that this program has opened."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._inode = path.stat().st_ino

    def remove(self) -> None:
        """Remove the path if it is still that of this socket: from here on no peer finds it.

        It stays if its folder may not be written to, as after root's rights were given up. Then connections are refused.
        """
        with suppress(FileNotFoundError, PermissionError):
            if self._path.stat().st_ino == self._inode:
                self._path.unlink()


@contextmanager
def private_path(settings: MilterSettings | AdminSettings, section: str) -> Iterator[Path]:
    """Yield a path for the caller to bind the socket of the settings to. Then set its rights, and rename it to the public path.

    So a stale socket is replaced in one step, no one connects before the rights are set, and the libmilter of a dying worker,
    which removes the path that it was passed, finds nothing to remove. Raise ListenError.
    """
    path = Path(settings.socket.removeprefix("unix:"))
    private = path.with_name(f"{path.name}.{os.getpid()}")
    if len(os.fsencode(private)) > _PATH_LIMIT:
        raise ListenError(f"the socket's path {path} is too long; a UNIX socket's path has some 100 bytes at most")
    _check_free(path, f"{section}.socket")
    # Not by chmod(), which follows a link that another user may put in its place (unix(7): bind() obeys the umask).
    umask = os.umask(0o777 & ~settings.socket_mode)
    try:
        yield private
        owner, group = settings.socket_owner, settings.socket_group
        uid = -1 if owner is None else pwd.getpwnam(owner).pw_uid
        os.chown(private, uid, -1 if group is None else grp.getgrnam(group).gr_gid, follow_symlinks=False)
        private.rename(path)
    except (OSError, LookupError) as error:
        private.unlink(missing_ok=True)
        raise ListenError(f"cannot set up {settings.socket}: {error}") from error
    finally:
        os.umask(umask)


def open_listening(settings: MilterSettings | AdminSettings, section: str, *, backlog: int) -> socket.socket:
    """Return a socket that listens where the settings of a section say. Raise ListenError."""
    if settings.socket.startswith("unix:"):
        with ExitStack() as stack:
            one = stack.enter_context(socket.socket(socket.AF_UNIX))
            with private_path(settings, section) as private:
                one.bind(str(private))
                one.listen(backlog)
            stack.pop_all()
        return one
    try:
        with ExitStack() as stack:
            family, address = resolve(settings.socket)
            # asyncio sends small answers at once (TCP_NODELAY) only if it knows that this is TCP: 0.5 ms instead of 44.
            one = stack.enter_context(socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP))
            # Connections of a former sidecar that are still closing do not keep the port.
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            one.bind(address)
            one.listen(backlog)
            stack.pop_all()
    except OSError as error:
        in_use = f"stop what is listening there, or choose another port for {section}.socket"
        fix = in_use if error.errno == errno.EADDRINUSE else "choose an address of this machine"
        raise ListenError(f"cannot listen on {settings.socket}: {error.strerror}; {fix}") from error
    return one


def user_of(connection: socket.socket) -> int | None:
    """Return the user id of the process that connected to a UNIX socket; None for a connection to a port."""
    if connection.family != socket.AF_UNIX:
        return None
    _, uid, _ = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i")))
    return int(uid)


def resolve(spelled: str) -> tuple[socket.AddressFamily, tuple[Any, ...]]:
    """Return family and address of an inet socket in the settings' spelling, `inet:HOST:PORT`. Raise OSError."""
    host, _, port = spelled.removeprefix("inet:").rpartition(":")
    family, _, _, _, address = socket.getaddrinfo(host.strip("[]"), int(port), type=socket.SOCK_STREAM)[0]
    return family, address


def _check_free(path: Path, setting: str) -> None:
    """Check that a UNIX socket can be made there: its folder exists, and no process listens on it."""
    if not path.parent.is_dir():
        raise ListenError(f"the folder of the socket is missing: create {path.parent}, with rights for the MTA to enter it")
    if not os.path.lexists(path):
        return
    if not path.is_socket():
        raise ListenError(f"{path} exists and is no socket: move it away, or choose another path for {setting}")
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(_CONNECT_SECONDS)
        try:
            probe.connect(str(path))
        except (ConnectionRefusedError, FileNotFoundError):
            return
        except OSError as error:
            if not isinstance(error, TimeoutError | BlockingIOError):
                raise ListenError(f"cannot find out whether a process is listening on {path}: {error}") from error
    raise ListenError(f"another sidecar is listening on {path}: stop it first")
