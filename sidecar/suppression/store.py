"""The database of the suppression list: events, the entries that follow from them, and how far the journal was read.

All three change in one transaction, so a list that survives a crash is always the one of a known place in the journal. One
process writes, and any number read. Never decides which address is suppressed, and never reads a record.

A reader needs one B-tree probe for an address: `entry` is keyed by it, and has no second index on it.
"""

import sqlite3
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from pathlib import Path
from typing import Any, Final, Literal, Self

import msgspec
from msgspec.structs import replace

from sidecar import log
from sidecar.core.suppressed import ListChanges, ListQuery
from sidecar.journal.database import DamagedError, database_faults, transaction
from sidecar.journal.read import SegmentMark
from sidecar.suppression import listing, revisions, shared
from sidecar.suppression.hashing import AddressHash
from sidecar.suppression.listing import Listed, Page, entry_of
from sidecar.suppression.reading import AddressEvent
from sidecar.suppression.rules import Event, ListEntry, Ruleset
from sidecar.suppression.schema import ENTRY_INDEX, Row, event_of, row_of
from sidecar.suppression.segments import Progress
from sidecar.suppression.shared import NODE, Known
from sidecar.suppression.states import without_later

# Another process can back up or read for a long time; the writer waits for neither in WAL mode.
BUSY_SECONDS: Final = 30.0
_PAGE: Final = 500
_ALL: Final = ListQuery()
# Of one transaction of a sweep: it takes some hundred ms, and other work waits for it.
_EXPIRED_AT_ONCE: Final = 10_000
SWEPT_AT_ONCE: Final = 1_000
_CHANGES_AT_ONCE: Final = 100_000
# KiB. Pages are filled one after the other; the index is sorted in parts of this size.
_LOADING_CACHE: Final = 32 * 1024
_NEW_EVENT: Final = "INSERT INTO event VALUES (?, ?, ?, ?, ?, ?, ?)"
_NEW_ENTRY: Final = "INSERT OR REPLACE INTO entry VALUES (?, ?, ?, ?, ?, ?, ?)"
# A trigger sees each statement that adds an entry. It is of one connection only.
_TRIGGER: Final = "CREATE TEMP TRIGGER before_entry BEFORE INSERT ON main.entry BEGIN SELECT before_entry(NEW.address); END"

_LOG = log.get("suppression")


class Database:
    """The open database at `path`. Use `open_store` or `open_reader`. What is about a key has it as `key` returns it."""

    def __init__(self, database: sqlite3.Connection, path: Path, address_hash: AddressHash | None) -> None:
        self._database = database
        self.path = path
        self._hash = address_hash
        # Outside a fleet, and perhaps in one before.
        self._node, self._has_states = "", True

    # --- reading

    def find(self, address: str, now: int) -> Listed | None:
        """Return the entry of an address in normal form, None if it is not suppressed."""
        row = self._database.execute("SELECT * FROM entry WHERE address = ?", (self.key(address),)).fetchone()
        found = None if row is None else entry_of(row)
        return None if found is None or found.is_over(now) else found

    def key(self, address: str) -> str:
        """Return an address in normal form as the database has it."""
        return address if self._hash is None else self._hash(address)

    def get_property(self, name: str) -> str | None:
        """Return a property of the database, None if it does not have it."""
        rows = self._database.execute("SELECT value FROM property WHERE name = ?", (name,))
        return next((str(value) for (value,) in rows), None)

    def history(self, address: str) -> list[Event]:
        """Return the events of an address in normal form, the oldest first."""
        key = self.key(address)
        return sorted(self._events(key).union(*shared.states(self._database, key).values()))

    def known(self, address: str) -> dict[str, set[Event]]:
        """Return the events of an address in normal form by the node that got them; "" without a fleet."""
        key = self.key(address)
        return {self.get_property(NODE) or "": self._events(key), **shared.states(self._database, key)}

    def newest(self, address: str, action: Literal["add", "remove"]) -> int:
        """Return the time in microseconds that a change of an address must be later than, so that it counts."""
        return max((one.time for one in self.history(address) if "remove" in {one.kind, action}), default=0)

    def entries(self, now: int, wanted: ListQuery = _ALL) -> Iterator[Listed]:
        """Yield the wanted entries by address. Concurrent changes are seen."""
        after: str | None = wanted.after
        while after is not None:
            # Page by page: no reader keeps the write-ahead log from being emptied.
            page = self.page(now, replace(wanted, after=after), _PAGE)
            yield from page.entries
            after = page.after

    def page(self, now: int, wanted: ListQuery, limit: int) -> Page:
        """Return the next of the wanted entries, `limit` at most."""
        return listing.page(self._database, wanted, now, limit)

    @property
    def revision(self) -> int:
        """The revision of the list: it grows with each change. Raise StoreError."""
        with database_faults(self.path):
            return revisions.latest(self._database)

    def changes(self, since: int, now: int, limit: int) -> ListChanges:
        """Return the first changes after a revision, of `limit` rows at most. Raise RevisionGoneError."""
        return revisions.since(self._database, since, now, limit)

    def counts(self, now: int) -> dict[tuple[str, str], int]:
        """Return the number of entries by source and reason; those of people have an empty reason."""
        query = """SELECT source, CASE source WHEN 'reports' THEN reason ELSE '' END, count(*) FROM entry
            WHERE expires = 0 OR expires > ? GROUP BY 1, 2"""
        return {(source, reason): count for source, reason, count in self._database.execute(query, (now,))}

    def counts_of_fleet(self, now: int) -> dict[str, Any] | None:
        """Return this node, the states that other nodes do not have yet, and the number of entries by the nodes behind them.

        None without a fleet.
        """
        if (node := self.get_property(NODE)) is None:
            return None
        (unpublished,) = self._database.execute("SELECT count(*) FROM unpublished").fetchone()
        by_node = Counter[str]()
        query = "SELECT nodes, count(*) FROM entry WHERE expires = 0 OR expires > ? GROUP BY nodes"
        for nodes, count in self._database.execute(query, (now,)):
            by_node.update(dict.fromkeys(nodes.split(), count))
        return {"node": node, "unpublished": unpublished, "by_node": dict(sorted(by_node.items()))}

    def count_expired(self, now: int) -> int:
        """Return the number of entries that have ended, and were not deleted yet."""
        query = "SELECT count(*) FROM entry WHERE expires > 0 AND expires <= ?"
        return int(self._database.execute(query, (now,)).fetchone()[0])

    def counters(self) -> Counter[str]:
        """Return what was counted in the segments that the journal still has."""
        total: Counter[str] = Counter()
        for (text,) in self._database.execute("SELECT counts FROM segment"):
            total.update(msgspec.json.decode(text, type=dict[str, int]))
        return total

    def keys(self, after: str, limit: int) -> list[str]:
        """Return the next keys of entries, `limit` at most."""
        query = "SELECT address FROM entry WHERE address > ? ORDER BY address LIMIT ?"
        return [key for (key,) in self._database.execute(query, (after, limit))]

    def marks(self) -> dict[str, SegmentMark]:
        """Return how far each segment of the journal was read."""
        rows = self._database.execute("SELECT path, lines, done FROM segment")
        return {path: SegmentMark(lines=lines, done=bool(done)) for path, lines, done in rows}

    def backup(self, path: Path) -> None:
        """Copy the database while it is in use. The file is complete when it has its name."""
        draft = path.with_name(f".{path.name}.new")
        with closing(sqlite3.connect(draft)) as copy:
            self._database.backup(copy, pages=1000)
            # A single file, without a write-ahead log beside it.
            copy.execute("PRAGMA journal_mode = DELETE")
        draft.replace(path)

    def check(self) -> None:
        """Check the whole database. Raise DamagedError."""
        with database_faults(self.path):
            (result,) = self._database.execute("PRAGMA quick_check(1)").fetchone()
        if result != "ok":
            raise DamagedError(f"{self.path} is damaged ({str(result)[:200]!r})")

    # --- writing

    def before_entries(self, call: Callable[[str], None]) -> None:
        """Call a function with the key of each entry that is put from now on, before that."""
        self._keep_triggers_in_memory()
        self._database.create_function("before_entry", 1, call)
        self._database.execute(_TRIGGER)

    def _keep_triggers_in_memory(self) -> None:
        """Run this before each CREATE TEMP TRIGGER: the first call deletes the temporary triggers that exist."""
        self._database.execute("PRAGMA temp_store = MEMORY")

    def put_property(self, name: str, value: str) -> None:
        """Write a property of the database. Raise StoreError."""
        with database_faults(self.path):
            self._database.execute("INSERT OR REPLACE INTO property VALUES (?, ?)", (name, value))

    def _transaction(self) -> AbstractContextManager[None]:
        return transaction(self._database, self.path)

    def apply(self, found: Iterable[AddressEvent], progress: Progress | None, *, rules: Ruleset, now: int) -> None:
        """Add events, and move the checkpoint to where they were read, in one transaction. Known events change nothing."""
        new: dict[str, list[Event]] = {}
        for one in found:
            new.setdefault(self.key(one.address), []).append(one.event)
        with self._transaction():
            for address, events in new.items():
                before = self._events(address)
                after = before.union(events if not self._node else without_later(events, before))
                self._replace(address, before, rules.kept(after, now), rules, now)
            if progress is not None:
                self._put_progress(progress)

    @contextmanager
    def loading(self, node: str) -> Iterator[None]:
        """Fill an empty database with `load`, as this node of a fleet. It is fast meanwhile, and not safe against crashes."""
        self._node = node
        with database_faults(self.path):
            self._database.execute("PRAGMA journal_mode = OFF")
            self._database.execute("PRAGMA synchronous = OFF")
            self._database.execute(f"PRAGMA cache_size = -{_LOADING_CACHE}")
            with self._transaction():
                # One that is made of all entries is made in its order.
                self._database.execute("DROP INDEX entry_expires")
                yield
                self._database.execute(ENTRY_INDEX)
            self._database.execute("PRAGMA journal_mode = WAL")

    def load(self, found: Iterable[tuple[str, set[Event], Known]], *, rules: Ruleset, now: int) -> None:
        """Add events that are kept, and the entries that follow from them and from what other nodes know.

        They are in the order of the addresses.
        """
        events, entries = list[Row](), list[Row]()
        for address, own, known in found:
            events += (row_of(address, event) for event in sorted(own))
            if (entry := self._joint_entry(own, known, rules, now)) is not None:
                entries.append(listing.row_of(address, entry))
        self._database.executemany(_NEW_EVENT, events)
        self._database.executemany(_NEW_ENTRY, entries)

    def load_state(self, progress: Iterable[Progress], fingerprint: str, *, now: int, given: int) -> None:
        """Add of which rules the list is, how far the journal was read, and that copies read all of the list again.

        `given` is the latest revision that they can have.
        """
        for one in progress:
            self._put_progress(one)
        self.put_property("rules", fingerprint)
        revisions.forget(self._database, now, given=given)

    def forget_segments(self, paths: Iterable[str]) -> None:
        """Forget segments that do not exist any more."""
        with self._transaction():
            self._database.executemany("DELETE FROM segment WHERE path = ?", [(path,) for path in paths])

    def delete_expired(self, rules: Ruleset, now: int) -> int:
        """Delete some of the entries that have ended, with the events that cannot count any more. Return their number."""
        query = "SELECT address FROM entry WHERE expires > 0 AND expires <= ? LIMIT ?"
        with self._transaction():
            addresses = [address for (address,) in self._database.execute(query, (now, _EXPIRED_AT_ONCE))]
            for address in addresses:
                before = self._events(address)
                self._replace(address, before, rules.kept(before, now), rules, now)
        return len(addresses)

    def delete_old_events(self, rules: Ruleset, now: int, *, after: str) -> str:
        """Delete what cannot count any more of the next addresses. Return the last of them, "" after all."""
        query = "SELECT DISTINCT address FROM event WHERE address > ? ORDER BY address LIMIT ?"
        with self._transaction():
            addresses = [address for (address,) in self._database.execute(query, (after, SWEPT_AT_ONCE))]
            for address in addresses:
                before = self._events(address)
                if (kept := rules.kept(before, now)) != before:
                    self._replace(address, before, kept, rules, now)
        return addresses[-1] if addresses else ""

    def delete_old_changes(self, now: int) -> int:
        """Delete some of the changes that are not kept any more. Return their number."""
        with self._transaction():
            return revisions.delete_old(self._database, now, limit=_CHANGES_AT_ONCE)

    def erase(self, address: str, now: int) -> bool:
        """Delete all that is stored about an address in normal form. Return True if it was known."""
        key = (self.key(address),)
        tables = "event", "entry", "node_state"
        with self._transaction():
            gone = [self._database.execute(f"DELETE FROM {name} WHERE address = ?", key) for name in tables]  # noqa: S608
            revisions.forget(self._database, now)
            if self.get_property(NODE):
                shared.mark_erased(self._database, *key)
        return any(one.rowcount for one in gone)

    def forget_changes(self, now: int, *, given: int) -> None:
        """Let all programs with a copy read the list again. `given` is the latest revision that they can have."""
        with self._transaction():
            revisions.forget(self._database, now, given=given)

    def empty_log(self) -> bool:
        """Truncate the write-ahead log: what was deleted is in no file. Return False if readers are in the way."""
        self._database.execute("PRAGMA busy_timeout = 0")
        try:
            (busy, _, _) = self._database.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        except sqlite3.OperationalError:
            busy = 1
        finally:
            self._database.execute(f"PRAGMA busy_timeout = {int(BUSY_SECONDS * 1000)}")
        return not busy

    def use_rules(self, fingerprint: str, rules: Ruleset, now: int) -> None:
        """If the rules have changed, decide again on all that is stored, and read the whole journal again."""
        if self.get_property("rules") == fingerprint:
            return
        with self._transaction():
            if self.get_property("rules") is not None:
                _LOG.info("the rules of the suppression list have changed: reading the journal again", database=self.path)
                query = "SELECT address FROM event UNION SELECT address FROM node_state"
                for address in [address for (address,) in self._database.execute(query)]:
                    self._put_entry(address, self._decided(address, rules, now), now)
            self._database.execute("DELETE FROM segment")
            self.put_property("rules", fingerprint)

    def _replace(self, address: str, before: set[Event], after: set[Event], rules: Ruleset, now: int) -> None:
        gone, fresh = before - after, after - before
        key = "address = ? AND time = ? AND id = ? AND kind = ? AND word = ? AND expires = ? AND verified_ids = ?"
        if gone:
            self._database.executemany(f"DELETE FROM event WHERE {key}", [row_of(address, event) for event in gone])  # noqa: S608 - constant
        if fresh:
            self._database.executemany(_NEW_EVENT, [row_of(address, event) for event in fresh])
        removed = any(event.kind == "remove" for event in fresh)
        self._put_entry(address, self._decided(address, rules, now, own=after), now, removed=removed)

    def _decided(self, address: str, rules: Ruleset, now: int, *, own: set[Event] | None = None) -> ListEntry | None:
        """Return the entry of an address from what all nodes know. `own` is what this node knows, from `kept`."""
        known = shared.states(self._database, address) if self._has_states else {}
        own = rules.kept(self._events(address), now) if own is None else own
        return self._joint_entry(own, known, rules, now)

    def _joint_entry(self, own: set[Event], known: Known, rules: Ruleset, now: int) -> ListEntry | None:
        """Return the entry of an address from what this node knows, as `kept` returned it, and from what others know."""
        entry = rules.entry(rules.kept(own.union(*known.values()), now) if known else own, now)
        if entry is None or not self._node:
            return entry
        return replace(entry, nodes=shared.nodes_behind(entry, {self._node: own, **known}))

    def _put_progress(self, progress: Progress) -> None:
        row = (progress.path, progress.mark.lines, progress.mark.done, msgspec.json.encode(progress.counts).decode())
        self._database.execute("INSERT OR REPLACE INTO segment VALUES (?, ?, ?, ?)", row)

    def _put_entry(self, address: str, entry: ListEntry | None, now: int, *, removed: bool = False) -> None:
        """Put an entry, and note the change. A removal is noted in any case: the database can be an older one, restored."""
        old = self._database.execute("SELECT * FROM entry WHERE address = ?", (address,)).fetchone()
        new = None if entry is None else listing.row_of(address, entry)
        if new is None:
            self._database.execute("DELETE FROM entry WHERE address = ?", (address,))
        elif new != old:
            self._database.execute(_NEW_ENTRY, new)
        if new != old or removed:
            revisions.note(self._database, address, now)

    def _events(self, address: str) -> set[Event]:
        rows = self._database.execute("SELECT * FROM event WHERE address = ?", (address,))
        return {event_of(row)[1] for row in rows}

    def close(self) -> None:
        """Close the database."""
        self._database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
