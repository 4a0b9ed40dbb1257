"""What other nodes know about addresses, and what this node has to publish: their tables, as every process reads them.

The caller owns the transaction. Never reads the stream, and never decides which address is suppressed.
"""

import sqlite3
from collections.abc import Iterable, Mapping
from typing import Final

import msgspec

from sidecar.core.sharing import StateKind
from sidecar.suppression.rules import MICROSECONDS, Event, ListEntry

NODE: Final = "node"
"""The property with the name of this node in its fleet."""
PLACE: Final = "place"
"""The property with the place in the stream up to which states were read."""
REJECTED: Final = "rejected"
"""The property with the number of the first state that was rejected, if there is one."""
Known = Mapping[str, set[Event]]
"""What each other node knows about an address."""
StateRow = tuple[str, str, str, str]
"""The columns of a state."""

SCHEMA: Final = """
CREATE TABLE node_state (
  address TEXT NOT NULL, node TEXT NOT NULL, kind TEXT NOT NULL, events TEXT NOT NULL, PRIMARY KEY (address, node, kind)
) WITHOUT ROWID;
CREATE TABLE unpublished (
  kind TEXT NOT NULL, address TEXT NOT NULL, erased INTEGER NOT NULL, PRIMARY KEY (kind, address)
) WITHOUT ROWID;
ALTER TABLE entry ADD COLUMN nodes TEXT NOT NULL DEFAULT '';
"""
_KINDS: Final[tuple[StateKind, ...]] = ("reports", "changes")
EVENTS: Final = msgspec.json.Decoder(set[Event])


def kind_of(event: Event) -> StateKind:
    """Return the kind of state that has an event."""
    return "reports" if event.kind == "report" else "changes"


def states(database: sqlite3.Connection, address: str) -> dict[str, set[Event]]:
    """Return what each other node knows about an address."""
    return known_of(database.execute("SELECT node, events FROM node_state WHERE address = ?", (address,)))


def known_of(rows: Iterable[tuple[str, str]]) -> dict[str, set[Event]]:
    """Return the events of the states of one address by their nodes."""
    found: dict[str, set[Event]] = {}
    for node, events in rows:
        found.setdefault(node, set()).update(EVENTS.decode(events))
    return found


def mark_erased(database: sqlite3.Connection, address: str) -> None:
    """Note that an address was erased: what the stream has about it from this node must not be restored."""
    database.executemany("INSERT OR REPLACE INTO unpublished VALUES (?, ?, 1)", [(kind, address) for kind in _KINDS])


def nodes_behind(entry: ListEntry, known: Mapping[str, Iterable[Event]]) -> tuple[str, ...]:
    """Return the nodes that know a report or the change behind an entry."""
    return tuple(sorted(node for node, events in known.items() if any(_is_behind(event, entry) for event in events)))


def _is_behind(event: Event, entry: ListEntry) -> bool:
    if event.kind == "report":
        return entry.source == "reports" and event.id in entry.reports
    of_change = event.word, event.expires, event.time // MICROSECONDS
    return event.kind == "add" and entry.source == "manual" and of_change == (entry.reason, entry.expires, entry.since)
