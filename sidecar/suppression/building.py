"""Makes a new list beside the present one, and then puts it in its place.

The events of the journal, and of the present list, are sorted by address. The rules decide on one address after the other, and
each page of the new database is written once. Readers use the present list meanwhile. After a crash the work begins again.
"""

import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager, suppress
from itertools import islice
from pathlib import Path
from typing import Final, Protocol, TypeVar

from msgspec import Struct

from sidecar.core.settings.settings import Settings
from sidecar.core.settings.suppression import SuppressionSettings
from sidecar.journal.database import database_faults, uri_of
from sidecar.journal.read import Checkpoint, Checkpoints, followers
from sidecar.suppression import READER, revisions
from sidecar.suppression.locking import lock_of
from sidecar.suppression.opening import open_new, remove_unfinished, replace_with
from sidecar.suppression.reading import Reader
from sidecar.suppression.rules import Event, Ruleset
from sidecar.suppression.schema import Row, event_of, row_of
from sidecar.suppression.segments import Progress, SegmentReader
from sidecar.suppression.sorting import EventSorter
from sidecar.suppression.states import without_later
from sidecar.suppression.store import Database

# Events of one address that are in memory at once, besides those that are kept. Addresses of one statement.
_TOGETHER: Final = 1_000
_T = TypeVar("_T")


class EndedError(Exception):
    """The work has to end before the list is complete."""


class ProgressBar(Protocol):
    """Shows how much is done."""

    def set(self, size: int, count: int) -> None:
        """Set the part of the total, and the number of things, since the start."""


Show = Callable[[str, int], AbstractContextManager[ProgressBar]]
"""Show a bar for things, in the plural, of which there is so much."""


class Built(Struct, frozen=True, kw_only=True):
    """A new list: the new name of the one before if there was one, and how many events of that were used."""

    aside: Path | None
    copied: int


class _NoBar:
    def set(self, size: int, count: int) -> None:
        """Show nothing."""


@contextmanager
def _show_nothing(_things: str, _total: int) -> Iterator[ProgressBar]:
    yield _NoBar()


class Builder:
    """Makes a new list of these settings, which must have `[suppression]`, while the list is `locked`.

    `wait` and `clock` are those of `Consumer`.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        wait: Callable[[float], bool] = lambda _: False,
        clock: Callable[[], float] = time.time,
        show: Show = _show_nothing,
    ) -> None:
        assert settings.suppression is not None  # noqa: S101 - the caller's condition
        self._list: SuppressionSettings = settings.suppression
        self._directories = settings.journal.directories
        self._checkpoints = Checkpoints(settings.checkpoints_directory)
        self._reader = Reader.of(settings)
        self._is_node = settings.fleet is not None
        self._wait, self._clock, self._show = wait, clock, show

    def build(self, why: str, *, copy: bool = True) -> Built:
        """Make the list. The present one gets a name with `why`; with `copy`, the new one has its events, too.

        Raise JournalError, StoreError, OSError and EndedError; the present list is then still in its place.
        """
        path = self._list.database
        with ExitStack() as stack:
            stack.callback(remove_unfinished, path)
            with open_new(self._list) as database:
                # Retention deletes nothing that the new list has not read.
                self._checkpoints.save(READER, Checkpoint(segments={}))
                with database_faults(path), EventSorter(path.parent) as events:
                    copied = self._copy(events, database) if copy else 0
                    self._load(events, database, self._read_journal(events, database))
                database.copy_erased(path)
            return Built(aside=replace_with(path, why), copied=copied)

    def _copy(self, events: EventSorter, database: Database) -> int:
        rows = _stored_rows(self._list.database, database.get_property("store"))
        for some in _pieces(rows, _TOGETHER):
            self._require_time()
            events.append(some)
        return events.count

    def _read_journal(self, events: EventSorter, database: Database) -> list[Progress]:
        segments, found = SegmentReader(self._reader), dict[str, Progress]()
        with ExitStack() as stack:
            files = []
            for follower in followers(self._directories):
                stack.callback(follower.close)
                files += follower.look()
            bar = stack.enter_context(self._show("reports", sum(file.size for file in files)))
            size = 0
            for file in files:
                for batch in segments.read(file):
                    self._require_time()
                    events.append([row_of(database.key(one.address), one.event) for one in batch.events])
                    found[batch.progress.path] = batch.progress
                size += file.size
                bar.set(size, events.count)
        return list(found.values())

    def _load(self, events: EventSorter, database: Database, progress: Iterable[Progress]) -> None:
        rules, now = self._reader.rules, int(self._clock())
        given = revisions.read_given(lock_of(self._list))
        with self._show("events", events.count) as bar, database.loading():
            found = events.by_address(lambda: bar.set(events.returned, events.returned))
            kept = ((address, self._one_time(_kept(own, rules, now))) for address, own in found)
            for some in _pieces(kept, _TOGETHER):
                self._require_time()
                database.load(some, rules=rules, now=now)
                bar.set(events.returned, events.returned)
            database.load_state(progress, self._reader.fingerprint, now=now, given=given)

    def _one_time(self, events: set[Event]) -> set[Event]:
        """Return the events of a node without those of the journal that the list has with a corrected time."""
        return without_later(events, events) if self._is_node else events

    def _require_time(self) -> None:
        if self._wait(0.0):
            raise EndedError


def _kept(events: Iterable[Event], rules: Ruleset, now: int) -> set[Event]:
    """Return the events of an address that are kept, as if they had been read some at a time."""
    kept = set[Event]()
    for some in _pieces(events, _TOGETHER):
        kept = rules.kept(kept.union(some), now)
    return kept


def _stored_rows(path: Path, form: str | None) -> Iterator[Row]:
    """Yield the events of another database, as far as it can be read, if it has its addresses in this form."""
    with (
        suppress(sqlite3.DatabaseError, ValueError),
        closing(sqlite3.connect(uri_of(path, "ro"), uri=True)) as stored,
    ):
        (found,) = stored.execute("SELECT value FROM property WHERE name = 'store'").fetchone() or ("",)
        # Hashes of another key name no address.
        if found == form:
            for row in stored.execute("SELECT * FROM event"):
                yield row_of(*event_of(row))


def _pieces(values: Iterable[_T], size: int) -> Iterator[list[_T]]:
    left = iter(values)
    while piece := [*islice(left, size)]:
        yield piece
