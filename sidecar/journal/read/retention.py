"""Retention: finished segments are deleted by age, by the size of all, and when the disk is nearly full; the oldest first.

Owns which segments are deleted. Never deletes a segment that is being written, one that a reader with a checkpoint has not
read, or a file of another program.
"""

import fcntl
import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from msgspec import Struct

from sidecar import log
from sidecar.core.settings.values import RECORD_TYPES, JournalSettings
from sidecar.core.text import counted
from sidecar.journal import is_finished, own_names
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


class Retention:
    """Keeps the journal within its settings. `clock` returns seconds since 1970, `free` the bytes free in a directory.

    All workers of a journal may sweep: one does, the others return at once.
    """

    def __init__(
        self,
        settings: JournalSettings,
        checkpoints: Checkpoints,
        *,
        clock: Callable[[], float],
        free: Callable[[Path], int] = lambda directory: shutil.disk_usage(directory).free,
    ) -> None:
        self._settings = settings
        self._checkpoints = checkpoints
        self._clock = clock
        self._free = free
        self._log_at = 0.0

    def sweep(self) -> float:
        """Delete what is beyond the settings, and log it. Return the seconds until the next sweep."""
        deleted: Counter[str] = Counter()
        unread: list[Path] = []
        try:
            if self._settings.directory.is_dir():
                with _sole(self._settings.directory) as alone:
                    if alone:
                        self._sweep(deleted, unread)
        except (OSError, ValueError) as error:
            self._log_problem("old segments could not be deleted", error=error)
        for why, count in deleted.items():
            write = _LOG.warning if why == "minimum_free" else _LOG.info
            write(f"deleted {counted(count, 'old segment')}: journal.{why}", directory=self._settings.directory)
        if unread:
            text = f"{counted(len(unread), 'old segment')} cannot be deleted: not all of it was read by "
            self._log_problem(text + ", ".join(self._checkpoints.readers()), first=unread[0])
        return _SOON if deleted or unread else _USUAL

    def _sweep(self, deleted: Counter[str], unread: list[Path]) -> None:
        """Count the deleted segments by setting, and list those that a reader still needs. Raise OSError and ValueError."""
        segments = sorted(self._segments(), key=lambda one: (one.path.name, one.path))
        total = sum(one.size for one in segments)
        free = {one.device: self._free(one.path.parent) for one in segments}
        is_read = None
        for one in segments:
            why = self._why_delete(one, total=total, free=free[one.device]) if one.finished else None
            if why is None:
                continue
            is_read = is_read or self._read_by_all()
            if not is_read(one.path):
                unread.append(one.path)
                continue
            one.path.unlink(missing_ok=True)
            total -= one.size
            free[one.device] += one.size
            deleted[why] += 1

    def _segments(self) -> Iterator[_Segment]:
        places = [place for record_type in RECORD_TYPES if (place := self._settings.place(record_type)) is not None]
        for directory in dict(places):
            is_ours = own_names(suffix for place, suffix in places if place == directory).fullmatch
            try:
                entries = [entry for entry in os.scandir(directory) if is_ours(entry.name)]
            except FileNotFoundError:
                continue  # nothing was written there yet
            for entry in entries:
                try:
                    state = entry.stat(follow_symlinks=False)
                except FileNotFoundError:
                    continue  # an operator has moved it away
                if entry.is_file(follow_symlinks=False):
                    yield _Segment(
                        path=Path(entry),
                        size=max(state.st_size, state.st_blocks * _STAT_BLOCK),
                        written=state.st_mtime,
                        device=state.st_dev,
                        finished=is_finished(state),
                    )

    def _why_delete(self, segment: _Segment, *, total: int, free: int) -> str | None:
        """Return the setting by which a segment is deleted, or None."""
        settings = self._settings
        if settings.keep_age and segment.written < self._clock() - settings.keep_age:
            return "keep_age"
        if settings.keep_size and total > settings.keep_size:
            return "keep_size"
        return "minimum_free" if free < settings.minimum_free else None

    def _read_by_all(self) -> Callable[[Path], bool]:
        """Return a function: has every reader read all of a segment? Raise OSError and ValueError."""
        checkpoints = [self._checkpoints.load(reader).segments for reader in self._checkpoints.readers()]
        return lambda path: all((mark := segments.get(str(path))) is not None and mark.done for segments in checkpoints)

    def _log_problem(self, text: str, **facts: object) -> None:
        if (now := self._clock()) >= self._log_at:
            self._log_at = now + _LOG_SECONDS
            _LOG.error(text, directory=self._settings.directory, **facts)


@contextmanager
def _sole(directory: Path) -> Iterator[bool]:
    """Yield True if no other process sweeps this directory until the end of the block. Raise OSError."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        yield False
    else:
        yield True
    finally:
        os.close(descriptor)
