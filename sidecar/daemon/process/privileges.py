"""From root to a user without rights, with no way back; and which folders root creates or writes to before that.

Owns that step, and which links and owners root trusts. Never decides which user: the settings do.
"""

import ctypes
import grp
import os
import pwd
import stat
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from msgspec import Struct

from sidecar import log
from sidecar.config.files import unreadable
from sidecar.core.settings.settings import Settings
from sidecar.core.settings.values import Source
from sidecar.machine import name_of_user

_PR_SET_NO_NEW_PRIVS: Final = 38  # linux/prctl.h
_FOLDER_MODE: Final = 0o750
# As many as the system follows (path_resolution(7)).
_LINKS_LIMIT: Final = 40
_ENTER: Final = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC

_LOG = log.get("supervisor")


class SetupError(Exception):
    """The program cannot work like this: one plain sentence, and what to do."""


class UntrustedError(Exception):
    """Another user can make the path lead somewhere else: one plain sentence, without what to do."""


class Identity(Struct, frozen=True, kw_only=True):
    """The user to become: its name, the numbers of user and group, and groups besides the user's own."""

    user: str
    uid: int
    gid: int
    groups: tuple[int, ...] = ()


def new_identity(settings: Settings) -> Identity | None:
    """Return the user of the settings, or None if the program keeps its user. Raise SetupError."""
    if os.geteuid() != 0 or settings.user is None:
        return None
    try:
        user = pwd.getpwnam(settings.user)
    except KeyError as error:
        raise _missing("user", settings.user) from error
    try:
        gid = user.pw_gid if settings.group is None else grp.getgrnam(settings.group).gr_gid
    except KeyError as error:
        raise _missing("group", settings.group or "") from error
    return Identity(user=settings.user, uid=user.pw_uid, gid=gid)


def warn_of_user(settings: Settings) -> None:
    """Log a warning if the program keeps running as root, or cannot become the user of the settings."""
    if os.geteuid() != 0:
        if settings.user is not None and settings.user != (own := name_of_user(os.geteuid())):
            _LOG.warning(f'user = "{settings.user}" has no effect: only root can become that user, and this is user {own}')
    elif settings.user is None:
        _LOG.warning(
            'everything here runs as root: write user = "sidecar" in the settings, or the name of another user without rights'
        )


def _missing(kind: str, name: str) -> SetupError:
    return SetupError(f"there is no {kind} '{name}' on this machine: create it, or name another one in the settings")


def become(identity: Identity) -> None:
    """Become that user for good. Raise SetupError."""
    try:
        os.initgroups(identity.user, identity.gid)
        if identity.groups:
            os.setgroups([*os.getgroups(), *identity.groups])
        os.setresgid(identity.gid, identity.gid, identity.gid)
        os.setresuid(identity.uid, identity.uid, identity.uid)
    except OSError as error:
        raise SetupError(
            f"cannot become user {identity.user}: {error.strerror}; start the program with root's rights"
        ) from error
    if ctypes.CDLL(None).prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
        raise SetupError("the kernel does not permit to give up rights for good (prctl PR_SET_NO_NEW_PRIVS)")
    if identity.uid != 0:
        with suppress(PermissionError):
            os.setresuid(0, 0, 0)
            raise SetupError(f"user {identity.user} can become root again: start the program without file capabilities")


def check_readable(identity: Identity, sources: Iterable[Source]) -> None:
    """Check, as that user, that a reload will be able to read the files that the start has read as root. Raise SetupError."""
    for path in unreadable(sources):
        raise SetupError(
            f"user {identity.user} is not permitted to read {path}, so that every reload would fail: "
            f"let the user read the file and enter its folder, as with chgrp and chmod g+rX"
        )


# --- folders, entered component by component, so that no link of another user leads root anywhere


def create_for(identity: Identity, folder: Path) -> None:
    """Create a folder that belongs to the user, and root's folders above it. Leave one that exists as it is.

    Raise SetupError, also for a link on the way that is not root's own.
    """
    folder = folder.absolute()
    try:
        with entered(folder.parent, create=True) as parent:
            try:
                os.mkdir(folder.name, _FOLDER_MODE, dir_fd=parent)
            except FileExistsError:
                with entered(folder):
                    return
            # Only a folder of root: a user who owns the folder above could have put another one here by now.
            descriptor = os.open(folder.name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=parent)
            try:
                if os.fstat(descriptor).st_uid == 0:
                    os.fchown(descriptor, identity.uid, identity.gid)
            finally:
                os.close(descriptor)
    except UntrustedError as error:
        fix = "name the folder without it, or let root make the link in a folder of root's own"
        raise SetupError(f"cannot create {folder} for {identity.user}: {error}; {fix}") from error
    except OSError as error:
        raise SetupError(f"cannot create {folder} for {identity.user}: {error.strerror}; choose another folder") from error


def check_only_root_writes(folder: Path) -> None:
    """Check that only root can put anything into this folder, or another folder in its place: raise SetupError.

    A folder that does not exist passes, if only root can create it.
    """
    fix = 'name that user with user = "..." in the settings, or choose a folder that only root may change'
    try:
        with entered(nearest(folder), visit=_check_only_root_renames) as descriptor:
            if folder.exists():
                _check_only_root_creates(folder.absolute(), descriptor)
    except NotADirectoryError:
        return  # nothing can be written there, which the next step reports
    except UntrustedError as error:
        raise SetupError(f"root does not write into {folder}: {error}; {fix}") from error
    except OSError as error:
        raise SetupError(f"cannot look into {folder}: {error.strerror}; {fix}") from error


def nearest(folder: Path) -> Path:
    """Return the folder, or the nearest one above it that exists."""
    return next(one for one in (folder.absolute(), *folder.absolute().parents) if os.path.lexists(one))


def _check_only_root_renames(path: Path, descriptor: int) -> None:
    found = os.fstat(descriptor)
    if found.st_uid != 0:
        raise UntrustedError(f"{path} belongs to user {name_of_user(found.st_uid)}")
    # In a folder such as /tmp (sticky) users may rename only their own files.
    if not found.st_mode & stat.S_ISVTX:
        _check_only_root_creates(path, descriptor)


def _check_only_root_creates(path: Path, descriptor: int) -> None:
    if _others_may_write(os.fstat(descriptor)):
        raise UntrustedError(f"other users than root may write to {path}")


def _others_may_write(found: os.stat_result) -> bool:
    return bool(found.st_mode & stat.S_IWOTH or (found.st_mode & stat.S_IWGRP and found.st_gid != 0))


@contextmanager
def entered(path: Path, *, create: bool = False, visit: Callable[[Path, int], None] = lambda *_: None) -> Iterator[int]:
    """Yield a descriptor of a folder, for `dir_fd` only (O_PATH).

    A link on the way, or at the end, is followed only if only root can have made it: it is root's, and so is its folder, to
    which no other user may write. With `create` missing folders are created. `visit` is called with each folder on the way.
    Raise UntrustedError for any other link, and OSError.
    """
    descriptor, shown = os.open("/", _ENTER), Path("/")
    todo, links = [*reversed(path.absolute().parts[1:])], 0
    try:
        while True:
            visit(shown, descriptor)
            if not todo:
                break
            name = todo.pop()
            if (target := _link(descriptor, name)) is None:
                if create:
                    with suppress(FileExistsError):
                        os.mkdir(name, dir_fd=descriptor)
                descriptor = _replaced(descriptor, os.open(name, _ENTER, dir_fd=descriptor))
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


def _link(folder: int, name: str) -> str | None:
    try:
        return os.readlink(name, dir_fd=folder)
    except OSError:
        return None  # no link, or nothing at all, which open() reports


def _is_roots_link(folder: int, name: str) -> bool:
    found = os.fstat(folder)
    own = os.stat(name, dir_fd=folder, follow_symlinks=False)
    return own.st_uid == found.st_uid == 0 and not _others_may_write(found)


def _replaced(before: int, descriptor: int) -> int:
    os.close(before)
    return descriptor
