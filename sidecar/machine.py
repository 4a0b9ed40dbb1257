"""Facts about this machine: its addresses, accounts, free disk space and pymilter, and the addresses of a host name.

Owns the system calls. Never decides what a fact means.
"""

import errno
import grp
import os
import pwd
import socket
import stat
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final, Literal

from sidecar.core.names import IPAddress

AccountKind = Literal["user", "group"]

# No interface has it (bind(2)), or the kernel has no IPv6. Other errors do not concern the address.
_NOT_HERE: Final = {errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT}


def addresses_of(host: str) -> list[str]:
    """Return the addresses of a host name, none if it does not exist."""
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except OSError:
        return []
    return [str(address[0]) for *_, address in found]


def read_file(path: Path, limit: int) -> bytes:
    """Return the bytes of a regular file that is no link. Raise OSError, also for a file of more than `limit` bytes.

    Root reads what another user can replace: by a link, a pipe without a writer, or a device without an end.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(descriptor, "rb") as file:  # noqa: PTH123 - a descriptor
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "it is not a regular file", str(path))
        content = file.read(limit + 1)
    if len(content) > limit:
        raise OSError(errno.EFBIG, f"it has more than {limit} bytes", str(path))
    return content


def has_address(address: IPAddress) -> bool:
    """Return True if an interface of this machine has the address: a UDP socket can be bound to it."""
    family = socket.AF_INET6 if address.version == 6 else socket.AF_INET  # noqa: PLR2004 - IPv6
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.bind((str(address), 0))
    except OSError as error:
        return error.errno not in _NOT_HERE
    return True


def free_bytes(directory: Path) -> int:
    """Return the bytes that a user other than root can write there; the directory may not exist yet. Raise OSError."""
    there = next(folder for folder in (directory.absolute(), *directory.absolute().parents) if folder.exists())
    found = os.statvfs(there)
    return found.f_bavail * found.f_frsize


def has_account(kind: AccountKind, name: str) -> bool:
    """Return True if this machine has the user or the group."""
    ask: Callable[[str], Any] = pwd.getpwnam if kind == "user" else grp.getgrnam
    try:
        ask(name)
    except KeyError:
        return False
    return True


def has_package(name: str) -> bool:
    """Return True if this Python has a package."""
    return find_spec(name) is not None


def missing_right(path: Path, needed: int = os.R_OK) -> str | None:
    """Return which right this process lacks to read a file or folder, in words; None if none, or if the path does not exist.

    With `os.W_OK` as `needed` it is the right to write.
    """
    for one in (*reversed(path.absolute().parents), path.absolute()):
        try:
            state = one.stat()
        except OSError:
            return None
        enter = os.X_OK if stat.S_ISDIR(state.st_mode) else 0
        rights = enter | (needed if one == path.absolute() else 0)
        if not os.access(one, rights):
            verb = "enter" if enter and not os.access(one, enter) else "read" if needed == os.R_OK else "write to"
            return f"user {name_of_user(os.geteuid())} is not permitted to {verb} {one} {_for_whom(state, rights)}"
    return None


def _for_whom(state: os.stat_result, rights: int) -> str:
    """Return the owner, group and mode of a file or folder, and who has these rights."""
    owner, group = name_of_user(state.st_uid), _name_of(grp.getgrgid, state.st_gid)
    others = "" if owner == "root" else f" or as user {owner}"
    if state.st_mode >> 3 & rights == rights:
        others = f" or as a member of group {group}"
    return f"(owner {owner}, group {group}, mode {stat.S_IMODE(state.st_mode):04o}); run this as root{others}"


def name_of_user(number: int) -> str:
    """Return the name of a user id, or the number if this machine does not have it."""
    return _name_of(pwd.getpwuid, number)


def _name_of(ask: Callable[[int], Any], number: int) -> str:
    try:
        return str(ask(number)[0])
    except KeyError:
        return str(number)
