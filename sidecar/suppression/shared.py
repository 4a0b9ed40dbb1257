"""What other nodes know about addresses, and what this node has to publish: their tables.

The caller owns the transaction. Never reads the stream, and never decides which address is suppressed.
"""

import sqlite3
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import groupby
from operator import itemgetter
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
# They are of one connection, that of the process which writes the list of a node in a fleet.
TRIGGERS: Final = """
CREATE TEMP TRIGGER IF NOT EXISTS note_new AFTER INSERT ON main.event BEGIN
  INSERT OR IGNORE INTO unpublished VALUES (CASE NEW.kind WHEN 'report' THEN 'reports' ELSE 'changes' END, NEW.address, 0);
END;
CREATE TEMP TRIGGER IF NOT EXISTS note_deleted AFTER DELETE ON main.event BEGIN
  INSERT OR IGNORE INTO unpublished VALUES (CASE OLD.kind WHEN 'report' THEN 'reports' ELSE 'changes' END, OLD.address, 0);
END;
"""
_KINDS: Final[tuple[StateKind, ...]] = ("reports", "changes")
_EVENTS: Final = msgspec.json.Decoder(set[Event])


def kind_of(event: Event) -> StateKind:
    """Return the kind of state that has an event."""
    return "reports" if event.kind == "report" else "changes"


def states(database: sqlite3.Connection, address: str) -> dict[str, set[Event]]:
    """Return what each other node knows about an address."""
    found: dict[str, set[Event]] = {}
    for node, events in database.execute("SELECT node, events FROM node_state WHERE address = ?", (address,)):
        found.setdefault(node, set()).update(_EVENTS.decode(events))
    return found


def all_states(database: sqlite3.Connection) -> Iterator[tuple[str, Known]]:
    """Yield what other nodes know, by address."""
    rows = database.execute("SELECT address, node, events FROM node_state ORDER BY address")
    for address, group in groupby(rows, key=itemgetter(0)):
        found: dict[str, set[Event]] = {}
        for _, node, events in group:
            found.setdefault(node, set()).update(_EVENTS.decode(events))
        yield address, found


def has_states(database: sqlite3.Connection) -> bool:
    """Return True if there is something that another node knows."""
    return database.execute("SELECT 1 FROM node_state LIMIT 1").fetchone() is not None


def put(database: sqlite3.Connection, address: str, node: str, kind: StateKind, events: Iterable[Event]) -> set[Event]:
    """Replace a state of another node. Return the events that the one before did not have."""
    key = address, node, kind
    query = "SELECT events FROM node_state WHERE address = ? AND node = ? AND kind = ?"
    before = {event for (text,) in database.execute(query, key) for event in _EVENTS.decode(text)}
    if after := sorted(events):
        text = msgspec.json.encode(after).decode()
        database.execute("INSERT OR REPLACE INTO node_state VALUES (?, ?, ?, ?)", (*key, text))
    else:
        database.execute("DELETE FROM node_state WHERE address = ? AND node = ? AND kind = ?", key)
    return {*after} - before


def delete_old(
    database: sqlite3.Connection, is_over: Callable[[Event], bool], *, after: str, limit: int
) -> tuple[list[str], str]:
    """Delete states of the next `limit` addresses that cannot count any more.

    Return the addresses of those, and the last address, "" after all.
    """
    query = "SELECT DISTINCT address FROM node_state WHERE address > ? ORDER BY address LIMIT ?"
    addresses = [address for (address,) in database.execute(query, (after, limit))]
    last = addresses[-1] if addresses else ""
    rows = database.execute("SELECT * FROM node_state WHERE address > ? AND address <= ?", (after, last)).fetchall()
    old = [row[:3] for row in rows if all(map(is_over, _EVENTS.decode(row[3])))]
    database.executemany("DELETE FROM node_state WHERE address = ? AND node = ? AND kind = ?", old)
    return sorted({address for address, *_ in old}), last


def continue_present(database: sqlite3.Connection) -> None:
    """Continue as the node of `present`, an attached database: at its place in the stream, and with its notes.

    Note also which events differ from those there.
    """
    database.execute("INSERT OR REPLACE INTO unpublished SELECT * FROM present.unpublished")
    for one, other in (("main", "present"), ("present", "main")):
        # In the order of the keys SQLite merges the tables, without a temporary one.
        query = f"SELECT * FROM {one}.event EXCEPT SELECT * FROM {other}.event ORDER BY 1, 2, 3, 4, 5, 6, 7"  # noqa: S608 - constant
        for address, _, _, kind, *_ in database.execute(query):
            mark(database, address, "reports" if kind == "report" else "changes")
    query = "INSERT OR REPLACE INTO property SELECT * FROM present.property WHERE name IN (?, ?, ?)"
    database.execute(query, (NODE, PLACE, REJECTED))


def mark_all(database: sqlite3.Connection) -> None:
    """Note that all that this node knows has to be published."""
    query = "SELECT DISTINCT CASE kind WHEN 'report' THEN 'reports' ELSE 'changes' END, address, 0 FROM event"
    database.execute(f"INSERT OR IGNORE INTO unpublished {query}")


def mark(database: sqlite3.Connection, address: str, kind: StateKind) -> None:
    """Note that a state has to be published."""
    database.execute("INSERT OR IGNORE INTO unpublished VALUES (?, ?, 0)", (kind, address))


def mark_erased(database: sqlite3.Connection, address: str) -> None:
    """Note that an address was erased: what the stream has about it from this node must not be restored."""
    database.executemany("INSERT OR REPLACE INTO unpublished VALUES (?, ?, 1)", [(kind, address) for kind in _KINDS])


def unmark(database: sqlite3.Connection, address: str, kind: StateKind) -> None:
    """Note that the stream has the state."""
    database.execute("DELETE FROM unpublished WHERE kind = ? AND address = ?", (kind, address))


def is_erased(database: sqlite3.Connection, address: str, kind: StateKind) -> bool:
    """Return True if an address was erased, and the stream does not show that yet."""
    query = "SELECT erased FROM unpublished WHERE kind = ? AND address = ?"
    return any(erased for (erased,) in database.execute(query, (kind, address)))


def unpublished(database: sqlite3.Connection, kind: StateKind, limit: int) -> list[str]:
    """Return addresses whose states of this kind have to be published, `limit` at most."""
    query = "SELECT address FROM unpublished WHERE kind = ? ORDER BY address LIMIT ?"
    return [address for (address,) in database.execute(query, (kind, limit))]


def count_unpublished(database: sqlite3.Connection) -> int:
    """Return the number of states that have to be published."""
    return int(database.execute("SELECT count(*) FROM unpublished").fetchone()[0])


def count_by_node(database: sqlite3.Connection, now: int) -> Counter[str]:
    """Return the number of entries by the nodes behind them."""
    query = "SELECT nodes, count(*) FROM entry WHERE expires = 0 OR expires > ? GROUP BY nodes"
    found = Counter[str]()
    for nodes, count in database.execute(query, (now,)):
        found.update(dict.fromkeys(nodes.split(), count))
    return found


def nodes_behind(entry: ListEntry, known: Mapping[str, Iterable[Event]]) -> tuple[str, ...]:
    """Return the nodes that know a report or the change behind an entry."""
    return tuple(sorted(node for node, events in known.items() if any(_is_behind(event, entry) for event in events)))


def _is_behind(event: Event, entry: ListEntry) -> bool:
    if event.kind == "report":
        return entry.source == "reports" and event.id in entry.reports
    of_change = event.word, event.expires, event.time // MICROSECONDS
    return event.kind == "add" and entry.source == "manual" and of_change == (entry.reason, entry.expires, entry.since)
