"""Follows the journal, and keeps the index up to date: in a process of its own, for which nothing else waits.

Owns what is read again, and what is deleted when. The checkpoint is in the index itself, and holds no segment of the journal:
one that is deleted before it was read is not in the index.
"""

import time
from collections.abc import Callable
from contextlib import ExitStack
from datetime import UTC, datetime
from typing import Final, Self

from msgspec.structs import replace

from sidecar.core.settings.settings import Settings
from sidecar.journal.database import DamagedError, file_of, remove_log, require_same
from sidecar.journal.index import totals
from sidecar.journal.index.row import SECOND, Row, row_of
from sidecar.journal.index.store import BY_OPERATOR, CAUGHT_UP, IndexedSegment, open_writer, take_request
from sidecar.journal.read import Followed, SegmentMark, Skipped, followers
from sidecar.journal.read.logs import key_of, stored_paths

# A transaction has so many records, or so many bytes of the journal: rows are never larger than their lines.
_BATCH: Final = 5_000
_BATCH_BYTES: Final = 8 * 1024 * 1024
# A page shows a record after this time at most, and one transaction.
_LOOK_SECONDS: Final = 0.5
_NOTE_SECONDS: Final = 10.0
_TIDY_SECONDS: Final = 60.0
_DELETED_AT_ONCE: Final = 5_000
# So long after its end a bucket is still being filled: the segments of the workers are read one after the other, an hour each.
_LATE_SECONDS: Final = 2 * 3600
_STAMP: Final = "%Y%m%d-%H%M%S"
_STAMP_LENGTH: Final = len("20261122-093000")


class RebuildError(Exception):
    """An operator wants a new index; the text says so."""


class CutOffError(Exception):
    """A segment has lost lines: it has to be read again, from its beginning."""


class IndexFollower:
    """The index of these settings, while this process keeps it up to date. Use it as a context manager, while it is `locked`.

    `wait` returns True if the work has to end, at the latest after so many seconds. `clock` returns seconds since 1970.
    """

    def __init__(
        self, settings: Settings, *, wait: Callable[[float], bool] = lambda _: False, clock: Callable[[], float] = time.time
    ) -> None:
        self._path = settings.index_file
        self._directories = settings.journal.directories
        self._age = settings.limits.index_age
        self._wait, self._clock = wait, clock
        self._stack = ExitStack()
        # The number of the last line of each segment that this process has seen.
        self._seen = dict[str, int]()
        self._note_at = self._tidy_at = 0.0

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            if file_of(self._path) is None:
                remove_log(self._path)
            self.database = stack.enter_context(open_writer(self._path))
            self._file = file_of(self._path)
            self._segments = self.database.segments()
            self._buckets = totals.fine_buckets(self.database.connection)
            self._reached = max(self._buckets, default=0)
            self._followers = stack.enter_context(followers(self._directories))
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def run(self) -> None:
        """Follow the journal until the work has to end.

        Raise RebuildError and DamagedError if it has to be made again, ReplacedError, CutOffError, StoreError, JournalError and
        OSError.
        """
        while True:
            require_same(self._path, self._file)
            if (why := take_request(self._path)) is not None:
                raise RebuildError(why) if why == BY_OPERATOR else DamagedError(why)
            self.read_new()
            if self._wait(0.0):
                return
            self._note_caught_up()
            if self._wait(_LOOK_SECONDS):
                return

    def build(self) -> None:
        """Read what the journal has now. Raise CutOffError, JournalError and StoreError."""
        self.read_new()
        self.tidy()
        self._note_caught_up()

    def read_new(self) -> None:
        """Read what the journal has now, unless the work has to end. Raise CutOffError, JournalError and StoreError."""
        for follower in self._followers:
            for file in follower.look():
                self._read(file)
                if self._wait(0.0):
                    return
                if time.monotonic() >= self._tidy_at:
                    self.tidy()
        if time.monotonic() >= self._tidy_at:
            self.tidy()

    def tidy(self) -> None:
        """Delete what is too old or not in the journal any more, and fold old totals."""
        self._tidy_at = time.monotonic() + _TIDY_SECONDS
        now = int(self._clock())
        for one in [one for one in self._segments.values() if not _exists(one)]:
            self._forget(one, counted=False)
        while rows := self.database.rows_before((now - self._age) * SECOND, _DELETED_AT_ONCE):
            with self.database.transaction():
                self.database.delete_rows(rows, counted=False)
        open_from = min(now, self._reached) - _LATE_SECONDS
        with self.database.transaction():
            totals.fold(self.database.connection, self._buckets, open_from=open_from)
            totals.delete_before(self.database.connection, now - self._age, newest=now)
        self._buckets = {bucket for bucket in self._buckets if bucket > open_from - max(totals.STEPS)}

    def _note_caught_up(self) -> None:
        if time.monotonic() >= self._note_at:
            self._note_at = time.monotonic() + _NOTE_SECONDS
            with self.database.transaction():
                self.database.note(CAUGHT_UP, int(self._clock()))

    def _read(self, file: Followed) -> None:
        segment = self._segment(file)
        if segment is None or segment.mark.done:
            file.skip()
            return
        oldest = (self._clock() - self._age) * SECOND
        rows, size, when, number = list[tuple[Row, int]](), 0, segment.time, segment.mark.lines
        for line in file.lines():
            if line.number <= self._seen.get(segment.path, 0):
                self._require_again(segment)
            self._seen[segment.path] = line.number
            if line.number <= segment.mark.lines:
                continue
            number = line.number
            if not isinstance(line, Skipped) and (row := row_of(line.text, when)) is not None:
                when = row.time
                if when >= oldest:
                    rows.append((row, line.offset))
                    size += len(line.text)
            if len(rows) >= _BATCH or size >= _BATCH_BYTES:
                segment = self._apply(segment, rows, mark=SegmentMark(lines=number), when=when)
                rows, size = [], 0
                if self._wait(0.0):
                    return  # the rest is read by another process
        if self._seen.get(segment.path, 0) < segment.mark.lines and _exists(segment):
            self._require_again(segment)
        self._apply(segment, rows, mark=SegmentMark(lines=number, done=file.done), when=when)

    def _segment(self, file: Followed) -> IndexedSegment | None:
        """Return what the index has of a file; None for a file that another one of its name has replaced."""
        path = key_of(file.path)
        known = self._segments.get(path)
        if known is not None and not known.mark.done and known.inode != file.inode:
            current = file_of(file.path)
            if current is not None and current[1] != file.inode:
                return None
            self._forget(known, counted=True)
            known = None
        if known is None:
            self._seen.pop(path, None)
            began = _began(file) or int(file.written)
            with self.database.transaction():
                known = self.database.add_segment(path, file.inode, began * SECOND)
            self._segments[path] = known
        return known

    def _apply(self, segment: IndexedSegment, rows: list[tuple[Row, int]], *, mark: SegmentMark, when: int) -> IndexedSegment:
        if not rows and mark == segment.mark:
            return segment
        with self.database.transaction():
            fine_from = int(self._clock()) - totals.FINE_SECONDS
            keys = self.database.add_rows(segment.number, rows, fine_from=fine_from)
            keys += [key for key in (segment.first_key, segment.last_key) if key]
            first, last = min(keys, default=0), max(keys, default=0)
            segment = replace(segment, mark=mark, time=when, first_key=first, last_key=last)
            self.database.put_segment(segment)
        self._segments[segment.path] = segment
        for row, _ in rows:
            self._buckets.add(totals.bucket_of(row))
        self._reached = max(self._reached, when // SECOND)
        return segment

    def _require_again(self, segment: IndexedSegment) -> None:
        self._forget(segment, counted=True)
        raise CutOffError

    def _forget(self, segment: IndexedSegment, *, counted: bool) -> None:
        """Delete a segment with its rows; with `counted` also from the totals."""
        while rows := self.database.rows_of_segment(segment, _DELETED_AT_ONCE):
            with self.database.transaction():
                self.database.delete_rows(rows, counted=counted)
        with self.database.transaction():
            self.database.delete_segment(segment.number)
        self._segments.pop(segment.path, None)


def _exists(segment: IndexedSegment) -> bool:
    return any(path.exists() for path in stored_paths(segment.path))


def _began(file: Followed) -> int:
    """Return the time in the name of a segment; 0 if it has none."""
    try:
        return int(datetime.strptime(file.began[:_STAMP_LENGTH], _STAMP).replace(tzinfo=UTC).timestamp())
    except ValueError:
        return 0
