"""Keeps the filter of an open database: builds it some entries at a time, and adds each new entry before it is committed.

Owns the property `filter` of the database, which names the filter that has all its entries. Each new filter has another name,
so a copy of the database never has more entries than the filter of that name.
"""

import secrets
import sqlite3
import time
from typing import Final

from sidecar.suppression.filter import AddressFilter, FilterWriter, name_of
from sidecar.suppression.store import Database

_PROPERTY: Final = "filter"
_PAGE: Final = 1_000
# An entry takes some 140 bytes, and a report behind it as many. If there are more entries, the filter is built again.
_BYTES_PER_ENTRY: Final = 200
# A trigger sees each statement that adds an entry. It is of this connection only.
_TRIGGER: Final = "CREATE TEMP TRIGGER filtered BEFORE INSERT ON main.entry BEGIN SELECT add_to_filter(NEW.address); END"


def filter_of(database: Database) -> int:
    """Return the number of the filter that has all entries of a database, see `AddressFilter`."""
    return name_of(f"{database.path.absolute()} {form_of(database)} {_property(database, _PROPERTY)}")


def form_of(database: Database) -> str | None:
    """Return the `store` of a database, with the proof of its key."""
    return _property(database, "store")


def _property(database: Database, name: str) -> str | None:
    row = _connection(database).execute("SELECT value FROM property WHERE name = ?", (name,)).fetchone()
    return None if row is None else str(row[0])


def forget_filter(database: Database) -> None:
    """Let no filter be of this database: entries will be added that are in none."""
    _connection(database).execute("DELETE FROM property WHERE name = ?", (_PROPERTY,))


class FilterKeeper:
    """The filter of a database, in the process that writes both. Call `step` again and again."""

    def __init__(self, shared: AddressFilter, database: Database) -> None:
        self._database = database
        self._writer = FilterWriter(shared, filter_of(database))
        self._entries = database.path.stat().st_size // _BYTES_PER_ENTRY
        self._after = ""
        connection = _connection(database)
        connection.execute("PRAGMA temp_store = MEMORY")
        connection.create_function("add_to_filter", 1, self._writer.add)
        connection.execute(_TRIGGER)

    def step(self, seconds: float) -> bool:
        """Build for some time, if readers have no filter or a full one. Return True if there is more to do."""
        writer = self._writer
        if not writer.is_building:
            if writer.is_ready and not writer.is_full:
                return False
            writer.build(self._entries)
            self._after = ""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            if not (keys := self._page()):
                return self._finish()
            for key in keys:
                writer.copy(key)
            self._after = keys[-1]
            if not writer.is_building:  # it was too small
                self._entries = max(self._entries * 2, _PAGE)
                break
        return True

    def _page(self) -> list[str]:
        query = "SELECT address FROM entry WHERE address > ? ORDER BY address LIMIT ?"
        return [address for (address,) in _connection(self._database).execute(query, (self._after, _PAGE))]

    def _finish(self) -> bool:
        row = (_PROPERTY, secrets.token_hex(16))
        _connection(self._database).execute("INSERT OR REPLACE INTO property VALUES (?, ?)", row)
        self._writer.finish(filter_of(self._database))
        return False


def _connection(database: Database) -> sqlite3.Connection:
    return database._database  # noqa: SLF001 - the filter follows all that changes the table
