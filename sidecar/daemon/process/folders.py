"""Folders entered component by component, so that no link of another user leads root anywhere.

Owns which links and which owners root trusts. Never decides what a folder is for.
"""

import os
import pwd
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

# As many as the system follows (path_resolution(7)).
_LINKS_LIMIT: Final = 40
_ENTER: Final = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC

Missing = Callable[[int, str], None]


class UntrustedError(Exception):
    """Another user can make the path lead somewhere else: one plain sentence, without what to do."""


@contextmanager
def entered(path: Path, *, missing: Missing | None = None, visit: Callable[[Path, int], None] | None = None) -> Iterator[int]:
    """Yield a descriptor of a folder, for `dir_fd` only (O_PATH).

    A link on the way, or at the end, is followed only where nobody but root can have made it: it is root's, and so is its
    folder, which nobody else may write to. `missing` may create a component in the folder with that descriptor. `visit` is
    called with each folder on the way. Raise UntrustedError for any other link, and OSError.
    """
    descriptor, shown = os.open("/", _ENTER), Path("/")
    todo, links = [*reversed(path.absolute().parts[1:])], 0
    try:
        while True:
            if visit is not None:
                visit(shown, descriptor)
            if not todo:
                break
            name = todo.pop()
            if (target := _link(descriptor, name)) is None:
                descriptor = _replaced(descriptor, _enter(descriptor, name, missing))
                shown /= name
                continue
            links += 1
            if not _is_roots_link(descriptor, name) or links > _LINKS_LIMIT:
                raise UntrustedError(f"{shown / name} is a symbolic link that another user than root may have made")
            todo += [part for part in reversed(Path(target).parts) if part != "/"]
            if target.startswith("/"):
                descriptor, shown = _replaced(descriptor, os.open("/", _ENTER)), Path("/")
        yield descriptor
    finally:
        os.close(descriptor)


def see_that_it_is_roots(path: Path) -> None:
    """See that nobody but root can put anything into this folder, or another folder in its place.

    What is missing is not looked at. Raise UntrustedError, and OSError.
    """
    with entered(_existing(path), visit=_see_that_only_root_renames) as descriptor:
        if path.exists() and _others_may_write(os.fstat(descriptor)):
            raise UntrustedError(f"other users than root may write to {path}")


def _existing(path: Path) -> Path:
    """Return the nearest folder that exists: this one, or one above it."""
    path = path.absolute()
    return next((one for one in (path, *path.parents) if os.path.lexists(one)), path)


def _see_that_only_root_renames(shown: Path, descriptor: int) -> None:
    found = os.fstat(descriptor)
    if found.st_uid != 0:
        raise UntrustedError(f"{shown} belongs to {_user(found.st_uid)}")
    # In a folder such as /tmp (sticky) users may rename only what is theirs.
    if _others_may_write(found) and not found.st_mode & stat.S_ISVTX:
        raise UntrustedError(f"other users than root may write to {shown}")


def _others_may_write(found: os.stat_result) -> bool:
    return bool(found.st_mode & stat.S_IWOTH or (found.st_mode & stat.S_IWGRP and found.st_gid != 0))


def _user(uid: int) -> str:
    try:
        return f"user {pwd.getpwuid(uid).pw_name}"
    except KeyError:
        return f"user {uid}"


def _link(folder: int, name: str) -> str | None:
    try:
        return os.readlink(name, dir_fd=folder)
    except OSError:
        return None  # no link, or nothing at all, which entering it tells


def _is_roots_link(folder: int, name: str) -> bool:
    found = os.fstat(folder)
    own = os.stat(name, dir_fd=folder, follow_symlinks=False)
    return own.st_uid == found.st_uid == 0 and not _others_may_write(found)


def _enter(folder: int, name: str, missing: Missing | None) -> int:
    try:
        return os.open(name, _ENTER, dir_fd=folder)
    except FileNotFoundError:
        if missing is None:
            raise
    missing(folder, name)
    return os.open(name, _ENTER, dir_fd=folder)


def _replaced(before: int, descriptor: int) -> int:
    os.close(before)
    return descriptor
