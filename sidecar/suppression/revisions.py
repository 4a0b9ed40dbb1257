"""Revisions: which addresses have changed since when, so that other programs can keep a copy of the list.

A revision is a time in microseconds since 1970, or one more than the revision before if that is later. So those of a new
database are above those of the one before, and a database that was restored gives none of them out again. Owns the table
`change`; the caller owns the transaction.
"""

import sqlite3
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
    if not _begin(database) <= revision <= latest(database):
        raise RevisionGoneError
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
    return ListChanges(changes=tuple(found.values()), revision=revision, more=count == limit)


def delete_old(database: sqlite3.Connection, now: int, *, limit: int) -> int:
    """Delete some of the changes that are not kept any more. Return their number."""
    before = (now - KEPT_SECONDS) * MICROSECONDS
    query = "SELECT revision FROM change WHERE revision <= ? ORDER BY revision LIMIT ?"
    old = [revision for (revision,) in database.execute(query, (before, limit))]
    if old:
        database.execute("DELETE FROM change WHERE revision <= ?", (old[-1],))
        database.execute("INSERT OR REPLACE INTO property VALUES ('changes_from', ?)", (str(old[-1]),))
    return len(old)


def forget(database: sqlite3.Connection, now: int) -> None:
    """Forget all changes: programs with a copy of the list read all of it again."""
    begin = max(now * MICROSECONDS, latest(database) + 1)
    database.execute("DELETE FROM change")
    database.execute("INSERT OR REPLACE INTO property VALUES ('changes_from', ?)", (str(begin),))


def _begin(database: sqlite3.Connection) -> int:
    (value,) = database.execute("SELECT value FROM property WHERE name = 'changes_from'").fetchone()
    return int(value)
