"""Retention: finished segments are deleted by age, by the size of all, and when the disk is nearly full; the oldest first.

Owns which segments are deleted. Never deletes a segment that is being written, one that a reader with a checkpoint has not
read, or a file of another program. One folder or segment that cannot be deleted does not keep the others.
"""

import math
import os
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

from msgspec import Struct

from sidecar import log
from sidecar.core.settings.values import RECORD_TYPES, JournalSettings
from sidecar.core.text import counted
from sidecar.journal import is_finished, own_names
from sidecar.journal.clock_guard import clock_guard
from sidecar.journal.read.checkpoints import Checkpoints

# Seconds between two sweeps; fewer while there is something to delete, because a disk that fills up needs space soon.
_USUAL, _SOON = 10.0, 1.0
# A problem that stays is logged again after this time.
_LOG_SECONDS = 60.0
_STAT_BLOCK = 512

_LOG = log.get("journal")


class _Segment(Struct, frozen=True, kw_only=True):
    """A segment on disk. `size` is the space that it takes; `written` the time of its last line, in seconds since 1970."""

    path: Path
    size: int
    written: float
    device: int
    finished: bool


class _Sweep(Struct, kw_only=True):
    """What one sweep did: the deleted segments by setting, how many ages were not counted, and which segments had to stay.

    `short` means that no segment is left to delete, and a disk still has less than `minimum_free`. `error` is the first one.
    """

    deleted: Counter[str]
    unread: list[Path]
    readers: set[str]
    paused: int = 0
    short: bool = False
    error: Exception | None = None


class Retention:
    """Keeps the journal within its settings. `clock` returns seconds since 1970, `free` the bytes free in a directory.

    All workers of a journal may sweep: by `memory`, a file that they share, one does, and the others return at once.
    """

    def __init__(
        self,
        settings: JournalSettings,
        checkpoints: Checkpoints,
        memory: Path,
        *,
        clock: Callable[[], float],
        free: Callable[[Path], int],
    ) -> None:
        self._settings = settings
        self._checkpoints = checkpoints
        self._memory = memory
        self._clock = clock
        self._free = free
        self._log_at = -math.inf

    def sweep(self) -> float:
        """Delete what is beyond the settings, and log it. Return the seconds until the next sweep."""
        now = self._clock()
        try:
            with clock_guard(self._memory, now=now, keep_age=self._settings.keep_age) as guard:
                if guard is None:
                    return _USUAL
                if now < guard.due <= now + _USUAL:
                    return guard.due - now
                done = self._sweep(now, paused=guard.paused)
                seconds = _SOON if done.deleted else _USUAL
                guard.due = now + seconds
                if done.paused and guard.began:
                    text = guard.warning(counted(done.paused, "segment"), "journal.keep_age")
                    _LOG.warning(text, directory=self._settings.directory)
                return seconds
        except OSError as error:
            # A full disk has no space for the file, and needs the sweep most.
            self._log_problem("no segment is deleted by journal.keep_age", error=error)
            self._sweep(now, paused=True)
            return _USUAL

    def _sweep(self, now: float, *, paused: bool) -> _Sweep:
        done = _Sweep(deleted=Counter(), unread=[], readers=set())
        segments = sorted(self._segments(done), key=lambda one: (one.path.name, one.path))
        total = sum(one.size for one in segments)
        disks = {one.device: one.path.parent for one in segments}
        free = {device: self._bytes_free(directory, done) for device, directory in disks.items()}
        missing_readers = None
        for one in segments:
            why = self._why_delete(one, now, total=total, free=free[one.device]) if one.finished else None
            if why == "keep_age" and paused:
                done.paused += 1
                why = self._why_delete(one, -math.inf, total=total, free=free[one.device])
            if why is None:
                continue
            try:
                missing_readers = missing_readers or self._missing_readers()
                if missing := missing_readers(one.path):
                    done.unread.append(one.path)
                    done.readers.update(missing)
                    continue
                one.path.unlink(missing_ok=True)
            except (OSError, ValueError) as error:
                done.error = done.error or error
                continue
            total -= one.size
            free[one.device] += one.size
            done.deleted[why] += 1
        done.short = not done.unread and any(left < self._settings.minimum_free for left in free.values())
        self._log(done)
        return done

    def _segments(self, done: _Sweep) -> Iterator[_Segment]:
        places = [place for record_type in RECORD_TYPES if (place := self._settings.place(record_type)) is not None]
        for directory in dict(places):
            is_ours = own_names(suffix for place, suffix in places if place == directory).fullmatch
            try:
                with os.scandir(directory) as entries:
                    yield from (found for entry in entries if is_ours(entry.name) and (found := _segment(entry)) is not None)
            except FileNotFoundError:
                continue  # nothing was written there yet
            except OSError as error:
                done.error = done.error or error

    def _bytes_free(self, directory: Path, done: _Sweep) -> float:
        """Return the bytes free; if that is not known, nothing is deleted for it."""
        try:
            return self._free(directory)
        except OSError as error:
            done.error = done.error or error
            return math.inf

    def _why_delete(self, segment: _Segment, now: float, *, total: int, free: float) -> str | None:
        """Return the setting by which a segment is deleted, or None."""
        settings = self._settings
        if settings.keep_age and segment.written < now - settings.keep_age:
            return "keep_age"
        if settings.keep_size and total > settings.keep_size:
            return "keep_size"
        return "minimum_free" if free < settings.minimum_free else None

    def _missing_readers(self) -> Callable[[Path], list[str]]:
        """Return a function that returns which readers have not read a segment. Raise OSError and ValueError."""
        checkpoints = {reader: self._checkpoints.load(reader).segments for reader in self._checkpoints.readers()}

        def missing(path: Path) -> list[str]:
            marks = {reader: segments.get(str(path)) for reader, segments in checkpoints.items()}
            return [reader for reader, mark in marks.items() if mark is None or not mark.done]

        return missing

    def _log(self, done: _Sweep) -> None:
        directory = self._settings.directory
        for why, count in done.deleted.items():
            write = _LOG.warning if why == "minimum_free" else _LOG.info
            write(f"deleted {counted(count, 'old segment')}: journal.{why}", directory=directory)
        if done.short and done.deleted["minimum_free"]:
            text = "no finished segment is left, and a disk still has less free space than journal.minimum_free"
            _LOG.error(f"{text}: other files fill it", directory=directory)
        if done.error is not None:
            self._log_problem("some old segments could not be deleted", error=done.error)
        elif done.unread:
            text = f"{counted(len(done.unread), 'old segment')} cannot be deleted, because not all was read: "
            known = [str(one) for one in self._checkpoints.all_known() if one.name in done.readers]
            self._log_problem(text + ", and ".join(known), first=done.unread[0])

    def _log_problem(self, text: str, **facts: object) -> None:
        now = self._clock()
        if not now < self._log_at <= now + _LOG_SECONDS:  # the clock may have been set back
            self._log_at = now + _LOG_SECONDS
            _LOG.error(text, directory=self._settings.directory, **facts)


def _segment(entry: os.DirEntry[str]) -> _Segment | None:
    """Return a segment; None for what is no file, or was moved away since it was listed."""
    try:
        state = entry.stat(follow_symlinks=False)
        if not entry.is_file(follow_symlinks=False):
            return None
    except FileNotFoundError:
        return None
    return _Segment(
        path=Path(entry),
        size=max(state.st_size, state.st_blocks * _STAT_BLOCK),
        written=state.st_mtime,
        device=state.st_dev,
        finished=is_finished(state),
    )
