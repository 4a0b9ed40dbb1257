"""Makes a new list beside the present one, and then puts it in its place.

The events of the journal, and of the present list, are sorted by address. The rules decide on one address after the other, with
what other nodes know about it, and each page of the new database is written once. Readers use the present list meanwhile. After
a crash the work begins again.
"""

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, nullcontext
from heapq import merge
from itertools import groupby, islice
from operator import itemgetter
from pathlib import Path
from typing import Final, Protocol, TypeVar

from msgspec import Struct

from sidecar.core.settings.settings import Settings
from sidecar.core.settings.suppression import SuppressionSettings
from sidecar.journal.database import database_faults
from sidecar.journal.read import Checkpoint, Checkpoints, followers
from sidecar.suppression import READER, revisions
from sidecar.suppression.locking import lock_of
from sidecar.suppression.node_store import NodeStore
from sidecar.suppression.opening import open_new, remove_unfinished, replace_with
from sidecar.suppression.present import PresentList
from sidecar.suppression.reading import Reader
from sidecar.suppression.rules import Event, Ruleset
from sidecar.suppression.schema import row_of
from sidecar.suppression.segments import Progress, SegmentReader
from sidecar.suppression.shared import Known, StateRow
from sidecar.suppression.sorting import EventSorter, event_sorter
from sidecar.suppression.states import without_later

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
        show: Show = lambda *_: nullcontext(_NoBar()),
    ) -> None:
        assert settings.suppression is not None  # noqa: S101 - the caller's condition
        self._list: SuppressionSettings = settings.suppression
        self._directories = settings.journal.directories
        self._checkpoints = Checkpoints(settings.checkpoints_directory)
        self._reader = Reader.of(settings)
        self._node = "" if settings.fleet is None else settings.fleet.node
        self._wait, self._clock, self._show = wait, clock, show

    def build(self, why: str, *, copy: bool = True) -> Built:
        """Make the list. The present one gets a name with `why`; with `copy`, the new one has its events, too.

        It then has the states of other nodes, too. After a whole copy the stream of states is not read from its beginning.
        Raise JournalError, StoreError, OSError and EndedError; the present list is then still in its place.
        """
        path = self._list.database
        with ExitStack() as stack:
            stack.callback(remove_unfinished, path)
            with open_new(self._list) as database, PresentList(path, database.get_property("store")) as present:
                # Retention deletes nothing that the new list has not read.
                self._checkpoints.save(READER, Checkpoint(segments={}))
                with database_faults(path), event_sorter(path.parent) as events:
                    copied = self._copy(present, events) if copy else 0
                    progress = self._read_journal(events, database)
                    self._load(events, database, progress, states=present.states() if copy else ())
                database.put_erased(present.erased())
                if copy and present.can_continue():
                    database.continue_at(path)
            return Built(aside=replace_with(path, why), copied=copied)

    def _copy(self, present: PresentList, events: EventSorter) -> int:
        for some in _pieces(present.events(), _TOGETHER):
            self._require_time()
            events.append(some)
        return events.count

    def _read_journal(self, events: EventSorter, database: NodeStore) -> list[Progress]:
        segments, found = SegmentReader(self._reader), dict[str, Progress]()
        with ExitStack() as stack:
            opened = stack.enter_context(followers(self._directories))
            files = [file for follower in opened for file in follower.look()]
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

    def _load(
        self, events: EventSorter, database: NodeStore, progress: Iterable[Progress], *, states: Iterable[StateRow]
    ) -> None:
        rules, now = self._reader.rules, int(self._clock())
        given = revisions.read_given(lock_of(self._list))
        with self._show("events", events.count) as bar, database.loading(self._node):
            for rows in _pieces(states, _TOGETHER):
                self._require_time()
                database.load_states(rows)
            found = events.by_address(lambda: bar.set(events.returned, events.returned))
            kept = ((address, self._one_time(_kept(own, rules, now))) for address, own in found)
            for some in _pieces(_joined(kept, database.all_states()), _TOGETHER):
                self._require_time()
                database.load(some, rules=rules, now=now)
                bar.set(events.returned, events.returned)
            database.load_state(progress, self._reader.fingerprint, now=now, given=given)

    def _one_time(self, events: set[Event]) -> set[Event]:
        """Return the events of a node without those of the journal that the list has with a corrected time."""
        return without_later(events, events) if self._node else events

    def _require_time(self) -> None:
        if self._wait(0.0):
            raise EndedError


def _kept(events: Iterable[Event], rules: Ruleset, now: int) -> set[Event]:
    """Return the events of an address that are kept, as if they had been read some at a time."""
    kept = set[Event]()
    for some in _pieces(events, _TOGETHER):
        kept = rules.kept(kept.union(some), now)
    return kept


def _joined(
    own: Iterable[tuple[str, set[Event]]], others: Iterator[tuple[str, Known]]
) -> Iterator[tuple[str, set[Event], Known]]:
    """Yield each address with what this node knows and what others know. Both are in the order of the addresses."""
    none: Known = {}
    of_own = ((address, events, none) for address, events in own)
    of_others = ((address, set[Event](), known) for address, known in others)
    # What this node knows is the first of a group, if it knows something.
    for address, group in groupby(merge(of_own, of_others, key=itemgetter(0)), key=itemgetter(0)):
        (_, events, known), *rest = group
        yield address, events, rest[0][2] if rest else known


def _pieces(values: Iterable[_T], size: int) -> Iterator[list[_T]]:
    left = iter(values)
    while piece := [*islice(left, size)]:
        yield piece
