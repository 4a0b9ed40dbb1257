"""The tables of the suppression list, how older ones become the present ones, and events as rows.

Owns the version of the schema. Never opens a database.
"""

from collections.abc import Sequence
from typing import Final

import msgspec

from sidecar.suppression import revisions, shared
from sidecar.suppression.rules import Event

ENTRY_INDEX: Final = "CREATE INDEX entry_expires ON entry (expires) WHERE expires > 0"
Row = tuple[str | int, ...]
"""The columns of an event."""

_FIRST: Final = f"""
CREATE TABLE event (
  address TEXT NOT NULL, time INTEGER NOT NULL, id TEXT NOT NULL, kind TEXT NOT NULL, word TEXT NOT NULL,
  expires INTEGER NOT NULL, PRIMARY KEY (address, time, id, kind, word, expires)
) WITHOUT ROWID;
CREATE TABLE entry (
  address TEXT PRIMARY KEY, reason TEXT NOT NULL, source TEXT NOT NULL, since INTEGER NOT NULL, expires INTEGER NOT NULL,
  reports TEXT NOT NULL
) WITHOUT ROWID;
{ENTRY_INDEX};
CREATE TABLE segment (path TEXT PRIMARY KEY, lines INTEGER NOT NULL, done INTEGER NOT NULL, counts TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE property (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
"""
# The ids are in the key, so the table has to be made again.
_WITH_VERIFIED_IDS: Final = """
CREATE TABLE new_event (
  address TEXT NOT NULL, time INTEGER NOT NULL, id TEXT NOT NULL, kind TEXT NOT NULL, word TEXT NOT NULL,
  expires INTEGER NOT NULL, verified_ids TEXT NOT NULL, PRIMARY KEY (address, time, id, kind, word, expires, verified_ids)
) WITHOUT ROWID;
INSERT INTO new_event SELECT *, '' FROM event;
DROP TABLE event;
ALTER TABLE new_event RENAME TO event;
"""
MIGRATIONS: Final = (_FIRST, _WITH_VERIFIED_IDS, revisions.SCHEMA, shared.SCHEMA)
"""Scripts, each from one version to the next."""
VERSION: Final = len(MIGRATIONS)
"""The present version, which `PRAGMA user_version` has."""


def row_of(address: str, event: Event) -> Row:
    """Return the row of an event."""
    return (address, event.time, event.id, event.kind, event.word, event.expires, "\n".join(event.verified_ids))


def event_of(row: Sequence[str | int]) -> tuple[str, Event]:
    """Return the address and the event of a row of any version. Raise ValueError for one that no reader of records has made."""
    address, time, id_, kind, word, expires, *ids = row
    values = {"time": time, "id": id_, "kind": kind, "word": word, "expires": expires}
    return str(address), msgspec.convert({**values, "verified_ids": "".join(map(str, ids)).splitlines()}, Event)
