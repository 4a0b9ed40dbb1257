"""Reads the present list for a new one, as far as it can be read: its file can be damaged, of another version, or missing.

Owns which of its rows are valid. Never writes.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, Self

import msgspec

from sidecar.core.sharing import StateKind
from sidecar.journal.database import uri_of
from sidecar.suppression import shared
from sidecar.suppression.rules import Event
from sidecar.suppression.schema import VERSION, Row, event_of, row_of

# Before and behind a damaged page.
_ORDERS: Final = ("", " ORDER BY address DESC")


class PresentList:
    """The database at `path` if it has its addresses in this form. Use it as a context manager."""

    def __init__(self, path: Path, form: str | None) -> None:
        self.path = path
        self._database = _opened(path, form)
        self._is_whole = self._database is not None

    def events(self) -> Iterator[Row]:
        """Yield the rows of events, some perhaps twice."""
        for row in self._rows("SELECT * FROM event"):
            try:
                yield row_of(*event_of(row))
            except ValueError:
                self._is_whole = False

    def states(self) -> Iterator[shared.StateRow]:
        """Yield the rows of states of other nodes, some perhaps twice."""
        for row in self._rows("SELECT * FROM node_state"):
            try:
                address, node, kind, events = msgspec.convert(row, tuple[str, str, StateKind, str])
                msgspec.json.decode(events, type=set[Event])
                yield address, node, kind, events
            except ValueError:
                self._is_whole = False

    def erased(self) -> Iterator[str]:
        """Yield the addresses that were erased, which the stream does not show yet, some twice."""
        return (address for (address,) in self._rows("SELECT address FROM unpublished WHERE erased"))

    def can_continue(self) -> bool:
        """Return True if the list has a place in the stream of states, and all that belongs to it was read."""
        if self._database is None or not self._is_whole:
            return False
        with suppress(sqlite3.DatabaseError):
            places = self._database.execute("SELECT 1 FROM property WHERE name = ?", (shared.PLACE,)).fetchall()
            versions = self._database.execute("PRAGMA user_version").fetchall()
            if places and versions == [(VERSION,)]:
                return self._database.execute("PRAGMA quick_check(1)").fetchall() == [("ok",)]
        return False

    def _rows(self, query: str) -> Iterator[tuple[Any, ...]]:
        if self._database is None:
            return
        for order in _ORDERS:
            try:
                yield from self._database.execute(f"{query}{order}")
            except sqlite3.DatabaseError:
                self._is_whole = False
            else:
                return

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._database is not None:
            self._database.close()


def _opened(path: Path, form: str | None) -> sqlite3.Connection | None:
    """Open a database if it has its addresses in this form: hashes of another key name no address."""
    try:
        database = sqlite3.connect(uri_of(path, "ro"), uri=True)
    except sqlite3.DatabaseError:
        return None
    try:
        (found,) = database.execute("SELECT value FROM property WHERE name = 'store'").fetchone() or ("",)
    except sqlite3.DatabaseError:
        found = ""
    if found == form:
        return database
    database.close()
    return None
