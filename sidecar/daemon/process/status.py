"""What the supervisor shows of itself: in a file for `sidecar status`, in one sentence for systemd.

Owns the form of both. Never decides what is fine. The file's field names are for ever.
"""

import os
import time
from contextlib import suppress
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Literal

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from sidecar import log
from sidecar.core.text import counted, printable
from sidecar.daemon.metrics import INFINITE, Memory
from sidecar.daemon.process.notify import notify
from sidecar.daemon.process.plan import Plan

FILE_NAME = "status.json"
State = Literal["starting", "serving", "stopping", "stopped"]
_FILE_MODE = 0o640
WHAT_TO_DO = "Free some space there, or set a smaller journal.minimum_free. Mail is still handled."
# systemctl shows the sentence on one line.
_SENTENCE_LIMIT = 500


def _version() -> str:
    """Give the version of the program, as it was installed."""
    try:
        return metadata.version("sidecar")
    except metadata.PackageNotFoundError:
        return "unknown"


# Looked up before root's rights are given up: where the program is installed, its user may have no business.
VERSION = _version()

_LOG = log.get("supervisor")


class WorkerStatus(Struct, frozen=True, kw_only=True):
    """A worker process; `ready` once it accepts connections, `retiring` when it only finishes what it has."""

    pid: int
    ready: bool
    retiring: bool
    since: str


class SettingsStatus(Struct, frozen=True, kw_only=True):
    """The settings that serve: `revision` is short for the bytes of all files they came from."""

    revision: str
    loaded: str
    listener_domains: int


class ReloadStatus(Struct, frozen=True, kw_only=True):
    """How the last reload ended; without problems it was taken."""

    time: str
    problems: tuple[str, ...] = ()


class DiskStatus(Struct, frozen=True, kw_only=True):
    """The file system of the journal with the least free space, in bytes.

    `seconds_left` is the time until it is full at the rate of the last minute; None where the free space does not shrink.
    """

    directory: str
    free: int
    minimum_free: int
    seconds_left: int | None

    @property
    def low(self) -> bool:
        """Whether it has less free space than `journal.minimum_free`."""
        return self.free < self.minimum_free


class Status(Struct, frozen=True, kw_only=True):
    """The supervisor at one moment, the last one being its orderly end. Times are RFC 3339.

    `start_ticks` is when the process began, in the kernel's clock ticks since boot, so that another process that got the same
    `pid` later is not taken for it. `since` is when `state` began. `restarts` counts workers that died while they served,
    `reloads` and `failed_reloads` those that were taken and that were not. `admin_socket` is None where there is none, `disk`
    before the first look at it. `needs_restart` names the settings that have changed in the files and take effect only at the
    next start.
    """

    state: State
    since: str
    pid: int
    start_ticks: int | None
    version: str
    started: str
    socket: str
    workers_wanted: int
    workers: tuple[WorkerStatus, ...]
    settings: SettingsStatus
    last_reload: ReloadStatus | None = None
    restarts: int = 0
    reloads: int = 0
    failed_reloads: int = 0
    admin_socket: str | None = None
    disk: DiskStatus | None = None
    needs_restart: tuple[str, ...] = ()

    @property
    def degraded(self) -> bool:
        """Whether the journal's disk has less free space than `journal.minimum_free`."""
        return self.disk is not None and self.disk.low

    def serving(self) -> int:
        """Count the workers that accept connections."""
        return sum(one.ready and not one.retiring for one in self.workers)


def first_status(socket: str, plan: Plan, admin_socket: str | None = None) -> Status:
    """Make the status of this process, which is to serve with that plan."""
    now = instant(time.time())
    return Status(
        state="starting",
        since=now,
        pid=os.getpid(),
        start_ticks=_start_ticks(os.getpid()),
        version=VERSION,
        started=now,
        socket=socket,
        workers_wanted=plan.settings.milter.workers,
        workers=(),
        settings=_settings(plan),
        admin_socket=admin_socket,
    )


def in_state(status: Status, state: State) -> Status:
    """Give the status in another state, from now on."""
    return replace(status, state=state, since=instant(time.time()))


def serving(status: Status, plan: Plan) -> Status:
    """Give the status with a plan that serves."""
    status = status if status.state == "serving" else in_state(status, "serving")
    return replace(
        status, settings=_settings(plan), workers_wanted=plan.settings.milter.workers, needs_restart=plan.needs_restart
    )


def _settings(plan: Plan) -> SettingsStatus:
    return SettingsStatus(revision=plan.revision, loaded=instant(plan.made), listener_domains=len(plan.settings.domains))


def reloaded(status: Status, problems: tuple[str, ...] = ()) -> Status:
    """Give the status after a reload, which failed if there are problems."""
    return replace(
        status,
        last_reload=ReloadStatus(time=instant(time.time()), problems=problems),
        reloads=status.reloads + (not problems),
        failed_reloads=status.failed_reloads + bool(problems),
    )


def show_numbers(memory: Memory, status: Status, disk: DiskStatus | None) -> None:
    """Publish the supervisor's metrics. `disk` is from the last look, which the status need not show."""
    numbers = {
        ("workers", "wanted"): status.workers_wanted,
        ("workers", "ready"): status.serving() if status.state == "serving" else 0,
        ("workers", "retiring"): sum(one.retiring for one in status.workers),
        ("worker_restarts",): status.restarts,
        ("reloads", "taken"): status.reloads,
        ("reloads", "failed"): status.failed_reloads,
        ("listener_domains",): status.settings.listener_domains,
        ("start_timestamp_seconds",): int(datetime.fromisoformat(status.started).timestamp()),
    }
    if disk is not None:
        numbers |= {
            ("degraded",): int(disk.low),
            ("journal_free_bytes",): disk.free,
            ("journal_minimum_free_bytes",): disk.minimum_free,
            ("journal_time_left_seconds",): INFINITE if disk.seconds_left is None else disk.seconds_left,
        }
    memory.publish(numbers)


def sentence(status: Status) -> str:
    """Say how it is."""
    if status.state != "serving":
        return f"{status.state.capitalize()}."
    settings, reload = status.settings, status.last_reload
    text = (
        f"Serving at {status.socket} with {counted(status.serving(), 'worker')} and "
        f"{counted(settings.listener_domains, 'listener domain')}, settings {settings.revision} of {settings.loaded}."
    )
    if reload is not None and reload.problems:
        text = f"The reload of {reload.time} failed: {reload.problems[0]} {text}"
    if status.disk is not None and status.disk.low:
        text = f"Degraded: {in_words(status.disk)} {text}"
    return printable(text)[:_SENTENCE_LIMIT]


def in_words(disk: DiskStatus) -> str:
    """Return the free space as a sentence, and what to do where it is low."""
    text = f"{disk.directory} has {disk.free} bytes free for records"
    if disk.low:
        text += f", less than journal.minimum_free, {disk.minimum_free}"
    if disk.seconds_left is not None:
        text += f"; at the current rate it is full in {disk.seconds_left} seconds"
    return f"{text}. {WHAT_TO_DO}" if disk.low else f"{text}."


class Board:
    """Where the status is shown, each time it differs from the last."""

    def __init__(self, directory: Path) -> None:
        self._path = directory / FILE_NAME
        self._shown: Status | None = None
        self._said = ""
        self._complained = False

    def show(self, status: Status) -> None:
        """Write the file and tell systemd. A file that cannot be written costs a line in the log and nothing else."""
        if status == self._shown:
            return
        self._shown = status
        self._write(msgspec.json.format(msgspec.json.encode(status)) + b"\n")
        if (said := sentence(status)) != self._said:
            self._said = said
            notify(f"STATUS={said}")

    def _write(self, content: bytes) -> None:
        try:
            _replace(self._path, content)
            self._complained = False
        except OSError as error:
            if not self._complained:
                _LOG.warning(f"cannot write {self._path}: {error.strerror}; sidecar status shows what was there before")
            self._complained = True


def _replace(path: Path, content: bytes) -> None:
    """Put a whole new file in the place of the old: whoever reads sees one or the other."""
    name, draft = path.name, path.with_suffix(".new").name
    folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with suppress(FileNotFoundError):
            os.unlink(draft, dir_fd=folder)
        # What somebody else puts there meanwhile is neither followed nor written to (open(2), O_EXCL).
        flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC
        with os.fdopen(os.open(draft, flags, _FILE_MODE, dir_fd=folder), "wb") as file:
            file.write(content)
        os.rename(draft, name, src_dir_fd=folder, dst_dir_fd=folder)
    finally:
        os.close(folder)


def read_status(directory: Path) -> Status:
    """Read what a supervisor wrote last. Raises OSError, and ValueError for what no supervisor wrote."""
    return msgspec.json.decode((directory / FILE_NAME).read_bytes(), type=Status)


def is_fine(status: Status) -> bool:
    """Return True if a running sidecar does all that it should: it serves with the newest settings, and its disk has room."""
    failed = status.last_reload is not None and status.last_reload.problems
    return status.state == "serving" and status.serving() > 0 and not failed and not status.degraded


def is_running(status: Status) -> bool:
    """Tell whether the process that wrote this is still there, and not at its end."""
    if status.state == "stopped":
        return False
    try:
        os.kill(status.pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass  # it is somebody else's
    now = _start_ticks(status.pid)
    return now == status.start_ticks or None in {now, status.start_ticks}


def _start_ticks(pid: int) -> int | None:
    """Give when a process began, 0 for one that is dead and only waits to be buried; None where it cannot be seen.

    (The 22nd field of proc_pid_stat(5), and the third.)
    """
    try:
        text = Path(f"/proc/{pid}/stat").read_text("utf-8", "replace")
    except OSError:
        return None
    # The second field, in parentheses, may hold anything.
    fields = text.rpartition(")")[2].split()
    return 0 if fields[0] == "Z" else int(fields[19])


def instant(seconds: float) -> str:
    """Write seconds since 1970 as RFC 3339."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
