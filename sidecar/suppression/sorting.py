"""All events of a new list, sorted by address: SQLite sorts more of them than memory can have.

Owns the temporary files. They have no names, so nothing of them is left after a crash.
"""

import sqlite3
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any, Final

from sidecar.suppression.rules import Event
from sidecar.suppression.schema import Row

# KiB of pages, and of events that are sorted in memory at once. Of ten million events, twelve such parts are merged.
_MEMORY: Final = 128 * 1024
# Steps of SQLite between two calls while it sorts.
_STEPS: Final = 1_000_000
# Without a name, SQLite makes a file that has none.
_NO_NAME: Final = ""


@contextmanager
def event_sorter(directory: Path) -> Iterator["EventSorter"]:
    """Yield a sorter with temporary files in a directory. Raise sqlite3.Error."""
    with closing(sqlite3.connect(_NO_NAME, isolation_level=None)) as database:
        # The default is /var/tmp, which can be smaller. SQLite knows no other way; without this one it uses the default.
        quoted = str(directory.absolute()).replace("'", "''")
        database.execute(f"PRAGMA temp_store_directory = '{quoted}'")
        database.execute(f"PRAGMA cache_size = -{_MEMORY}")
        database.execute("PRAGMA journal_mode = OFF")
        database.execute("CREATE TABLE event (address, time, id, kind, word, expires, verified_ids)")
        yield EventSorter(database)


class EventSorter:
    """Rows of events. Its methods raise sqlite3.Error."""

    def __init__(self, database: sqlite3.Connection) -> None:
        self._database = database
        self.count = self.returned = 0
        """How many events were added, and how many `by_address` has returned."""

    def append(self, rows: Iterable[Row]) -> None:
        """Add rows, as `row_of` returns them."""
        self._database.execute("BEGIN")
        self.count += self._database.executemany("INSERT INTO event VALUES (?, ?, ?, ?, ?, ?, ?)", rows).rowcount
        self._database.execute("COMMIT")

    def by_address(self, call: Callable[[], None]) -> Iterator[tuple[str, Iterator[Event]]]:
        """Yield each address with its events in the order in which they were added; `call` is called while they are sorted."""
        self._database.set_progress_handler(call, _STEPS)
        rows = self._database.execute("SELECT * FROM event ORDER BY address, rowid")
        for address, group in groupby(rows, key=itemgetter(0)):
            yield address, self._events(group)

    def _events(self, rows: Iterable[tuple[Any, ...]]) -> Iterator[Event]:
        for _, time, id_, kind, word, expires, ids in rows:
            self.returned += 1
            # Not as `event_of`: these rows are of events.
            verified_ids = tuple(ids.split("\n")) if ids else ()
            yield Event(time=time, id=id_, kind=kind, word=word, expires=expires, verified_ids=verified_ids)
