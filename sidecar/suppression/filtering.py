"""Keeps the filter of an open database: builds it some entries at a time, and adds each new entry before it is committed.

Owns the property `filter` of the database, which names the filter that has all its entries. Each new filter has another name,
so a copy of the database never has more entries than the filter of that name.
"""

import secrets
import time
from typing import Final

from sidecar.suppression.filter import AddressFilter, FilterWriter, name_of
from sidecar.suppression.store import Database

_PROPERTY: Final = "filter"
_PAGE: Final = 1_000
# An entry takes some 140 bytes, and a report behind it as many. If there are more entries, the filter is built again.
_BYTES_PER_ENTRY: Final = 200


def filter_of(database: Database) -> int:
    """Return the number of the filter that has all entries of a database, see `AddressFilter`."""
    return name_of(f"{database.path.absolute()} {database.get_property('store')} {database.get_property(_PROPERTY)}")


def forget_filter(database: Database) -> None:
    """Let no filter be of this database: entries will be added that are in none."""
    database.put_property(_PROPERTY, "")


class FilterKeeper:
    """The filter of a database, in the process that writes both. Call `step` again and again."""

    def __init__(self, shared: AddressFilter, database: Database) -> None:
        self._database = database
        self._writer = FilterWriter(shared, filter_of(database))
        self._entries = database.path.stat().st_size // _BYTES_PER_ENTRY
        self._after = ""
        database.before_entries(self._writer.add)

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
            if not (keys := self._database.keys(self._after, _PAGE)):
                return self._finish()
            for key in keys:
                writer.copy(key)
            self._after = keys[-1]
            if not writer.is_building:  # it was too small
                self._entries = max(self._entries * 2, _PAGE)
                break
        return True

    def _finish(self) -> bool:
        self._database.put_property(_PROPERTY, secrets.token_hex(16))
        self._writer.finish(filter_of(self._database))
        return False
