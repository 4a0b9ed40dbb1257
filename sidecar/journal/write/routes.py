"""From records to lines in the right segments: which type goes where, and which entries of `meta` go along.

Owns the way from a record to its journal. Never touches a disk: the journals do.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from msgspec import Struct
from msgspec.structs import replace

from sidecar.core.records import Record, encode
from sidecar.core.settings.values import RECORD_TYPES, JournalSettings
from sidecar.journal.write.journal import Journal


class LineWriter(Protocol):
    """What is needed of a journal."""

    def write(self, lines: bytes, *, durable: bool) -> None:
        """Write whole lines; raises JournalError when that cannot be done."""

    def roll(self) -> None:
        """Finish a segment that is too old."""

    def close(self) -> None:
        """Finish the journal."""


class Batch(Struct, frozen=True, kw_only=True):
    """Encoded records: the lines for each journal, and the bytes of all lines together."""

    lines: tuple[tuple[LineWriter, bytes], ...]
    size: int


class Routes:
    """Journals by type of record; a type without one is not written. Of `meta` what `kept` names stays; None is all."""

    def __init__(self, journals: Mapping[str, LineWriter], kept: Sequence[str] | None = None) -> None:
        self._by_type = journals
        self._journals = tuple(dict.fromkeys(journals.values()))
        self._only = self._journals[0] if len(self._journals) == 1 and journals.keys() >= set(RECORD_TYPES) else None
        self._kept = None if kept is None else frozenset(kept)
        self._beginnings = tuple(name[:-1] for name in kept or () if name.endswith("*"))
        if self._kept is not None and self._keeps("why"):
            # A record that says why, and not that it is written as KumoMTA's, is read as one in our own way.
            self._kept |= {"compat"}

    def encode(self, records: Sequence[Record]) -> Batch:
        """Return the lines of the records that are written, in their order."""
        if self._kept is not None:
            records = [self._trimmed(record) for record in records]
        if self._only is not None:
            lines = b"".join(map(encode, records))
            return Batch(lines=((self._only, lines),), size=len(lines))
        by_journal: dict[LineWriter, list[bytes]] = {}
        for record in records:
            if (journal := self._by_type.get(record.type)) is not None:
                by_journal.setdefault(journal, []).append(encode(record))
        parts = tuple((journal, b"".join(own)) for journal, own in by_journal.items())
        return Batch(lines=parts, size=sum(len(own) for _, own in parts))

    def write(self, batch: Batch, *, durable: bool) -> None:
        """Write encoded records; with `durable` all are on disk on return. Raises JournalError.

        When one journal fails, another may have taken its part: as after any failure, the peer's next try writes all again.
        """
        for journal, lines in batch.lines:
            journal.write(lines, durable=durable)

    def roll(self) -> None:
        """Finish the segments that are too old."""
        for journal in self._journals:
            journal.roll()

    def close(self) -> None:
        """Finish all journals."""
        for journal in self._journals:
            journal.close()

    def _trimmed(self, record: Record) -> Record:
        return replace(record, meta={name: value for name, value in record.meta.items() if self._keeps(name)})

    def _keeps(self, name: str) -> bool:
        return self._kept is None or name in self._kept or name.startswith(self._beginnings)


def open_routes(settings: JournalSettings) -> Routes:
    """Open the journals that the settings ask for: one for each directory and suffix. To be called after the fork."""
    by_place: dict[tuple[Path, str], Journal] = {}
    by_type = {}
    for record_type in RECORD_TYPES:
        place = settings.place(record_type)
        if place is None:
            continue
        if place not in by_place:
            directory, suffix = place
            by_place[place] = Journal(
                directory,
                segment_size=settings.segment_size,
                segment_age=settings.segment_age,
                suffix=suffix,
                level=settings.compression_level if settings.format == "zstd" else None,
            )
        by_type[record_type] = by_place[place]
    return Routes(by_type, settings.meta)
