"""What only shows when the program runs: folders, files and sockets that its user cannot use.

Owns which faults are looked for, as the user that `sidecar run` becomes. Changes nothing, except for files without a name.
"""

import errno
import grp
import json
import os
import socket
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Literal, NamedTuple

from msgspec.structs import replace

from sidecar.commands.check.units import Unit, units_of
from sidecar.config.files import unreadable
from sidecar.core.findings import Finding, Level, RuntimeCode, finding
from sidecar.core.settings.settings import Settings
from sidecar.core.settings.values import AdminSettings, MilterSettings, Source, Where
from sidecar.core.text import quoted
from sidecar.daemon.process.privileges import (
    Identity,
    SetupError,
    UntrustedError,
    become,
    check_only_root_writes,
    entered,
    nearest,
    new_identity,
)
from sidecar.daemon.process.status import LOCK_NAME, is_running, read_status
from sidecar.daemon.sockets import resolve
from sidecar.machine import name_of_user
from sidecar.suppression.locking import is_kept
from sidecar.suppression.lookup import problem_of


class _Fault(NamedTuple):
    """What is wrong, and the key in the settings that names the folder or the socket."""

    code: RuntimeCode | Literal["unknown_account"]
    key: Sequence[str]
    text: str
    fix: str
    level: Level = "error"


def runtime_findings(settings: Settings, sources: Sequence[Source], where: Callable[..., Where | None]) -> list[Finding]:
    """Return what `sidecar run` could not use if this user starts it. `where` returns the place of a key, by its path.

    As root, the program becomes the `user` of the settings, or systemd starts it as the user of its unit, and the findings are
    errors. Another user may not be the one of the service, so they are warnings.
    """
    is_root = os.geteuid() == 0
    units = units_of(sources[0].path if sources else None) if is_root else []
    faults = [
        *_sockets(settings),
        *_unkept(settings),
        *chain.from_iterable(_as_unit(unit, settings, sources) for unit in units),
    ]
    if not units or settings.user is not None:
        faults += _started_here(settings, sources)
    return [
        finding(fault.level if is_root else "warning", fault.code, where(*fault.key), fault.text, fault.fix) for fault in faults
    ]


def _started_here(settings: Settings, sources: Sequence[Source]) -> Iterator[_Fault]:
    """Yield what the program could not use if this user started it in a terminal."""
    try:
        identity = new_identity(settings)
    except SetupError:
        return  # an unknown account, which has a finding of its own
    untrusted = [*_trusted(settings, identity)]
    yield from untrusted
    if not untrusted:
        use = Use(settings, sources, creates=os.geteuid() == 0)
        yield from use.faults() if identity is None else _as_user(identity, use)


def _as_unit(unit: Unit, settings: Settings, sources: Sequence[Source]) -> Iterator[_Fault]:
    """Yield what the program could not use if systemd started it: root's own rights do not show that."""
    starts = f"{unit.name} starts the program as user {unit.user}"
    try:
        identity = new_identity(replace(settings, user=unit.user, group=unit.group))
        groups = tuple(grp.getgrnam(group).gr_gid for group in unit.groups)
    except (SetupError, KeyError) as error:
        what = str(error).partition(":")[0] if isinstance(error, SetupError) else f"there is no group {error.args[0]}"
        yield _Fault("unknown_account", ("user",), f"{starts}, but {what}.", "Create the account, or change the unit.")
        return
    if identity is None or identity.uid == 0:
        return
    for fault in _as_user(replace(identity, groups=groups), Use(settings, sources, unit=unit, uid=identity.uid)):
        yield fault._replace(text=f"{fault.text} {starts}.")
    for folder, key in _folders(settings):
        if unit.writable is not None and not _is_within(folder, unit.writable):
            text = f"{unit.name} makes {folder} read-only for the program (ProtectSystem=strict)."
            fix = f"Run systemctl edit {unit.name}, and write ReadWritePaths={folder} below [Service]."
            yield _Fault("unusable_directory", key, text, fix)


def _folders(settings: Settings) -> Iterator[tuple[Path, Sequence[str]]]:
    for folder in settings.journal.directories:
        yield folder, ("journal", "directory")
    yield settings.state_directory, ("state_directory",)
    for folder in settings.list_directories:
        yield folder, ("suppression", "database")


def _is_within(path: Path, folders: Iterable[Path]) -> bool:
    """Return True if a path is one of these folders, or below one."""
    return any(path.absolute().is_relative_to(each) for each in folders)


def _trusted(settings: Settings, identity: Identity | None) -> Iterator[_Fault]:
    """Yield the folders that root does not create or write to, because another user can put another one in their place."""
    if os.geteuid() != 0:
        return
    for folder, key in _folders(settings):
        if identity is None:
            try:
                check_only_root_writes(folder)
            except SetupError as error:
                # A service manager can start the program as the folder's owner.
                text, _, fix = str(error).rpartition("; ")
                fix = f"Start the program as that user, as its systemd unit does, or {fix}."
                yield _Fault("unusable_directory", key, f"If root starts the program, it ends: {text}.", fix, "warning")
        else:
            try:
                with entered(nearest(folder)):
                    pass
            except UntrustedError as error:
                fix = "Name the folder without the link, or let root make the link in a folder of root's own."
                yield _Fault("unusable_directory", key, f"Root does not create {folder}: {error}.", fix)
            except OSError as error:
                yield _Fault("unusable_directory", key, f"{folder}: {error.strerror}.", "Choose another folder.")


class Use:
    """What the user of the program must be able to use. Asked as that user.

    `creates`: missing folders are created by root, before the program becomes another user. With a `unit`, systemd creates its
    folders for user `uid`, and gives this user all that is in them if they are not the user's.
    """

    def __init__(
        self,
        settings: Settings,
        sources: Sequence[Source],
        *,
        creates: bool = False,
        unit: Unit | None = None,
        uid: int = 0,
    ) -> None:
        self._settings, self._sources, self._creates, self._is_service = settings, sources, creates, unit is not None
        self._given = [each for each in unit.managed if _owner(each) != uid] if unit is not None else []

    def faults(self) -> list[_Fault]:
        """Return what this user, who must be that of the program by now, cannot use."""
        return [*self._directories(), *self._state(), *self._files(), *self._list()]

    def _directories(self) -> Iterator[_Fault]:
        for folder, key in _folders(self._settings):
            if not _is_within(folder, self._given) and (reason := self._refusal(folder)) is not None:
                user = name_of_user(os.geteuid())
                fix = f"Give {user} the right to write there, or choose another folder."
                yield _Fault("unusable_directory", key, f"User {user} cannot write into {folder}: {reason}.", fix)

    def _refusal(self, folder: Path) -> str | None:
        """Return why this user cannot write into a folder, or cannot create it; None if both is possible."""
        there = nearest(folder)
        if not os.path.isdir(there):  # noqa: PTH112 - a path that this user cannot reach raises no exception
            return f"{there} is no folder"
        if there == folder.absolute():
            try:
                with tempfile.TemporaryFile(dir=folder):
                    return None
            except OSError as error:
                return error.strerror or str(error)
        if not os.access(there, os.X_OK if self._creates else os.W_OK | os.X_OK):
            return f"it does not exist, and {there} is closed to this user"
        return None

    def _state(self) -> Iterator[_Fault]:
        settings, user = self._settings, name_of_user(os.geteuid())
        for path, mode in (
            (settings.state_directory / LOCK_NAME, os.R_OK | os.W_OK),
            (settings.node_id_file, os.R_OK),
            (settings.quarantine_directory, os.R_OK | os.W_OK | os.X_OK),
        ):
            if not _is_within(path, self._given) and os.path.lexists(path) and not os.access(path, mode):
                fix = f"Give it to {user}: chown {user} {path}."
                yield _Fault("unusable_directory", ("state_directory",), f"User {user} cannot use {path}.", fix)

    def _files(self) -> Iterator[_Fault]:
        user, what = name_of_user(os.geteuid()), "start and every reload" if self._is_service else "every reload"
        for path in unreadable(self._sources):
            text = f"User {user} cannot read {path}, so {what} would fail."
            fix = "Let the user read the file and enter its folder, as with chgrp and chmod g+rX."
            yield _Fault("unreadable_by_user", ("user",), text, fix)

    def _list(self) -> Iterator[_Fault]:
        listed = self._settings.suppression
        if listed is None or not listed.checks or not os.path.lexists(listed.database):
            return
        if (why := problem_of(listed)) is not None:
            user = name_of_user(os.geteuid())
            then = "accepts all recipients" if listed.on_unreadable == "accept" else "answers relay hosts 451"
            fix = "Restart the sidecar. If that does not help, run `sidecar suppression rebuild` while it is stopped."
            if not os.access(listed.database, os.R_OK):
                fix = f"Give {user} the right to read it, and to enter its folder."
            text = f"User {user} cannot read the suppression list, so the milter {then}: {why}."
            yield _Fault("unreadable_list", ("suppression", "check"), text, fix)


def _owner(folder: Path) -> int | None:
    try:
        return folder.stat().st_uid
    except OSError:
        return None


def _as_user(identity: Identity, use: Use) -> list[_Fault]:
    """Ask in a process of that user, because the way back to root is closed."""
    receiving, sending = os.pipe()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            os.close(receiving)
            become(identity)
            with os.fdopen(sending, "w") as pipe:
                json.dump(use.faults(), pipe)
            status = 0
        finally:
            os._exit(status)
    os.close(sending)
    with os.fdopen(receiving) as pipe:
        text = pipe.read()
    _, status = os.waitpid(child, 0)
    if status != 0:
        what = f"This process cannot become user {identity.user}, so the user's rights are not checked."
        return [_Fault("unusable_directory", ("user",), what, "Run it with all of root's rights.")]
    return [_Fault(*fault) for fault in json.loads(text)]


# --- the running program


def _is_running(settings: Settings) -> bool:
    try:
        return is_running(read_status(settings.state_directory))
    except (OSError, ValueError):
        return False


def _unkept(settings: Settings) -> Iterator[_Fault]:
    """Yield the fault of a list that is checked, and that no process keeps up to date."""
    listed = settings.suppression
    if listed is None or not listed.checks or not _is_running(settings):
        return
    try:
        if is_kept(listed):
            return
    except OSError:
        pass  # there is no list yet, or this user cannot see it
    text = (
        f"The sidecar is running, and no process keeps {listed.database} up to date: recipients are checked with an old list."
    )
    fix = "Reload the sidecar if this section is new. Otherwise its log has the reason."
    yield _Fault("no_list_writer", ("suppression", "check"), text, fix, "warning")


# --- sockets


def _sockets(settings: Settings) -> Iterator[_Fault]:
    if _is_running(settings):
        return  # it has the sockets
    for section, one in (("milter", settings.milter), ("admin", settings.admin)):
        if one is not None:
            check = _unix_socket if one.socket.startswith("unix:") else _inet_socket
            yield from check(one, (section, "socket"))


def _unix_socket(one: MilterSettings | AdminSettings, key: Sequence[str]) -> Iterator[_Fault]:
    path = Path(one.socket.removeprefix("unix:"))
    folder, user = path.parent, name_of_user(os.geteuid())
    if not os.path.isdir(folder):  # noqa: PTH112 - as above
        what = "does not exist" if os.access(nearest(folder), os.X_OK) else "cannot be reached by this user"
        fix = (
            f"Create it, with rights for the MTA to enter it, or let the service manager do it: RuntimeDirectory={folder.name}."
        )
        yield _Fault("unusable_socket", key, f"The folder of the socket, {folder}, {what}.", fix, "warning")
    elif not os.access(folder, os.W_OK | os.X_OK):
        fix = f"Give {user} the right to write there, or choose another path."
        yield _Fault("unusable_socket", key, f"User {user} cannot create a socket in {folder}.", fix)
    elif os.path.lexists(path) and not path.is_socket():
        yield _Fault("unusable_socket", key, f"{path} exists and is no socket.", "Move it away, or choose another path.")
    elif path.is_socket() and _answers(path):
        yield _in_use(key, str(path), "path")


def _in_use(key: Sequence[str], name: str, kind: str) -> _Fault:
    fix = f"Stop it, or choose another {kind}."
    if os.geteuid() == 0:
        return _Fault("port_in_use", key, f"Another program listens on {name}.", fix)
    # The status of the running sidecar shows whose socket it is, and this user may be unable to read that.
    return _Fault(
        "port_in_use", key, f"A program listens on {name}.", f"If it is not the sidecar itself, {fix[0].lower()}{fix[1:]}"
    )


def _answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(0)  # a full backlog is an answer as well
        try:
            probe.connect(str(path))
        except BlockingIOError:
            return True
        except OSError:
            return False
    return True


def _inet_socket(one: MilterSettings | AdminSettings, key: Sequence[str]) -> Iterator[_Fault]:
    name = quoted(one.socket)
    try:
        family, address = resolve(one.socket)
        with socket.socket(family) as probe:
            # Connections of an earlier sidecar that are still closing do not keep the port.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            yield _in_use(key, name, "port")
        else:
            fix = "Choose an address of this machine, and a port from 1024 on unless root starts the program."
            yield _Fault("unusable_socket", key, f"This user cannot listen on {name}: {error.strerror}.", fix)
