"""The list as HTTP asks for it: read from the database, and changed by records in the journal.

Owns which change is none, and the connection to the database, which can be replaced by another file at any time.
"""

import time as clock
from collections.abc import Callable, Sequence
from typing import Final, TypeVar

from msgspec.structs import replace

from sidecar.core.names import normal_domain
from sidecar.core.settings.settings import Settings
from sidecar.core.settings.suppression import SuppressionSettings
from sidecar.core.suppressed import (
    AddressHistory,
    ListChanges,
    ListPage,
    ListQuery,
    ListUnavailableError,
    ShownEntry,
    ShownEvent,
)
from sidecar.core.text import rfc3339
from sidecar.journal import JournalError
from sidecar.journal.database import StoreError, database_faults
from sidecar.suppression.changes import ChangeWriter, HandChange, id_of_event, is_addition
from sidecar.suppression.listing import shown
from sidecar.suppression.opened import OpenedList
from sidecar.suppression.opening import ASKING_SECONDS, MissingError, open_reader
from sidecar.suppression.reading import normal_key
from sidecar.suppression.rules import MICROSECONDS, Event, kept_additions
from sidecar.suppression.store import Database

_REPLACED: Final = "\ufffd"
T = TypeVar("T")


class ServedList:
    """The list of settings with `[suppression]`. A `EditableList`."""

    def __init__(self, settings: Settings) -> None:
        assert settings.suppression is not None  # noqa: S101 - the caller's condition
        self._settings = settings
        self._list: SuppressionSettings = settings.suppression
        self._opened: OpenedList | None = None
        self._writer: ChangeWriter | None = None

    # --- reading

    def history(self, address: str) -> AddressHistory:
        """Return what is known about an address. Raise ValueError."""
        key = _key(address)
        return self._read(lambda database: history_of(database, key, _now()))

    def check(self, addresses: Sequence[str]) -> list[ShownEntry]:
        """Return the entries of the addresses that are suppressed, each as it was asked."""
        keys = [(address, key) for address in addresses if (key := normal_key(address)) is not None]

        def find(database: Database) -> list[ShownEntry]:
            found = ((address, database.find(key, _now())) for address, key in keys)
            return [shown(address, entry) for address, entry in found if entry is not None]

        return self._read(find)

    def page(self, query: ListQuery, limit: int) -> ListPage:
        """Return a page of the list."""
        domain = query.domain and (normal_domain(query.domain) or query.domain.lower())
        wanted = replace(query, after=query.after.lower(), prefix=query.prefix.lower(), domain=domain)
        # The revision first: what changes while the page is read is among the changes after it.
        revision, page = self._read(lambda database: (database.revision, database.page(_now(), wanted, limit)))
        return ListPage(entries=tuple(shown(one.address, one) for one in page.entries), after=page.after, revision=revision)

    def changes(self, since: int, limit: int) -> ListChanges:
        """Return the first changes after a revision. Raise RevisionGoneError."""
        return self._read(lambda database: database.changes(since, _now(), limit))

    def is_applied(self, address: str, id: str) -> bool:  # noqa: A002 - as in the protocol
        """Return True if a change is in force."""
        key = _key(address)
        return any(event.id == id for event in self._read(lambda database: database.history(key)))

    def _read(self, ask: Callable[[Database], T]) -> T:
        """Ask the database. Open it again if another file has its name: a list that was made again, or restored."""
        try:
            with database_faults(self._list.database):
                if self._opened is None or not self._opened.is_current():
                    self._close_database()
                    self._opened = OpenedList(self._list)
                return ask(self._opened.database)
        except StoreError as error:
            self._close_database()
            raise self._unavailable(error) from error

    def _unavailable(self, error: StoreError) -> ListUnavailableError:
        if isinstance(error, MissingError):
            return ListUnavailableError(f"{self._list.database} does not exist yet; the sidecar makes it")
        return ListUnavailableError(f"the suppression list cannot be read: {error}")

    def _close_database(self) -> None:
        if self._opened is not None:
            self._opened.close()
            self._opened = None

    # --- writing

    def add(self, address: str, reason: str, *, expires: int, by: str) -> str | None:
        """Add an address. Return the id of the record; None if the same addition counts already."""
        change = HandChange(action="add", address=_key(address), reason=reason, expires=expires)
        if any(is_addition(event, change) for event in self._events(change.address)):
            return None
        return self._write(change, by)

    def add_event(self, address: str, reason: str, *, time: int, id: str, by: str) -> str | None:  # noqa: A002 - as there
        """Add an address for an event. Return the id of the record; None if it counts already, or cannot count any more."""
        key = _key(address)
        events, new = self._events(key), Event(time=time, id=id_of_event(id), kind="add", word=reason)
        if any(event.id == new.id or (event.kind == "remove" and event.time >= time) for event in events):
            return None
        if new not in kept_additions([*events, new]):
            return None
        return self._write(HandChange(action="add", address=key, reason=reason, time=time, event_id=id), by)

    def remove(self, address: str, reason: str, *, by: str) -> str | None:
        """Remove an address. Return the id of the record; None if nothing about it can count."""
        key = _key(address)
        events = self._events(key)
        removed = max((event.time for event in events if event.kind == "remove"), default=-1)
        # Reports from before it are kept, so that their repeats are found.
        if not any(event.kind != "remove" and event.time > removed for event in events):
            return None
        return self._write(HandChange(action="remove", address=key, reason=reason), by)

    def _events(self, key: str) -> list[Event]:
        # A connection of its own, because this thread writes, and another one reads.
        try:
            with database_faults(self._list.database), open_reader(self._list, wait=ASKING_SECONDS) as database:
                return database.history(key)
        except StoreError as error:
            raise self._unavailable(error) from error

    def _write(self, change: HandChange, by: str) -> str:
        try:
            if self._writer is None:
                self._writer = ChangeWriter(self._settings)
            written = self._writer.write([change], by=by)
        except (JournalError, OSError) as error:
            raise ListUnavailableError(str(error)) from error
        assert written.last is not None  # noqa: S101 - one was written
        return written.last[1]

    def roll(self) -> None:
        """Finish the segment of the changes if it is old enough."""
        if self._writer is not None:
            self._writer.roll()

    def close(self) -> None:
        """Finish the segment of the changes."""
        if self._writer is not None:
            self._writer.close()


def history_of(database: Database, key: str, now: int) -> AddressHistory:
    """Return what a list knows about an address in normal form."""
    entry = database.find(key, now)
    known = sorted((event, node) for node, events in database.known(key).items() for event in events)
    events = (
        ShownEvent(time=rfc3339(one.time // MICROSECONDS), kind=one.kind, reason=one.word, id=one.id, node=node)
        for one, node in known
    )
    return AddressHistory(address=key, entry=None if entry is None else shown(key, entry), events=tuple(events))


def _key(address: str) -> str:
    key = None if _REPLACED in address else normal_key(address)
    if key is None:
        raise ValueError(f"{address[:100]!r} is no address; write one such as user@example.com")
    return key


def _now() -> int:
    return int(clock.time())
