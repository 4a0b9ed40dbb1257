"""Segments of the journal to events, some at a time, each with the place in the journal behind it. Never writes anything."""

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Final

from msgspec import Struct

from sidecar.core.records.reading import decode
from sidecar.journal.read import Followed, Line, SegmentMark, Skipped
from sidecar.suppression.reading import AddressEvent, Reader, Uncounted

REPORTS: Final = "reports"
CHANGES: Final = "changes"
"""What is counted, besides the words of `Uncounted`."""

# Reports of one transaction: each is one write to the disk, and other processes see it whole.
_BATCH: Final = 20_000
# They say nothing to the list, and are most of a journal. Ours and KumoMTA's lines begin with the type.
_OTHER_LINES: Final = (b'{"type":"Reception"', b'{"type":"Rejection"', b'{"type":"Delivery"', b'{"type":"TransientFailure"')


class Progress(Struct, frozen=True, kw_only=True):
    """How far a segment was read, and what was counted in it from its beginning."""

    path: str
    mark: SegmentMark
    counts: Mapping[str, int]


class EventBatch(Struct, frozen=True, kw_only=True):
    """Events of a segment, and how far it was read with them."""

    events: list[AddressEvent]
    progress: Progress


class SegmentReader:
    """Reads segments. It remembers what was counted in those that are still being written."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._counted: dict[str, Counter[str]] = {}

    def read(self, file: Followed, mark: SegmentMark | None = None) -> Iterator[EventBatch]:
        """Yield what is new in a segment, at least one batch. `mark` is how far it was read before. Raise JournalError."""
        path = str(file.path)
        events: list[AddressEvent] = []
        counts, number = self._counted.setdefault(path, Counter()), 0
        for line in file.lines():
            if line.number <= number or line.number == 1:
                counts.clear()  # the file was cut off, and is read again from its beginning
            number = line.number
            if (one := self._event_of(line, counts)) is not None:
                events.append(one)
            if len(events) >= _BATCH:
                yield EventBatch(events=events, progress=Progress(path=path, mark=SegmentMark(lines=number), counts=counts))
                events = []
        mark = SegmentMark(lines=number or (0 if mark is None else mark.lines), done=file.done)
        yield EventBatch(events=events, progress=Progress(path=path, mark=mark, counts=counts))
        if file.done:
            self._counted.pop(path, None)

    def _event_of(self, line: Line | Skipped, counts: Counter[str]) -> AddressEvent | None:
        if isinstance(line, Skipped) or line.text.startswith(_OTHER_LINES):
            return None
        try:
            found = self._reader.read(decode(line.text))
        except ValueError:
            found = Uncounted.NOT_READABLE
        if isinstance(found, Uncounted):
            counts[found.value] += 1
            return None
        if found is not None:
            counts[REPORTS if found.event.kind == "report" else CHANGES] += 1
        return found
