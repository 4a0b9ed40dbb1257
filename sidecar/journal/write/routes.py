"""From records to lines in the right segments: which type goes where, and which entries of `meta` are kept.

Owns the way from a record to its journal. Never touches a disk: the journals do.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from queue import SimpleQueue

from msgspec import Struct
from msgspec.structs import replace

from sidecar.core.records import Record, encode
from sidecar.core.settings.values import RECORD_TYPES, JournalSettings
from sidecar.journal import JournalError
from sidecar.journal.write.disk_thread import DiskThread, Done
from sidecar.journal.write.journal import Journal

# Lines of more bytes have segments of their own: while the disk thread appends 10 MB, the others need not wait for that.
_LARGE_LINES = 256 * 1024


class Batch(Struct, frozen=True, kw_only=True):
    """Encoded records: the lines for each journal, and the bytes of all lines together."""

    lines: tuple[tuple[Journal, bytes], ...]
    size: int


class Routes:
    """The journals of the settings: for each directory and suffix one, and one for large lines. Build it after the fork.

    A type of record without a journal is not written. Of `meta` the names in the settings are kept; without any, all.
    """

    def __init__(self, settings: JournalSettings) -> None:
        by_place: dict[tuple[Path, str], Journal] = {}
        self._large: dict[Journal, Journal] = {}
        self._by_type: dict[str, Journal] = {}
        for record_type in RECORD_TYPES:
            place = settings.place(record_type)
            if place is None:
                continue
            if place not in by_place:
                by_place[place] = open_journal(*place, settings)
                self._large[by_place[place]] = open_journal(*place, settings)
            self._by_type[record_type] = by_place[place]
        self._disk = DiskThread((*self._large, *self._large.values()))
        is_one = len(by_place) == 1 and len(self._by_type) == len(RECORD_TYPES)
        self._only = next(iter(by_place.values())) if is_one else None
        self._kept = None if settings.meta is None else frozenset(settings.meta)
        self._beginnings = tuple(name[:-1] for name in settings.meta or () if name.endswith("*"))
        if self._kept is not None and self._keeps("why"):
            # A record with `why` and without `compat` is read as one in the sidecar's own format.
            self._kept |= {"compat"}

    def encode(self, records: Sequence[Record]) -> Batch:
        """Return the lines of the records that are written, in their order."""
        if self._kept is not None:
            records = [self._trimmed(record) for record in records]
        if self._only is not None:
            lines = encode(*records)
            return Batch(lines=(self._part(self._only, lines),), size=len(lines))
        by_journal: dict[Journal, list[Record]] = {}
        for record in records:
            if (journal := self._by_type.get(record.type)) is not None:
                by_journal.setdefault(journal, []).append(record)
        parts = tuple(self._part(journal, encode(*own)) for journal, own in by_journal.items())
        return Batch(lines=parts, size=sum(len(own) for _, own in parts))

    def submit(self, batch: Batch, *, durable: bool, done: Done) -> bool:
        """Write encoded records; with `durable` they are to be on disk. Never waits.

        Return True if they are written on return; otherwise the disk thread calls `done` later. Raise JournalError. If one
        journal fails, another can have its part: as after any failure, the sender's next try writes all again.
        """
        if not batch.lines:
            return True
        if not durable and len(batch.lines) == 1:
            journal, lines = batch.lines[0]
            if journal.append_now(lines):
                return True
        self._disk.submit(batch.lines, durable=durable, done=done)
        return False

    def write(self, batch: Batch, *, durable: bool) -> None:
        """Write encoded records, and wait for that. Raise JournalError."""
        write_and_wait(self.submit, batch, durable=durable)

    def roll(self) -> None:
        """Finish the segments that are too old, soon."""
        self._disk.roll()

    def close(self) -> None:
        """Finish all journals."""
        self._disk.close()

    def _part(self, journal: Journal, lines: bytes) -> tuple[Journal, bytes]:
        return (journal if len(lines) <= _LARGE_LINES else self._large[journal]), lines

    def _trimmed(self, record: Record) -> Record:
        return replace(record, meta={name: value for name, value in record.meta.items() if self._keeps(name)})

    def _keeps(self, name: str) -> bool:
        return self._kept is None or name in self._kept or name.startswith(self._beginnings)


def write_and_wait(submit: Callable[..., bool], batch: Batch, *, durable: bool) -> None:
    """Do what `submit` does, and wait for that. Raise JournalError."""
    results: SimpleQueue[JournalError | None] = SimpleQueue()
    if not submit(batch, durable=durable, done=results.put) and (error := results.get()) is not None:
        raise error


def open_journal(directory: Path, suffix: str, settings: JournalSettings) -> Journal:
    """Return the journal for a folder and a suffix, with the segments of the settings."""
    return Journal(
        directory,
        segment_size=settings.segment_size,
        segment_age=settings.segment_age,
        suffix=suffix,
        level=settings.compression_level if settings.format == "zstd" else None,
    )
