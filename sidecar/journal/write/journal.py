"""The journal of one process: which segment is written, when it rolls, and what a writer is told.

Owns the current segment. Never opens a segment that another process writes, and never changes a line that was written.

What is promised, and when: on return from `write`, the kernel has the lines, so they outlive this process however it dies;
with `durable`, the disk has them, so they outlive the machine. A write that fails raises, and its lines may or may not be
found later: the mail is answered with a temporary failure, and the peer's next try writes them again (at least once).
"""

import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from threading import Lock

from sidecar import log
from sidecar.journal.error import JournalError
from sidecar.journal.write.leftovers import finish_leftovers
from sidecar.journal.write.packing import packer
from sidecar.journal.write.segment import Segment

_LOG = log.get("journal")


class Journal:
    """Appends lines to segments in `directory`, from any number of threads; build it after the fork.

    A segment rolls before it would exceed `segment_size` bytes of lines, and `segment_age` seconds after its beginning, at the
    next write or `roll`; it is finished by the next durable write or `roll`. `clock` gives seconds since 1970 and only names
    segments: age is measured on the monotonic clock, so that one set back or forth neither holds a segment open nor rolls it
    early. With a `level` of compression, segments are packed with zstd.
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
        self._lock = Lock()
        self._current: Segment | None = None
        self._retired: list[Segment] = []
        self._closed = False
        finish_leftovers(self._directory, suffix)

    def write(self, lines: bytes, *, durable: bool) -> None:
        """Append whole lines, all or none, to one segment. Raises JournalError.

        Each call tries anew: after a full disk, a lost directory or a failed fsync, the journal heals by itself.
        """
        if not lines.endswith(b"\n"):
            raise ValueError("the journal takes whole lines, each ended by a line feed")
        try:
            with self._lock:
                segment = self._segment_for(len(lines))
                end = segment.append(lines)
            # Out of the lock: the others write on while this thread waits for the disk.
            if durable:
                segment.reach(end)
        except OSError as error:
            raise JournalError.because(
                error,
                fact="records could not be written to the journal in",
                path=self._directory,
                then="each new message tries again",
            ) from error
        finally:
            # That waits for the disk too. A writer who does not want to may serve many connections, and all would wait for as
            # much of a segment as is not on disk yet: the next who wants to does it, or `roll`.
            if durable:
                self._finish_retired()

    def roll(self) -> None:
        """Finish the current segment if it is too old: who follows the log may wait for its end before going on to the next."""
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

    def _segment_for(self, length: int) -> Segment:
        if self._closed:
            raise JournalError(f"the journal in {self._directory} is closed; nothing can be written to it any more")
        current = self._current
        if current is not None and current.usable() and not self._is_full(current, length):
            return current
        # The new one first: where it cannot be had, the old one stays and the next write tries again.
        instant = datetime.fromtimestamp(self._clock(), UTC)
        fresh = Segment.create(self._directory, instant, suffix=self._suffix, packer=packer(self._level))
        if current is not None:
            self._retired.append(current)
        self._current = fresh
        return fresh

    def _is_full(self, segment: Segment, length: int) -> bool:
        # Lines that alone exceed the limit get a segment of their own.
        return segment.size + length > self._segment_size or self._is_old(segment)

    def _is_old(self, segment: Segment) -> bool:
        return time.monotonic() - segment.born >= self._segment_age

    def _finish_retired(self) -> None:
        """Finish the segments that have been replaced: outside the lock, since it waits for the disk."""
        if not self._retired:
            return
        with self._lock:
            retired, self._retired = self._retired, []
        for segment in retired:
            try:
                segment.finish()
            except OSError as error:
                # No writer waits for these lines any more (a durable one was told of the failure itself), so the
                # program's log is where their possible loss is known.
                _LOG.error(
                    "the last lines of a segment may not have reached the disk",
                    segment=segment.path,
                    error=error,
                )
