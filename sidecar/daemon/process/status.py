"""The supervisor's status: a file for `sidecar status`, a sentence for systemd, and numbers for the metrics.

Owns their form, and the check of the free space for records. Never decides about mail. The file's field names are stable.
"""

import os
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from datetime import datetime
from importlib import metadata
from pathlib import Path
from typing import Final, Literal

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from sidecar import log
from sidecar.core.settings.values import RECORD_TYPES, JournalSettings
from sidecar.core.text import counted, in_units, printable, rfc3339
from sidecar.daemon.metrics import INFINITE, Memory
from sidecar.daemon.process.plan import Plan
from sidecar.daemon.process.systemd import notify, unit_name
from sidecar.daemon.process.workers import Worker
from sidecar.machine import free_bytes

FILE_NAME: Final = "status.json"
WHAT_TO_DO: Final = (
    "Free some space there, or set a smaller journal.minimum_free. When it is full, mail that needs a record gets 451."
)
LOOK_SECONDS = 5.0
# The rate is that of the last minute. A disk that is too full is logged as often.
LOG_SECONDS = 60.0
_FILE_MODE: Final = 0o640
# systemctl shows the sentence on one line.
_SENTENCE_LIMIT: Final = 500

State = Literal["starting", "serving", "stopping", "stopped"]

_LOG = log.get("supervisor")


def _version() -> str:
    try:
        return metadata.version("sidecar")
    except metadata.PackageNotFoundError:
        return "unknown"


# Read before root's rights are given up: the user may not be allowed to read the folder of the program.
VERSION = _version()


class WorkerStatus(Struct, frozen=True, kw_only=True):
    """A worker process; `ready` once it accepts connections, `retiring` when it only finishes its open ones."""

    pid: int
    ready: bool
    retiring: bool
    since: str


class SettingsStatus(Struct, frozen=True, kw_only=True):
    """The settings that serve: `revision` is short for the bytes of all their files."""

    revision: str
    loaded: str
    listener_domains: int


class ReloadStatus(Struct, frozen=True, kw_only=True):
    """How the last reload ended: it succeeded if there are no problems."""

    time: str
    problems: tuple[str, ...] = ()


class DiskStatus(Struct, frozen=True, kw_only=True):
    """The file system of the journal with the least free space, in bytes.

    `seconds_left` is the time until it is full at the rate of the last minute; None if the free space does not shrink.
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

    `start_ticks` is when the process began, in the kernel's clock ticks since boot: another process may get the same `pid`
    later. `since` is when `state` began. `restarts` counts workers that died while they served, `reloads` and `failed_reloads`
    those that succeeded and failed. `admin_socket` is None if there is none, `disk` before the first look at it.
    `needs_restart` names the settings that have changed in the files and take effect only at the next start. `unit` is the name
    of the systemd service, None if systemd did not start it.
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
    unit: str | None = None

    @property
    def degraded(self) -> bool:
        """Whether the journal's disk has less free space than `journal.minimum_free`."""
        return self.disk is not None and self.disk.low

    def serving(self) -> int:
        """Count the workers that accept connections."""
        return sum(one.ready and not one.retiring for one in self.workers)


class StatusPublisher:
    """The status of this process, published when it has changed."""

    def __init__(
        self,
        plan: Plan,
        *,
        socket: str,
        admin_socket: str | None = None,
        memory: Memory | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        now = rfc3339(int(time.time()))
        self.now = Status(
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
            unit=unit_name(),
        )
        self.space = DiskSpace(clock)
        self._directory = plan.settings.state_directory
        self._memory = memory
        self._shown: Status | None = None
        self._sentence = ""
        self._is_logged = False

    def enter(self, state: State) -> None:
        """Change the state."""
        if self.now.state != state:
            self.now = replace(self.now, state=state, since=rfc3339(int(time.time())))

    def count_restart(self) -> None:
        """Count a worker that died while it served."""
        self.now = replace(self.now, restarts=self.now.restarts + 1)

    def end_reload(self, *problems: str) -> None:
        """Note the end of a reload, which failed if there are problems."""
        self.now = replace(
            self.now,
            last_reload=ReloadStatus(time=rfc3339(int(time.time())), problems=problems),
            reloads=self.now.reloads + (not problems),
            failed_reloads=self.now.failed_reloads + bool(problems),
        )

    def publish(self, plan: Plan | None, workers: Sequence[Worker]) -> None:
        """Publish the plan that serves, and these workers. If the file cannot be written, log it once."""
        shown = (
            WorkerStatus(pid=one.pid, ready=one.ready, retiring=one.retiring, since=rfc3339(int(one.since))) for one in workers
        )
        self.now = replace(self.now, workers=tuple(shown))
        if plan is not None:
            self.enter("serving")
            self.now = replace(
                self.now,
                settings=_settings(plan),
                workers_wanted=plan.settings.milter.workers,
                needs_restart=plan.needs_restart,
                disk=self.space.look(plan.settings.journal),
            )
        if self._memory is not None:
            publish_metrics(self._memory, self.now, self.space.latest)
        if self.now == self._shown:
            return
        self._shown = self.now
        try:
            write_status(self._directory, self.now)
            self._is_logged = False
        except OSError as error:
            if not self._is_logged:
                path = self._directory / FILE_NAME
                _LOG.warning(f"cannot write {path}: {error.strerror}; sidecar status shows what was there before")
            self._is_logged = True
        if (text := sentence(self.now)) != self._sentence:
            self._sentence = text
            notify(f"STATUS={text}")


def _settings(plan: Plan) -> SettingsStatus:
    return SettingsStatus(revision=plan.revision, loaded=rfc3339(int(plan.made)), listener_domains=len(plan.settings.domains))


def publish_metrics(memory: Memory, status: Status, disk: DiskStatus | None) -> None:
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
    """Return the status as one sentence."""
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
    """Return the free space as a sentence, and what to do if it is low."""
    text = f"{disk.directory} has {in_units(disk.free)} free for records"
    if disk.low:
        text += f", less than journal.minimum_free, {in_units(disk.minimum_free)}"
    if disk.seconds_left is not None:
        text += f"; at the current rate it is full in {disk.seconds_left} seconds"
    return f"{text}. {WHAT_TO_DO}" if disk.low else f"{text}."


def write_status(directory: Path, status: Status) -> None:
    """Replace the file as a whole: a reader sees the old one or the new one. Raise OSError."""
    content = msgspec.json.format(msgspec.json.encode(status)) + b"\n"
    name, draft = FILE_NAME, "status.new"
    folder = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with suppress(FileNotFoundError):
            os.unlink(draft, dir_fd=folder)
        # If another user puts a link there, O_EXCL does not follow it (open(2)).
        flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC
        with os.fdopen(os.open(draft, flags, _FILE_MODE, dir_fd=folder), "wb") as file:
            file.write(content)
        os.rename(draft, name, src_dir_fd=folder, dst_dir_fd=folder)
    finally:
        os.close(folder)


class DiskSpace:
    """The free space for records, checked every few seconds. `latest` is the last result, None before the first."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self.look_at = 0.0
        self.latest: DiskStatus | None = None
        self._shown: DiskStatus | None = None
        self._log_at = 0.0
        self._samples: dict[Path, deque[tuple[float, int]]] = {}

    def look(self, journal: JournalSettings) -> DiskStatus | None:
        """Look at the disks if it is time. Return what `sidecar status` shows: a look each minute, and every change."""
        now = self._clock()
        if now < self.look_at:
            return self._shown
        self.look_at = now + LOOK_SECONDS
        self.latest = min(self._looks(journal, now), key=lambda one: one.free, default=None)
        was_low = self._shown is not None and self._shown.low
        is_low = self.latest is not None and self.latest.low
        if is_low != was_low or now >= self._log_at:
            self._log_at = now + LOG_SECONDS
            self._log(was_low=was_low)
            self._shown = self.latest
        return self._shown

    def _looks(self, journal: JournalSettings, now: float) -> Iterator[DiskStatus]:
        places = (journal.place(record_type) for record_type in RECORD_TYPES)
        directories = dict.fromkeys(place[0] for place in places if place is not None)
        self._samples = {directory: self._samples.get(directory, deque()) for directory in directories}
        for directory, samples in self._samples.items():
            with suppress(OSError):  # a folder that this user cannot reach: the first write reports it
                free = free_bytes(directory)
                samples.append((now, free))
                while samples[0][0] < now - LOG_SECONDS:
                    samples.popleft()
                yield DiskStatus(
                    directory=str(directory),
                    free=free,
                    minimum_free=journal.minimum_free,
                    seconds_left=_seconds_left(samples),
                )

    def _log(self, *, was_low: bool) -> None:
        disk = self.latest
        if disk is not None and disk.low:
            _LOG.error(
                "degraded: the journal's file system has less free space than journal.minimum_free; free some space there: "
                "mail is still handled, but all that needs a record gets 451 when nothing can be written",
                directory=disk.directory,
                free=disk.free,
                minimum_free=disk.minimum_free,
                seconds_left=disk.seconds_left,
            )
        elif was_low and disk is not None:
            _LOG.info("recovered: the journal's file system has space again", directory=disk.directory, free=disk.free)


def _seconds_left(samples: deque[tuple[float, int]]) -> int | None:
    """Return the seconds until nothing is free at the rate of these looks; None if the space does not shrink."""
    (began, before), (now, free) = samples[0], samples[-1]
    return int(free * (now - began) / (before - free)) if before > free else None


# --- reading the file


def read_status(directory: Path) -> Status:
    """Read what a supervisor wrote last. Raise OSError, and ValueError for what no supervisor wrote."""
    return msgspec.json.decode((directory / FILE_NAME).read_bytes(), type=Status)


def is_fine(status: Status) -> bool:
    """Return True if a running sidecar does all that it should: it serves with the newest settings, and its disk has space."""
    failed = status.last_reload is not None and status.last_reload.problems
    return status.state == "serving" and status.serving() > 0 and not failed and not status.degraded


def is_running(status: Status) -> bool:
    """Return True if the process that wrote this is running."""
    if status.state == "stopped":
        return False
    try:
        os.kill(status.pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass  # it is a process of another user
    now = _start_ticks(status.pid)
    return now == status.start_ticks or None in {now, status.start_ticks}


def _start_ticks(pid: int) -> int | None:
    """Return when a process began, 0 for a zombie, None if it cannot be seen (proc_pid_stat(5), fields 22 and 3)."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text("utf-8", "replace")
    except OSError:
        return None
    # The second field, in parentheses, may hold anything.
    fields = text.rpartition(")")[2].split()
    return 0 if fields[0] == "Z" else int(fields[19])
