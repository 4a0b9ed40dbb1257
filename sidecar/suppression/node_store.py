"""The database of a list as a node of a fleet has it: what it has to publish, and what other nodes know.

What arrives, what follows from it and the place in the stream change in one transaction. Never reads the stream.
"""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from sidecar.core.sharing import StateKind
from sidecar.journal.database import database_faults, uri_of
from sidecar.suppression import shared
from sidecar.suppression.rules import Event, Ruleset
from sidecar.suppression.shared import NODE
from sidecar.suppression.states import ReadState
from sidecar.suppression.store import Database


class NodeStore(Database):
    """The open database, in the process that writes it."""

    def share(self, node: str) -> None:
        """Note from now on which addresses other nodes have to get, as a node of a fleet; "" is none. Raise StoreError."""
        self._node, self._has_states = node, bool(node) or shared.has_states(self._database)
        if (self.get_property(NODE) or "") != node:
            with self._transaction():
                if node:
                    # Before this nothing was noted.
                    shared.mark_all(self._database)
                self._put_properties({NODE: node or None})
        if node:
            self._keep_triggers_in_memory()
            self._database.executescript(shared.TRIGGERS)

    def put_erased(self, addresses: Iterable[str]) -> None:
        """Do not restore addresses that were erased from the database before this one."""
        with self._transaction():
            for address in addresses:
                shared.mark_erased(self._database, address)

    def load_states(self, rows: Iterable[shared.StateRow]) -> None:
        """Add states of other nodes while `loading`, before the events."""
        self._database.executemany("INSERT OR REPLACE INTO node_state VALUES (?, ?, ?, ?)", rows)

    def all_states(self) -> Iterator[tuple[str, shared.Known]]:
        """Yield what other nodes know, by address."""
        return shared.all_states(self._database)

    def continue_at(self, path: Path) -> None:
        """Continue as the node of another database, which is whole, and whose states were loaded. Raise StoreError.

        What this list has otherwise has to be published.
        """
        with database_faults(self.path):
            self._database.execute("ATTACH ? AS present", (uri_of(path, "ro"),))
        with self._transaction():
            shared.continue_present(self._database)
        self._database.execute("DETACH present")

    def unpublished(self, kind: StateKind, limit: int) -> list[str]:
        """Return the keys of addresses whose states of this kind have to be published, `limit` at most."""
        return shared.unpublished(self._database, kind, limit)

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
                shared.mark_all(self._database)
            for state in states:
                if state.node == self._node:
                    self._receive_own(state, rules, now)
                else:
                    fresh = shared.put(self._database, state.address, state.node, state.kind, state.events)
                    removed = any(event.kind == "remove" for event in fresh)
                    self._put_entry(state.address, self._decided(state.address, rules, now), now, removed=removed)
            for address, kind in lost:
                shared.mark(self._database, address, kind)
            self._put_properties(properties)

    def delete_old_states(self, rules: Ruleset, now: int, *, after: str, limit: int = 1_000) -> str:
        """Delete what cannot count any more of the next `limit` addresses. Return the last of them, "" after all."""
        with self._transaction():
            addresses, last = shared.delete_old(
                self._database, lambda event: rules.is_over(event, now), after=after, limit=limit
            )
            for address in addresses:
                self._put_entry(address, self._decided(address, rules, now), now)
        return last

    def _receive_own(self, state: ReadState, rules: Ruleset, now: int) -> None:
        """Restore what this list does not have, unless it was erased. Note if the stream does not have what this list has."""
        before = self._events(state.address)
        if not shared.is_erased(self._database, state.address, state.kind):
            after = rules.kept(state.corrected(before, now), now)
            self._replace(state.address, before, after, rules, now)
        if self.own_events(state.address, state.kind) == state.written:
            shared.unmark(self._database, state.address, state.kind)
        else:
            shared.mark(self._database, state.address, state.kind)

    def _put_properties(self, properties: Mapping[str, str | None]) -> None:
        for name, value in properties.items():
            if value is None:
                self._database.execute("DELETE FROM property WHERE name = ?", (name,))
            else:
                self.put_property(name, value)
