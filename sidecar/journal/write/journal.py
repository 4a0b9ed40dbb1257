"""The journal of one process: which segment is written, and when a new one begins.

Owns the current segment. Never opens a segment that another process writes, and never changes a line that was written.

What is promised: appended lines are in the kernel, so they survive the end of this process; synced lines are on disk, so they
survive the machine. If a write fails, its lines can still be found later: the mail is tempfailed, and the sender's next try
writes them again (at least once).
"""

import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from threading import Lock

from sidecar import log
from sidecar.journal import JournalError
from sidecar.journal.write.leftovers import finish_leftovers
from sidecar.journal.write.segment import Segment

# Lines of several messages are joined up to this size: larger ones gain nothing from one system call, and need a copy.
_TOGETHER_LIMIT = 1024 * 1024
# The thread that serves the connections writes no more bytes than this: the kernel needs some 20 us to copy 64 kB.
_NOW_LIMIT = 64 * 1024

_LOG = log.get("journal")


class Journal:
    """Appends lines to segments in `directory`. Build it after the fork.

    One thread, the disk thread, calls all methods but `append_now`, which any thread can call and which never waits.
    A segment rolls before it would exceed `segment_size` bytes of lines, and `segment_age` seconds after its beginning, at the
    next write or `roll`. `clock` returns seconds since 1970 and only names segments: age is measured on the monotonic clock, so
    that a changed clock neither keeps a segment open nor rolls it early. With a `level` of compression, segments are packed.
    """

    def __init__(  # noqa: PLR0913 - each is a setting of the journal
        self,
        directory: Path,
        *,
        segment_size: int,
        segment_age: int,
        suffix: str = ".jsonl",
        level: int | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._directory = directory.absolute()
        self._segment_size = segment_size
        self._segment_age = segment_age
        self._suffix = suffix
        self._level = level
        self._clock = clock
        # Held for whatever changes the current segment, also while its directory is synced. `append_now` never waits for it.
        self._lock = Lock()
        self._current: Segment | None = None
        self._retired: list[Segment] = []
        self._closed = False
        finish_leftovers(self._directory, suffix)

    def write(self, lines: bytes, *, durable: bool) -> None:
        """Append whole lines, all or none, to one segment; with `durable` they are on disk on return. Raise JournalError."""
        (result,) = self.append([lines])
        if isinstance(result, Segment) and durable:
            result = self.sync(result) or result
            self._finish_retired()
        if isinstance(result, JournalError):
            raise result

    def append(self, pieces: Sequence[bytes]) -> list[Segment | JournalError]:
        """Append pieces of whole lines, in one call if possible. Return the segment or the error for each piece.

        Each call tries again: after a full disk, a lost directory or a failed fsync, the journal recovers by itself.
        """
        if not all(lines.endswith(b"\n") for lines in pieces):
            raise ValueError("the journal accepts whole lines, each ended by a line feed")
        with self._lock:
            if len(pieces) > 1 and (size := sum(map(len, pieces))) <= _TOGETHER_LIMIT:
                try:
                    if (segment := self._open_segment(size)) is not None:
                        segment.append(b"".join(pieces))
                        return [segment] * len(pieces)
                except OSError:
                    pass  # there can be space for some of them
            return [self._append(lines) for lines in pieces]

    def append_now(self, lines: bytes) -> bool:
        """Append lines if that needs no waiting: not for the lock, and not for a new segment. Raise JournalError."""
        if len(lines) > _NOW_LIMIT or not self._lock.acquire(blocking=False):
            return False
        try:
            if (segment := self._open_segment(len(lines))) is None:
                return False
            segment.append(lines)
        except OSError as error:
            raise self._error(error) from error
        finally:
            self._lock.release()
        return True

    def sync(self, segment: Segment) -> JournalError | None:
        """Put a segment's lines on disk. Return the error if that fails."""
        try:
            segment.sync()
        except OSError as error:
            return self._error(error)
        return None

    def roll(self) -> None:
        """Finish the segments that were replaced, and the current one if it is too old: readers may wait for its end."""
        with self._lock:
            if self._current is not None and self._is_old(self._current):
                self._retired.append(self._current)
                self._current = None
        self._finish_retired()

    def close(self) -> None:
        """Finish the current segment; every later write raises JournalError. May be called again."""
        with self._lock:
            self._closed = True
            if self._current is not None:
                self._retired.append(self._current)
                self._current = None
        self._finish_retired()

    def _append(self, lines: bytes) -> Segment | JournalError:
        try:
            segment = self._open_segment(len(lines)) or self._new_segment()
            segment.append(lines)
        except JournalError as error:
            return error
        except OSError as error:
            return self._error(error)
        return segment

    def _open_segment(self, length: int) -> Segment | None:
        """Return the current segment if so many bytes belong there."""
        current = self._current
        if current is None or not current.usable():
            return None
        is_full = current.size + length > self._segment_size or self._is_old(current)
        return None if is_full else current

    def _new_segment(self) -> Segment:
        if self._closed:
            raise JournalError(f"the journal in {self._directory} is closed; nothing can be written to it any more")
        # If it cannot be created, the old one stays and the next write tries again.
        instant = datetime.fromtimestamp(self._clock(), UTC)
        fresh = Segment.create(self._directory, instant, suffix=self._suffix, level=self._level)
        if self._current is not None:
            self._retired.append(self._current)
        self._current = fresh
        return fresh

    def _is_old(self, segment: Segment) -> bool:
        return time.monotonic() - segment.born >= self._segment_age

    def _finish_retired(self) -> None:
        # Not under the lock, since it waits for the disk.
        retired, self._retired = self._retired, []
        for segment in retired:
            try:
                segment.finish()
            except OSError as error:
                # No message waits for these lines any more: only the log can report that they may be lost.
                _LOG.error("the last lines of a segment may not have reached the disk", segment=segment.path, error=error)

    def _error(self, error: OSError) -> JournalError:
        fact, then = "records could not be written to the journal in", "each new message tries again"
        return JournalError.because(error, fact=fact, path=self._directory, then=then)
