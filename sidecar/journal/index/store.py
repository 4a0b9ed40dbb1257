"""The database of the index: rows, their words, totals, and how far each segment was read. They change in one transaction.

A row's key is its time and a number, so rows and words are in the order of time. Owns the tables. One process writes.
"""

import re
import sqlite3
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import Any, Final, Self
from uuid import UUID

from msgspec import Struct

from sidecar.journal import make_directory
from sidecar.journal.database import DamagedError, database_faults, prepare_writing, transaction, uri_of
from sidecar.journal.index import totals
from sidecar.journal.index.peers import packed, unpacked
from sidecar.journal.index.row import Row
from sidecar.journal.index.words import TOKENIZER, words_of
from sidecar.journal.read import SegmentMark

VERSION: Final = 1
"""An index of another version is made again: change it with the tables, the words and what is counted."""
KEY_BITS: Final = 10
"""A key is the time in microseconds, and so many bits for the records of the same one."""

CAUGHT_UP: Final = "caught_up"
"""The property with the time when all of the journal was read, in seconds since 1970."""

_SCHEMA: Final = f"""
CREATE TABLE record (
  key INTEGER PRIMARY KEY, segment INTEGER NOT NULL, offset INTEGER NOT NULL, type TEXT NOT NULL, id NOT NULL,
  message_id NOT NULL, session_id NOT NULL, queue_id TEXT NOT NULL, original_id TEXT NOT NULL, sender TEXT NOT NULL,
  recipients TEXT NOT NULL, reported TEXT NOT NULL, peer NOT NULL, peer_name TEXT NOT NULL, disposition TEXT NOT NULL,
  reason TEXT NOT NULL, bounce_class TEXT NOT NULL, feedback_type TEXT NOT NULL, reporter TEXT NOT NULL, verified TEXT NOT NULL,
  count INTEGER NOT NULL
);
CREATE VIRTUAL TABLE word USING fts5(words, content='', columnsize=0, detail=none, tokenize="{TOKENIZER}");
CREATE TABLE segment (
  number INTEGER PRIMARY KEY, path TEXT NOT NULL UNIQUE, inode INTEGER NOT NULL, lines INTEGER NOT NULL, done INTEGER NOT NULL,
  time INTEGER NOT NULL, first_key INTEGER NOT NULL, last_key INTEGER NOT NULL
);
CREATE TABLE property (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
{totals.SCHEMA}
"""
_INSERT: Final = f"INSERT INTO record VALUES ({', '.join('?' * 21)})"  # noqa: S608 - constant
_WRITER_MODE: Final = 0o640
# The writer changes the newest pages and the buckets that are being filled. A reader leaves caching to the kernel.
_WRITER_CACHE: Final = 16 * 1024
_READER_CACHE: Final = 2 * 1024
_WRITER_WAIT: Final = 30.0
READER_WAIT: Final = 1.0
"""How long a reader waits for a lock, in seconds: a person waits for the page."""
_HEX: Final = re.compile(r"[0-9a-f]{32}", re.ASCII)
_UUID: Final = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.ASCII)


class IndexedSegment(Struct, frozen=True, kw_only=True):
    """A segment of which rows are in the index. `path` is without the suffix of a packer; `time` is that of its last record."""

    number: int
    path: str
    inode: int
    mark: SegmentMark
    time: int
    first_key: int = 0
    last_key: int = 0


class StoredRow(Row, frozen=True, kw_only=True, gc=False):
    """A row in the database: its key, and the number and offset of its segment."""

    key: int
    segment: int
    offset: int


class IndexDatabase:
    """The open database at `path`. Use `open_writer` or `open_reader`."""

    def __init__(self, connection: sqlite3.Connection, path: Path) -> None:
        self.connection = connection
        self.path = path

    def close(self) -> None:
        """Close the database."""
        self.connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # --- reading

    def segments(self) -> dict[str, IndexedSegment]:
        """Return all segments, by path."""
        return {str(row[1]): _segment(row) for row in self.connection.execute("SELECT * FROM segment")}

    def segment(self, number: int) -> IndexedSegment | None:
        """Return a segment."""
        row = self.connection.execute("SELECT * FROM segment WHERE number = ?", (number,)).fetchone()
        return None if row is None else _segment(row)

    def row(self, key: int) -> StoredRow | None:
        """Return a row."""
        row = self.connection.execute("SELECT * FROM record WHERE key = ?", (key,)).fetchone()
        return None if row is None else stored_row(row)

    def newest(self) -> int:
        """Return the key of the newest row; 0 without rows."""
        return int(self.connection.execute("SELECT coalesce(max(key), 0) FROM record").fetchone()[0])

    def number(self, name: str) -> int:
        """Return a number that was noted under a name; 0 if none was."""
        row = self.connection.execute("SELECT value FROM property WHERE name = ?", (name,)).fetchone()
        return 0 if row is None else int(row[0])

    # --- writing

    def transaction(self) -> AbstractContextManager[None]:
        """Make all changes of the block, or none. Raise StoreError."""
        return transaction(self.connection, self.path)

    def note(self, name: str, value: int) -> None:
        """Note a number under a name."""
        self.connection.execute("INSERT OR REPLACE INTO property VALUES (?, ?)", (name, value))

    def add_segment(self, path: str, inode: int, time: int) -> IndexedSegment:
        """Add a segment of which nothing was read."""
        cursor = self.connection.execute("INSERT INTO segment VALUES (NULL, ?, ?, 0, 0, ?, 0, 0)", (path, inode, time))
        return IndexedSegment(number=cursor.lastrowid or 0, path=path, inode=inode, mark=SegmentMark(lines=0), time=time)

    def put_segment(self, one: IndexedSegment) -> None:
        """Write how far a segment was read, and the range of its keys."""
        row = (one.inode, one.mark.lines, one.mark.done, one.time, one.first_key, one.last_key, one.number)
        query = "UPDATE segment SET inode = ?, lines = ?, done = ?, time = ?, first_key = ?, last_key = ? WHERE number = ?"
        self.connection.execute(query, row)

    def delete_segment(self, number: int) -> None:
        """Delete a segment, of which no rows are left."""
        self.connection.execute("DELETE FROM segment WHERE number = ?", (number,))

    def add_rows(self, segment: int, rows: Sequence[tuple[Row, int]], *, fine_from: int) -> list[int]:
        """Add rows of a segment, each with its offset, their words and their totals. Return their keys."""
        keys = self._keys([row.time for row, _ in rows])
        made = sorted((key, _values(row), words_of(row), offset) for key, (row, offset) in zip(keys, rows, strict=True))
        self.connection.executemany(_INSERT, ((key, segment, offset, *values) for key, values, _, offset in made))
        self.connection.executemany(
            "INSERT INTO word (rowid, words) VALUES (?, ?)", ((key, words) for key, _, words, _ in made)
        )
        totals.add(self.connection, totals.count(row for row, _ in rows), fine_from=fine_from)
        return keys

    def delete_rows(self, rows: Sequence[StoredRow], *, counted: bool) -> None:
        """Delete rows with their words; with `counted` also their counts from the totals."""
        self.connection.executemany(
            "INSERT INTO word (word, rowid, words) VALUES ('delete', ?, ?)", ((row.key, words_of(row)) for row in rows)
        )
        self.connection.executemany("DELETE FROM record WHERE key = ?", ((row.key,) for row in rows))
        if counted:
            counts = totals.count(rows)
            totals.add(self.connection, Counter({key: -count for key, count in counts.items()}), fine_from=0)

    def rows_of_segment(self, one: IndexedSegment, limit: int) -> list[StoredRow]:
        """Return the first rows of a segment."""
        query = "SELECT * FROM record WHERE key BETWEEN ? AND ? AND segment = ? ORDER BY key LIMIT ?"
        found = self.connection.execute(query, (one.first_key, one.last_key, one.number, limit))
        return [stored_row(row) for row in found]

    def rows_before(self, time: int, limit: int) -> list[StoredRow]:
        """Return the oldest rows from before a time in microseconds."""
        query = "SELECT * FROM record WHERE key < ? ORDER BY key LIMIT ?"
        return [stored_row(row) for row in self.connection.execute(query, (time << KEY_BITS, limit))]

    def _keys(self, times: Iterable[int]) -> list[int]:
        """Return a free key for each time: all records of one message can have the same one."""
        free = dict[int, int]()
        return [self._key(time, free) for time in times]

    def _key(self, time: int, free: dict[int, int]) -> int:
        while True:
            if (key := free.get(time)) is None:
                key = self._free_key(time)
            if key >> KEY_BITS == time:
                free[time] = key + 1
                return key
            time += 1  # the microsecond is full

    def _free_key(self, time: int) -> int:
        first = time << KEY_BITS
        query = "SELECT max(key) FROM record WHERE key BETWEEN ? AND ?"
        (last,) = self.connection.execute(query, (first, first | ((1 << KEY_BITS) - 1))).fetchone()
        return first if last is None else int(last) + 1


def open_writer(path: Path) -> IndexDatabase:
    """Open the index to write it, or create it. Raise StoreError, and DamagedError if it has to be made again."""
    make_directory(path.parent)
    path.touch(mode=_WRITER_MODE)
    database = _open(path, "rwc", wait=_WRITER_WAIT, cache=_WRITER_CACHE)
    with database_faults(path), ExitStack() as stack:
        stack.callback(database.close)
        execute = database.connection.execute
        prepare_writing(database.connection)
        execute("PRAGMA temp_store = MEMORY")
        if not execute("PRAGMA user_version").fetchone()[0]:
            database.connection.executescript(f"BEGIN IMMEDIATE; {_SCHEMA} PRAGMA user_version = {VERSION}; COMMIT;")
        stack.pop_all()
    return database


def open_reader(path: Path) -> IndexDatabase:
    """Open the index to read it, in one thread at a time. Raise StoreError."""
    return _open(path, "ro", wait=READER_WAIT, cache=_READER_CACHE)


def _open(path: Path, mode: str, *, wait: float, cache: int) -> IndexDatabase:
    with database_faults(path), ExitStack() as stack:
        connection = sqlite3.connect(uri_of(path, mode), uri=True, timeout=wait, isolation_level=None, check_same_thread=False)
        stack.callback(connection.close)
        try:
            connection.execute(f"PRAGMA cache_size = -{cache}")
            (version,) = connection.execute("PRAGMA user_version").fetchone()
            connection.execute("SELECT count(*) FROM sqlite_master")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorname == "SQLITE_ERROR":  # the header is not one that this SQLite has written
                raise DamagedError(f"{path} is damaged ({error})") from error
            raise
        if version not in ({0, VERSION} if mode == "rwc" else {VERSION}):
            raise DamagedError(f"{path} is of another version of the sidecar ({version}, and not {VERSION})")
        stack.pop_all()
    return IndexDatabase(connection, path)


BY_OPERATOR: Final = "`sidecar index rebuild` was called"
"""Why an index has to be made again that is not damaged."""


def ask_for_rebuild(path: Path, why: str) -> None:
    """Ask the process that keeps an index to make it again. Raise OSError."""
    _request(path).write_text(why)


def take_request(path: Path) -> str | None:
    """Return why an index has to be made again, and forget it; None if no one asked for that."""
    try:
        why = _request(path).read_text("utf-8", "replace")
        _request(path).unlink()
    except OSError:
        return None
    return why


def _request(path: Path) -> Path:
    return path.with_name(f"{path.name}.rebuild")


def stored_row(row: Sequence[Any]) -> StoredRow:
    """Return a row of the table of records."""
    return StoredRow(
        key=row[0],
        segment=row[1],
        offset=row[2],
        time=row[0] >> KEY_BITS,
        type=row[3],
        id=_digits(row[4]),
        message_id=_digits(row[5]),
        session_id=row[6] if isinstance(row[6], str) else str(UUID(bytes=row[6])),
        queue_id=row[7],
        original_id=row[8],
        sender=row[9],
        recipients=_split(row[10]),
        reported=_split(row[11]),
        peer=row[12] if isinstance(row[12], str) else unpacked(row[12]),
        peer_name=row[13],
        disposition=row[14],
        reason=row[15],
        bounce_class=row[16],
        feedback_type=row[17],
        reporter=row[18],
        verified=row[19],
        count=row[20],
    )


def _values(row: Row) -> tuple[object, ...]:
    """Return the columns of a row from `type` on. Ids and addresses have half the size in binary form."""
    peer = packed(row.peer)
    return (
        row.type,
        _binary(row.id),
        _binary(row.message_id),
        bytes.fromhex(row.session_id.replace("-", "")) if _UUID.fullmatch(row.session_id) else row.session_id,
        row.queue_id,
        row.original_id,
        row.sender,
        "\n".join(row.recipients),
        "\n".join(row.reported),
        row.peer if peer is None else peer,
        row.peer_name,
        row.disposition,
        row.reason,
        row.bounce_class,
        row.feedback_type,
        row.reporter,
        row.verified,
        row.count,
    )


def _binary(text: str) -> bytes | str:
    return bytes.fromhex(text) if _HEX.fullmatch(text) else text


def _digits(value: bytes | str) -> str:
    return value if isinstance(value, str) else value.hex()


def _split(text: str) -> tuple[str, ...]:
    return tuple(text.split("\n")) if text else ()


def _segment(row: Sequence[Any]) -> IndexedSegment:
    number, path, inode, lines, done, time, first_key, last_key = row
    mark = SegmentMark(lines=lines, done=bool(done))
    return IndexedSegment(number=number, path=path, inode=inode, mark=mark, time=time, first_key=first_key, last_key=last_key)
