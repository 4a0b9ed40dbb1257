"""The database of a list as a node of a fleet has it: what it has to publish, and what other nodes know.

What arrives, what follows from it and the place in the stream change in one transaction. Never reads the stream.
"""

from collections.abc import Iterable, Iterator, Mapping
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Final

import msgspec

from sidecar.core.sharing import StateKind
from sidecar.journal.database import database_faults, uri_of
from sidecar.suppression import shared
from sidecar.suppression.rules import Event, Ruleset
from sidecar.suppression.shared import EVENTS, NODE, PLACE, REJECTED, Known, StateRow
from sidecar.suppression.states import ReadState
from sidecar.suppression.store import SWEPT_AT_ONCE, Database

_DELETE_STATE: Final = "DELETE FROM node_state WHERE address = ? AND node = ? AND kind = ?"
# They are of one connection, that of the process which writes the list of a node in a fleet.
_TRIGGERS: Final = """
CREATE TEMP TRIGGER IF NOT EXISTS note_new AFTER INSERT ON main.event BEGIN
  INSERT OR IGNORE INTO unpublished VALUES (CASE NEW.kind WHEN 'report' THEN 'reports' ELSE 'changes' END, NEW.address, 0);
END;
CREATE TEMP TRIGGER IF NOT EXISTS note_deleted AFTER DELETE ON main.event BEGIN
  INSERT OR IGNORE INTO unpublished VALUES (CASE OLD.kind WHEN 'report' THEN 'reports' ELSE 'changes' END, OLD.address, 0);
END;
"""


class NodeStore(Database):
    """The open database, in the process that writes it."""

    def share(self, node: str) -> None:
        """Note from now on which addresses other nodes have to get, as a node of a fleet; "" is none. Raise StoreError."""
        known = self._database.execute("SELECT 1 FROM node_state LIMIT 1").fetchone()
        self._node, self._has_states = node, bool(node) or known is not None
        if (self.get_property(NODE) or "") != node:
            with self._transaction():
                if node:
                    # Before this nothing was noted.
                    self._mark_all()
                self._put_properties({NODE: node or None})
        if node:
            self._keep_triggers_in_memory()
            self._database.executescript(_TRIGGERS)

    def put_erased(self, addresses: Iterable[str]) -> None:
        """Do not restore addresses that were erased from the database before this one."""
        with self._transaction():
            for address in addresses:
                shared.mark_erased(self._database, address)

    def load_states(self, rows: Iterable[StateRow]) -> None:
        """Add states of other nodes while `loading`, before the events."""
        self._database.executemany("INSERT OR REPLACE INTO node_state VALUES (?, ?, ?, ?)", rows)

    def all_states(self) -> Iterator[tuple[str, Known]]:
        """Yield what other nodes know, by address."""
        rows = self._database.execute("SELECT address, node, events FROM node_state ORDER BY address")
        for address, group in groupby(rows, key=itemgetter(0)):
            yield address, shared.known_of(row[1:] for row in group)

    def continue_at(self, path: Path) -> None:
        """Continue as the node of another database, which is whole, and whose states were loaded. Raise StoreError.

        It is then at the place of that in the stream, and has its notes. What this list has otherwise has to be published.
        """
        with database_faults(self.path):
            self._database.execute("ATTACH ? AS present", (uri_of(path, "ro"),))
        with self._transaction():
            self._database.execute("INSERT OR REPLACE INTO unpublished SELECT * FROM present.unpublished")
            for one, other in (("main", "present"), ("present", "main")):
                # In the order of the keys SQLite merges the tables, without a temporary one.
                query = f"SELECT * FROM {one}.event EXCEPT SELECT * FROM {other}.event ORDER BY 1, 2, 3, 4, 5, 6, 7"  # noqa: S608 - constant
                for address, _, _, kind, *_ in self._database.execute(query):
                    self._mark(address, "reports" if kind == "report" else "changes")
            query = "INSERT OR REPLACE INTO property SELECT * FROM present.property WHERE name IN (?, ?, ?)"
            self._database.execute(query, (NODE, PLACE, REJECTED))
        self._database.execute("DETACH present")

    def unpublished(self, kind: StateKind, limit: int) -> list[str]:
        """Return the keys of addresses whose states of this kind have to be published, `limit` at most."""
        query = "SELECT address FROM unpublished WHERE kind = ? ORDER BY address LIMIT ?"
        return [address for (address,) in self._database.execute(query, (kind, limit))]

    def own_events(self, key: str, kind: StateKind) -> set[Event]:
        """Return the events of this kind that this node got."""
        return {event for event in self._events(key) if shared.kind_of(event) == kind}

    def put_properties(self, properties: Mapping[str, str | None]) -> None:
        """Write properties in one transaction, and delete those that are None. Raise StoreError."""
        with self._transaction():
            self._put_properties(properties)

    def receive(  # noqa: PLR0913 - all in one transaction
        self,
        states: Iterable[ReadState],
        lost: Iterable[tuple[str, StateKind]],
        *,
        properties: Mapping[str, str | None],
        is_new: bool,
        rules: Ruleset,
        now: int,
    ) -> None:
        """Apply states of nodes, also of this one, in their order, and write properties.

        What is `lost` has to be published again, and everything if the stream `is_new`.
        """
        with self._transaction():
            if is_new:
                self._mark_all()
            for state in states:
                if state.node == self._node:
                    self._receive_own(state, rules, now)
                else:
                    removed = any(event.kind == "remove" for event in self._put_state(state))
                    self._put_entry(state.address, self._decided(state.address, rules, now), now, removed=removed)
            for address, kind in lost:
                self._mark(address, kind)
            self._put_properties(properties)

    def delete_old_states(self, rules: Ruleset, now: int, *, after: str) -> str:
        """Delete what cannot count any more of the next addresses. Return the last of them, "" after all."""
        with self._transaction():
            query = "SELECT DISTINCT address FROM node_state WHERE address > ? ORDER BY address LIMIT ?"
            addresses = [address for (address,) in self._database.execute(query, (after, SWEPT_AT_ONCE))]
            last = addresses[-1] if addresses else ""
            rows = self._database.execute(
                "SELECT * FROM node_state WHERE address > ? AND address <= ?", (after, last)
            ).fetchall()
            old = [row[:3] for row in rows if all(rules.is_over(event, now) for event in EVENTS.decode(row[3]))]
            self._database.executemany(_DELETE_STATE, old)
            for address in sorted({address for address, *_ in old}):
                self._put_entry(address, self._decided(address, rules, now), now)
        return last

    def _put_state(self, state: ReadState) -> set[Event]:
        """Replace a state of another node. Return the events that the one before did not have."""
        key = state.address, state.node, state.kind
        query = "SELECT events FROM node_state WHERE address = ? AND node = ? AND kind = ?"
        before = {event for (text,) in self._database.execute(query, key) for event in EVENTS.decode(text)}
        if state.events:
            text = msgspec.json.encode(sorted(state.events)).decode()
            self._database.execute("INSERT OR REPLACE INTO node_state VALUES (?, ?, ?, ?)", (*key, text))
        else:
            self._database.execute(_DELETE_STATE, key)
        return {*state.events} - before

    def _receive_own(self, state: ReadState, rules: Ruleset, now: int) -> None:
        """Restore what this list does not have, unless it was erased. Note if the stream does not have what this list has."""
        before = self._events(state.address)
        key = state.kind, state.address
        query = "SELECT 1 FROM unpublished WHERE kind = ? AND address = ? AND erased"
        if self._database.execute(query, key).fetchone() is None:
            after = rules.kept(state.corrected(before, now), now)
            self._replace(state.address, before, after, rules, now)
        if self.own_events(state.address, state.kind) == state.written:
            self._database.execute("DELETE FROM unpublished WHERE kind = ? AND address = ?", key)
        else:
            self._mark(state.address, state.kind)

    def _mark_all(self) -> None:
        """Note that all that this node knows has to be published."""
        query = "SELECT DISTINCT CASE kind WHEN 'report' THEN 'reports' ELSE 'changes' END, address, 0 FROM event"
        self._database.execute(f"INSERT OR IGNORE INTO unpublished {query}")

    def _mark(self, address: str, kind: StateKind) -> None:
        """Note that a state has to be published."""
        self._database.execute("INSERT OR IGNORE INTO unpublished VALUES (?, ?, 0)", (kind, address))

    def _put_properties(self, properties: Mapping[str, str | None]) -> None:
        for name, value in properties.items():
            if value is None:
                self._database.execute("DELETE FROM property WHERE name = ?", (name,))
            else:
                self.put_property(name, value)
