"""The supervisor's status: a file for `sidecar status`, and a sentence for systemd.

Owns their form, and the check of the free space for records. Never decides about mail. The file's field names are stable.
"""

import os
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta, Struct

from sidecar import log
from sidecar.core.settings.suppression import SuppressionSettings
from sidecar.core.settings.values import RECORD_TYPES, JournalSettings
from sidecar.core.text import counted, in_time, in_units, printable
from sidecar.daemon.process.aside import Aside, HungError
from sidecar.journal.read import Checkpoints
from sidecar.journal.read.checkpoints import KnownReader
from sidecar.machine import free_bytes, read_file

FILE_NAME: Final = "status.json"
LOCK_NAME: Final = "lock"
WHAT_TO_DO: Final = (
    "Free some space there, or set a smaller journal.minimum_free. When it is full, mail that needs a record gets 451."
)
LOOK_SECONDS = 5.0
# Without a change. `sidecar status` doubts a status that is three times as old.
RENEW_SECONDS = 30.0
_STALE_SECONDS: Final = 3 * RENEW_SECONDS
# The rate is that of the last minute. A disk that is too full is logged as often.
LOG_SECONDS = 60.0
_FILE_MODE: Final = 0o640
# systemctl shows the sentence on one line.
_SENTENCE_LIMIT: Final = 500
# A failed reload can have some thousands of problems.
_SIZE_LIMIT: Final = 16 << 20

State = Literal["starting", "serving", "stopping", "stopped"]

_TICKS: Final = os.sysconf("SC_CLK_TCK")

_LOG = log.get("supervisor")


# kill(2) has other meanings for lower numbers, and no higher ones.
_Pid = Annotated[int, Meta(ge=1, lt=1 << 31)]


class WorkerStatus(Struct, frozen=True, kw_only=True):
    """A worker process; `ready` once it accepts connections, `retiring` when it only finishes its open ones."""

    pid: _Pid
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


class SuppressionStatus(Struct, frozen=True, kw_only=True):
    """Whether the workers' user can read the suppression list, and if not, the `problem` and what `on_unreadable` is."""

    readable: bool
    problem: str | None = None
    on_unreadable: str


class Status(Struct, frozen=True, kw_only=True):
    """The supervisor at one moment, the last one being its orderly end. Times are RFC 3339.

    `start_ticks` is when the process began, in the kernel's clock ticks since boot: another process may get the same `pid`
    later. `since` is when `state` began. `restarts` counts workers that died while they served, `faults` connections that got
    451 because of a fault of the program (0 without [admin] and [fleet]), `reloads` and `failed_reloads` those that succeeded
    and failed. `admin_socket` is None if there is none, `disk` and `suppression` before the first look at them. `suppression`
    is also None if no recipients are checked.
    `needs_restart` names the settings that have changed in the files and take effect only at the next start. `unit` is the name
    of the systemd service, None if systemd did not start it. The file is renewed at least every 30 seconds, the last time at
    `renewed`, `renewed_ticks` after boot: longer without a change means that the disk or the program hangs.
    """

    state: State
    since: str
    pid: _Pid
    start_ticks: int | None
    version: str
    started: str
    socket: str
    workers_wanted: int
    workers: tuple[WorkerStatus, ...]
    settings: SettingsStatus
    last_reload: ReloadStatus | None = None
    restarts: int = 0
    faults: int = 0
    reloads: int = 0
    failed_reloads: int = 0
    admin_socket: str | None = None
    disk: DiskStatus | None = None
    suppression: SuppressionStatus | None = None
    needs_restart: tuple[str, ...] = ()
    unit: str | None = None
    renewed: str | None = None
    renewed_ticks: int | None = None

    @property
    def degraded(self) -> bool:
        """Whether the journal's disk has less free space than `journal.minimum_free`."""
        return self.disk is not None and self.disk.low

    def serving(self) -> int:
        """Count the workers that accept connections."""
        return sum(one.ready and not one.retiring for one in self.workers)


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
        text += f"; at the current rate it is full in {in_time(disk.seconds_left)}"
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
    """The free space for records and the readers of the journal, checked every few seconds.

    `latest` is the last result, None before the first.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic, *, checkpoints: Checkpoints | None = None) -> None:
        self._clock = clock
        self._checkpoints = checkpoints
        self.readers: list[KnownReader] = []
        self.look_at = 0.0
        self.latest: DiskStatus | None = None
        self._shown: DiskStatus | None = None
        self._log_at = 0.0
        self._samples: dict[Path, deque[tuple[float, int]]] = {}
        self._looking = Aside()
        self._hangs = False

    def look(self, journal: JournalSettings) -> DiskStatus | None:
        """Look at the disks if it is time. Return what `sidecar status` shows: a look each minute, and every change."""
        now = self._clock()
        if now < self.look_at:
            return self._shown
        self.look_at = now + LOOK_SECONDS
        if (found := self._measured(journal)) is None:
            return self._shown
        self.latest = min(self._looks(journal, found, now), key=lambda one: one.free, default=None)
        was_low = self._shown is not None and self._shown.low
        is_low = self.latest is not None and self.latest.low
        if is_low != was_low or now >= self._log_at:
            self._log_at = now + LOG_SECONDS
            self._log(was_low=was_low)
            self._shown = self.latest
        return self._shown

    def _measured(self, journal: JournalSettings) -> dict[Path, int] | None:
        """Return the free bytes of each directory that can be reached, or None if a disk does not answer."""
        places = (journal.place(record_type) for record_type in RECORD_TYPES)
        directories = list(dict.fromkeys(place[0] for place in places if place is not None))
        try:
            found = self._looking.do(partial(self._measure, directories))
        except (HungError, OSError):  # OSError: no thread
            found = None
        if found is None and not self._hangs:
            _LOG.error("the disk of the journal does not answer: records wait for it", directories=list(map(str, directories)))
        elif found is not None and self._hangs:
            _LOG.info("recovered: the disk of the journal answers again")
        self._hangs = found is None
        return found

    def _measure(self, directories: Iterable[Path]) -> dict[Path, int]:
        found = {}
        for directory in directories:
            with suppress(OSError):  # a folder that this user cannot reach: the first write reports it
                found[directory] = free_bytes(directory)
        if self._checkpoints is not None:
            self.readers = self._checkpoints.all_known()
        return found

    def _looks(self, journal: JournalSettings, found: Mapping[Path, int], now: float) -> Iterator[DiskStatus]:
        self._samples = {directory: self._samples.get(directory, deque()) for directory in found}
        for directory, samples in self._samples.items():
            free = found[directory]
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
                **({"readers": list(map(str, self.readers))} if self.readers else {}),
            )
        elif was_low and disk is not None:
            _LOG.info("recovered: the journal's file system has space again", directory=disk.directory, free=disk.free)


class ListLook:
    """The state of the suppression list for the workers, whose user is that of this process; looked at every few seconds."""

    def __init__(
        self, problem_of: Callable[[SuppressionSettings], str | None], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._problem_of = problem_of
        self._clock = clock
        self._look_at = 0.0
        self._settings: SuppressionSettings | None = None
        self._shown: SuppressionStatus | None = None
        self._looking = Aside()

    def look(self, settings: SuppressionSettings | None) -> SuppressionStatus | None:
        """Return the state at the last look; None before the first one, and if no recipients are checked."""
        if settings is None or not settings.checks:
            return None
        now = self._clock()
        if settings is not self._settings:
            # A new list needs a moment to be made.
            self._settings, self._shown, self._look_at = settings, None, now + LOOK_SECONDS
        elif now >= self._look_at:
            self._look_at = now + LOOK_SECONDS
            try:
                problem = self._looking.do(partial(self._problem_of, settings))
            except HungError:
                problem = f"the disk of {settings.database} does not answer"
            except OSError as error:
                problem = error.strerror
            then = settings.on_unreadable
            self._shown = SuppressionStatus(readable=problem is None, problem=problem, on_unreadable=then)
        return self._shown


def _seconds_left(samples: deque[tuple[float, int]]) -> int | None:
    """Return the seconds until nothing is free at the rate of these looks; None if the space does not shrink."""
    (began, before), (now, free) = samples[0], samples[-1]
    return int(free * (now - began) / (before - free)) if before > free else None


# --- reading the file


def read_status(directory: Path) -> Status:
    """Read what a supervisor wrote last. Raise OSError, and ValueError for what no supervisor wrote."""
    try:
        return msgspec.json.decode(read_file(directory / FILE_NAME, _SIZE_LIMIT), type=Status)
    except RecursionError as error:
        raise ValueError("it is nested too deep") from error


def is_fine(status: Status) -> bool:
    """Return True if a running sidecar does all that it should.

    It serves with the newest settings, its disk has space, and its workers can read the suppression list that they check.
    """
    failed = status.last_reload is not None and status.last_reload.problems
    is_blind = status.suppression is not None and not status.suppression.readable
    return (
        status.state == "serving" and status.serving() > 0 and not (failed or status.degraded or is_blind or is_stale(status))
    )


def is_stale(status: Status) -> bool:
    """Return True if a running program has not renewed its status for longer than it does if all is well."""
    renewed = status.renewed_ticks
    return renewed is not None and ticks_now() - renewed > _STALE_SECONDS * _TICKS


def ticks_now() -> int:
    """Return the time since boot in the kernel's clock ticks, as that of `start_ticks`."""
    return int(time.clock_gettime(time.CLOCK_BOOTTIME) * _TICKS)


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
    now = start_ticks(status.pid)
    return now == status.start_ticks or None in {now, status.start_ticks}


def start_ticks(pid: int) -> int | None:
    """Return when a process began, 0 for a zombie, None if it cannot be seen (proc_pid_stat(5), fields 22 and 3)."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text("utf-8", "replace")
    except OSError:
        return None
    # The second field, in parentheses, may hold anything.
    fields = text.rpartition(")")[2].split()
    return 0 if fields[0] == "Z" else int(fields[19])
