"""The index as its readers ask for it: records that are found, totals, and how far it has read the journal.

Owns the connection: another file can take the place of the database at any time. Each call raises `IndexUnavailableError` with
a sentence if the index cannot be read.
"""

import sqlite3
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final, TypeVar

from msgspec import Struct

from sidecar.core.settings.settings import Settings
from sidecar.core.text import OperatorError
from sidecar.journal import JournalError
from sidecar.journal.database import DamagedError, StoreError, database_faults, file_of
from sidecar.journal.index import totals
from sidecar.journal.index.row import SECOND, Row, row_of
from sidecar.journal.index.searching import RowPage, Search, deadline, search
from sidecar.journal.index.store import CAUGHT_UP, KEY_BITS, IndexDatabase, StoredRow, ask_for_rebuild, open_reader
from sidecar.journal.index.totals import Bucket, Dimension, TopValues
from sidecar.journal.read import line_at
from sidecar.journal.read.logs import stored_paths

# A session with more records is shown by its last ones.
_SESSION_LIMIT: Final = 1000
# An overview that is not ready then is an error of the page; a session is found at once.
_ANSWER_SECONDS: Final = 2.0

T = TypeVar("T")


class IndexUnavailableError(OperatorError):
    """The index cannot be read."""


class FoundRecord(Struct, frozen=True, kw_only=True):
    """A record: its row, and its line in the journal; None if the journal does not have it any more."""

    row: StoredRow
    line: bytes | None


class Position(Struct, frozen=True, kw_only=True):
    """How far the journal was read: the time of the newest record, and when all had been read last, in seconds since 1970.

    0 is never.
    """

    newest: float
    caught_up: int


class Index:
    """The index at `path`, for one thread at a time."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._opened: IndexDatabase | None = None
        self._files: object = None

    def search(self, wanted: Search, *, limit: int, before: int | None = None) -> RowPage:
        """Return the newest wanted records before a key, `limit` at most. Raise ValueError for a network that is none."""
        return self._read(lambda database: search(database.connection, wanted, limit=limit, before=before))

    def record(self, key: int) -> FoundRecord | None:
        """Return a record; None if the index does not have it."""
        return self._read(lambda database: _record(database, key))

    def session(self, session_id: str) -> tuple[StoredRow, ...]:
        """Return the records of an SMTP connection in their order; if there are more, the last ones."""

        def ask(database: IndexDatabase) -> tuple[StoredRow, ...]:
            wanted = Search(session_id=session_id)
            found = search(database.connection, wanted, limit=_SESSION_LIMIT, before=None, seconds=_ANSWER_SECONDS)
            return tuple(sorted(found.rows, key=lambda row: (row.time, row.segment, row.offset)))

        return self._read(ask)

    def totals(self, *, since: float, until: float, step: int) -> tuple[Bucket, ...]:
        """Return the counts by disposition in buckets of `step` seconds, a multiple of 300; those without records too."""
        return self._read_totals(lambda database: totals.series(database, "disposition", int(since), int(until), step))

    def top(self, dimension: Dimension, *, since: float, until: float, limit: int) -> TopValues:
        """Return the most frequent values of a range, which is rounded to 5 minutes, or to hours if it is longer than 6."""
        return self._read_totals(lambda database: totals.ranking(database, dimension, int(since), int(until), limit))

    def position(self) -> Position:
        """Return how far the journal was read."""
        return self._read(_position)

    def close(self) -> None:
        """Close the database."""
        if self._opened is not None:
            self._opened.close()
            self._opened = None

    def _read_totals(self, ask: Callable[[sqlite3.Connection], T]) -> T:
        def bounded(database: IndexDatabase) -> T:
            with deadline(database.connection, _ANSWER_SECONDS):
                return ask(database.connection)

        return self._read(bounded)

    def _read(self, ask: Callable[[IndexDatabase], T]) -> T:
        """Ask the database. Open it again if another file has its name: an index that was made again."""
        try:
            files = file_of(self._path), file_of(Path(f"{self._path}-wal"))
            if self._opened is None or files != self._files:
                self.close()
                if files[0] is None:
                    raise IndexUnavailableError(f"{self._path} does not exist yet; the sidecar makes it")
                self._opened, self._files = open_reader(self._path), files
            with database_faults(self._path):
                return ask(self._opened)
        except (StoreError, OSError) as error:
            self.close()
            if isinstance(error, DamagedError):
                with suppress(OSError):  # this process can have no right to write
                    ask_for_rebuild(self._path, str(error))
            raise IndexUnavailableError(f"the index of the journal cannot be read: {error}") from error


def open_index(settings: Settings) -> Index:
    """Return the index of settings with a console. It need not exist yet."""
    return Index(settings.index_file)


def _record(database: IndexDatabase, key: int) -> FoundRecord | None:
    row = database.row(key)
    segment = None if row is None else database.segment(row.segment)
    if row is None or segment is None:
        return None
    return FoundRecord(row=row, line=_line(row, segment.path))


def _line(row: StoredRow, segment: str) -> bytes | None:
    """Return the line of a row; None if another one is in its place."""
    for path in stored_paths(segment):
        try:
            line = line_at(path, row.offset)
        except JournalError:
            continue
        if line is not None and (found := row_of(line, row.time)) is not None and _is_same(found, row):
            return line
    return None


def _is_same(found: Row, row: Row) -> bool:
    return all(getattr(found, name) == getattr(row, name) for name in Row.__struct_fields__ if name != "time")


def _position(database: IndexDatabase) -> Position:
    return Position(newest=(database.newest() >> KEY_BITS) / SECOND, caught_up=database.number(CAUGHT_UP))
