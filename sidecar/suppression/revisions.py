"""Revisions: which addresses have changed since when, so that other programs can keep a copy of the list.

A revision is a time in microseconds since 1970, or one more than the revision before if that is later. So those of a new
database are above those of the one before, and a database that was restored gives none of them out again. The latest one is
also in a file beside the database, so that an older database in its place is found. Owns that file and the table `change`; the
caller owns the transaction.
"""

import os
import re
import sqlite3
from pathlib import Path
from typing import Final

from sidecar.core.suppressed import ListChange, ListChanges, RevisionGoneError
from sidecar.suppression.listing import entry_of, shown
from sidecar.suppression.rules import MICROSECONDS

# To the millisecond: the revisions of a database that was here before are earlier.
SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS change (revision INTEGER PRIMARY KEY, address TEXT NOT NULL);
INSERT OR REPLACE INTO property
  VALUES ('changes_from', strftime('%s', 'now') * 1000000 + CAST(substr(strftime('%f', 'now'), 4) AS INTEGER) * 1000);
"""
# A program that asked longer ago reads the whole list again. So long the database has addresses that are not on it any more.
KEPT_SECONDS: Final = 7 * 86400
_GIVEN: Final = re.compile(rb"[0-9]{20}\n")


def note(database: sqlite3.Connection, address: str, now: int) -> None:
    """Note that an address changes at `now` (seconds since 1970)."""
    database.execute("INSERT INTO change VALUES (?, ?)", (max(now * MICROSECONDS, latest(database) + 1), address))


def latest(database: sqlite3.Connection) -> int:
    """Return the revision of the list."""
    (revision,) = database.execute("SELECT max(revision) FROM change").fetchone()
    return _begin(database) if revision is None else int(revision)


def since(database: sqlite3.Connection, revision: int, now: int, limit: int) -> ListChanges:
    """Return the first changes after a revision, `limit` rows at most. Raise RevisionGoneError.

    An entry that has ended by `now` is none.
    """
    asked = revision
    _require_known(database, asked)
    query = """SELECT change.revision, change.address, entry.* FROM change LEFT JOIN entry ON entry.address = change.address
        WHERE change.revision > ? ORDER BY change.revision LIMIT ?"""
    found: dict[str, ListChange] = {}
    count = 0
    for number, address, *row in database.execute(query, (revision, limit)):
        count, revision = count + 1, number
        entry = None if row[0] is None else entry_of(row)
        now_listed = None if entry is None or entry.is_over(now) else shown(address, entry)
        found.pop(address, None)
        found[address] = ListChange(revision=number, address=address, entry=now_listed)
    # Again: meanwhile the oldest can have been deleted.
    _require_known(database, asked)
    return ListChanges(changes=tuple(found.values()), revision=revision, more=count == limit)


def _require_known(database: sqlite3.Connection, revision: int) -> None:
    if not _begin(database) <= revision <= latest(database):
        raise RevisionGoneError


def delete_old(database: sqlite3.Connection, now: int, *, limit: int) -> int:
    """Delete some of the changes that are not kept any more. Return their number."""
    before = (now - KEPT_SECONDS) * MICROSECONDS
    query = "SELECT revision FROM change WHERE revision <= ? ORDER BY revision LIMIT ?"
    old = [revision for (revision,) in database.execute(query, (before, limit))]
    if old:
        database.execute("DELETE FROM change WHERE revision <= ?", (old[-1],))
        database.execute("INSERT OR REPLACE INTO property VALUES ('changes_from', ?)", (str(old[-1]),))
    return len(old)


def forget(database: sqlite3.Connection, now: int, *, given: int = 0) -> None:
    """Forget all changes: programs with a copy of the list read all of it again. `given` is a revision that they can have."""
    begin = max(now * MICROSECONDS, latest(database) + 1, given + 1)
    database.execute("DELETE FROM change")
    database.execute("INSERT OR REPLACE INTO property VALUES ('changes_from', ?)", (str(begin),))


def read_given(path: Path) -> int:
    """Return the latest revision that was given out, from its file; 0 if that has none. Raise OSError."""
    content = path.read_bytes()
    return int(content) if _GIVEN.fullmatch(content) else 0


def write_given(path: Path, revision: int) -> None:
    """Write the latest revision into its file, which exists. Raise OSError."""
    descriptor = os.open(path, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        # In place: a full disk has space for that.
        os.pwrite(descriptor, f"{revision:020}\n".encode(), 0)
    finally:
        os.close(descriptor)


def _begin(database: sqlite3.Connection) -> int:
    (value,) = database.execute("SELECT value FROM property WHERE name = 'changes_from'").fetchone()
    return int(value)
