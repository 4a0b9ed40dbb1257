"""The order of records that several workers wrote at the same time, each into its own segments.

Owns the order, and how far back the last records are searched. Never changes the order within a segment.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from heapq import heappop, heappush, heapreplace
from math import inf

import msgspec
from msgspec import Struct

from sidecar.core.records import Logged, decode
from sidecar.journal.read import Followed, Line, Skipped

# The stored bytes that are searched for the last records, from the newest: some 250,000 of our records, or millions of
# KumoMTA's, which are packed. Without a limit, a filter that few records pass would read the whole journal.
LOOK_BACK = 256 * 1024 * 1024

# Files that are open at a time, of the usual 1,024 descriptors. More files overlap only if their names do not show when they
# began, as with a writer that uses local time; then the order is less exact.
_OPEN_LIMIT = 500

_STAMP = "%Y%m%d-%H%M%S"
_STAMP_LENGTH = len("20261122-093000")


class OrderedLine(Struct, frozen=True, kw_only=True, gc=False):
    """A line of a log. `record` is None if it is none, and `why` is the reason; `when` (seconds since 1970) orders them."""

    line: Line | Skipped
    record: Logged | None
    why: str
    when: float


class _Created(Struct, frozen=True, gc=False):
    created_time: str = ""
    created: int = 0


_CREATED = msgspec.json.Decoder(_Created)


def merged(files: Sequence[Followed]) -> Iterator[OrderedLine]:
    """Yield what is new in the files. Each is opened only when the others have reached the time of its beginning."""
    heap: list[tuple[float, int, OrderedLine, Iterator[OrderedLine]]] = []
    for number, file in enumerate(sorted(files, key=_began)):
        yield from _until(_began(file), heap)
        stream = entries(file.lines())
        if (first := next(stream, None)) is not None:
            heappush(heap, (first.when, number, first, stream))
    yield from _until(inf, heap)


def latest(files: Sequence[Followed], *, number: int, wanted: Callable[[Logged], bool] | None = None) -> list[OrderedLine]:
    """Return the last entries, `number` at most, in order; the files are skipped up to their ends.

    With `wanted`, only records for which it returns True.
    """
    newest: list[OrderedLine] = []
    left = LOOK_BACK
    for file in sorted(files, key=lambda file: file.written, reverse=True):
        enough = len(newest) == number and (number == 0 or file.written < newest[0].when)
        if enough or left <= 0:
            file.skip()
            continue
        left -= file.size
        newest += _last(file, number, wanted)
        newest = sorted(newest, key=lambda entry: entry.when)[-number:]
    return newest


def _last(file: Followed, number: int, wanted: Callable[[Logged], bool] | None) -> Iterable[OrderedLine]:
    if wanted is None:  # most lines need no decoding then
        return entries(deque(file.lines(), maxlen=number))
    return deque((entry for entry in entries(file.lines()) if entry.record is not None and wanted(entry.record)), maxlen=number)


def _until(when: float, heap: list[tuple[float, int, OrderedLine, Iterator[OrderedLine]]]) -> Iterator[OrderedLine]:
    """Yield the entries up to a time, and remove them from the heap of (next time, number, next entry, other entries)."""
    while heap and (heap[0][0] <= when or len(heap) > _OPEN_LIMIT):
        _, number, entry, stream = heap[0]
        yield entry
        following = next(stream, None)
        if following is None:
            heappop(heap)
        else:
            heapreplace(heap, (following.when, number, following, stream))


def entries(lines: Iterable[Line | Skipped]) -> Iterator[OrderedLine]:
    """Read the lines of one file; `when` never decreases."""
    when = 0.0
    for line in lines:
        if isinstance(line, Skipped):
            yield OrderedLine(line=line, record=None, why=line.why, when=when)
            continue
        try:
            record = _record(line.text)
        except ValueError as error:
            yield OrderedLine(line=line, record=None, why=f"it is no record: {error}", when=when)
        else:
            when = max(when, _instant(record, line.text))
            yield OrderedLine(line=line, record=record, why="", when=when)


def _record(text: bytes) -> Logged:
    """Read one line. Raise ValueError, also for bytes that are not UTF-8 in fields that are not used."""
    if not text.isascii():
        text.decode()
    return decode(text)


def _instant(record: Logged, text: bytes) -> float:
    """Return when a record was written; 0 if that is unknown."""
    time, seconds = record.event_time, record.timestamp
    if record.type == "OOB":
        # These two are from the report of an external host; the message was created a moment before.
        created = _CREATED.decode(text)
        time, seconds = created.created_time, created.created
    try:
        return datetime.fromisoformat(time).timestamp()
    except ValueError:
        return seconds


def _began(file: Followed) -> float:
    try:
        return datetime.strptime(file.began[:_STAMP_LENGTH], _STAMP).replace(tzinfo=UTC).timestamp()
    except ValueError:
        return 0.0
