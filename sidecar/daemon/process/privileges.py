"""From root to a user without rights, with no way back.

Owns that step, and what has to be done as root before it. Never decides whom to become; the settings do.
"""

import ctypes
import grp
import os
import pwd
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from msgspec import Struct

from sidecar import log
from sidecar.core.settings.values import Settings, Source
from sidecar.daemon.process.folders import UntrustedError, entered

_PR_SET_NO_NEW_PRIVS = 38  # linux/prctl.h
_FOLDER_MODE = 0o750

_LOG = log.get("supervisor")


class PrivilegeError(Exception):
    """The step cannot be taken: one plain sentence, and what to do."""


class Identity(Struct, frozen=True, kw_only=True):
    """Whom to become: the name of the user, and the numbers of user and group."""

    user: str
    uid: int
    gid: int


def whom_to_become(settings: Settings) -> Identity | None:
    """Return the user of the settings, or None where the program keeps its user. Log why it does. Raise PrivilegeError."""
    if os.geteuid() != 0:
        if settings.user is not None and settings.user != (own := _own_name()):
            _LOG.warning(f'user = "{settings.user}" has no effect: only root could become that user, and this is {own}')
    elif settings.user is None:
        _LOG.warning(
            'everything here runs as root: write user = "sidecar" in the settings, or the name of another user without rights'
        )
    return identity_of(settings)


def identity_of(settings: Settings) -> Identity | None:
    """Return the user of the settings, or None where the program keeps its user. Raise PrivilegeError."""
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


def _missing(kind: str, name: str) -> PrivilegeError:
    return PrivilegeError(f"there is no {kind} '{name}' on this machine: create it, or name another one in the settings")


def _own_name() -> str:
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return f"user {os.geteuid()}"


def give_folder(folder: Path, identity: Identity) -> None:
    """Create a folder that belongs to the user, and root's folders above it.

    One that exists is left as it is, whoever owns it. Raise PrivilegeError, also where a link on the way is not root's own.
    """
    folder = folder.absolute()
    try:
        with entered(folder.parent, missing=_create) as parent:
            try:
                os.mkdir(folder.name, _FOLDER_MODE, dir_fd=parent)
            except FileExistsError:
                with entered(folder):
                    return
            # Only what is root's: a user who owns the folder above could have put something else here by now.
            descriptor = os.open(folder.name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=parent)
            try:
                if os.fstat(descriptor).st_uid == 0:
                    os.fchown(descriptor, identity.uid, identity.gid)
            finally:
                os.close(descriptor)
    except UntrustedError as error:
        what = f"cannot create {folder} for {identity.user}: {error}"
        raise PrivilegeError(
            f"{what}; name the folder without it, or let root make the link in a folder of root's own"
        ) from error
    except OSError as error:
        raise PrivilegeError(f"cannot create {folder} for {identity.user}: {error.strerror}; choose another folder") from error


def _create(folder: int, name: str) -> None:
    with suppress(FileExistsError):
        os.mkdir(name, dir_fd=folder)


def become(identity: Identity) -> None:
    """Become that user for good. Raises PrivilegeError."""
    try:
        os.initgroups(identity.user, identity.gid)
        os.setresgid(identity.gid, identity.gid, identity.gid)
        os.setresuid(identity.uid, identity.uid, identity.uid)
    except OSError as error:
        raise PrivilegeError(
            f"cannot become user {identity.user}: {error.strerror}; start the program with root's rights"
        ) from error
    if ctypes.CDLL(None).prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
        raise PrivilegeError("the kernel does not let rights be given up for good (prctl PR_SET_NO_NEW_PRIVS)")
    if identity.uid != 0 and _is_root_again():
        raise PrivilegeError(f"user {identity.user} can become root again: start the program without file capabilities")


def _is_root_again() -> bool:
    try:
        os.setresuid(0, 0, 0)
    except PermissionError:
        return False
    return True


def see_that_it_may_read(identity: Identity, sources: Iterable[Source]) -> None:
    """See, as that user, that a reload will be able to read what the start has read as root. Raises PrivilegeError."""
    for source in sources:
        if not os.access(source.path, os.R_OK):
            raise PrivilegeError(
                f"user {identity.user} may not read {source.path}, so that every reload would fail: "
                f"let the user read the file and enter its folder, as with chgrp and chmod g+rX"
            )
