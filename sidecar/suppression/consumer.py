"""Follows the journal, and keeps the list up to date.

Owns the reader's checkpoint, and what happens to a damaged database. One process at a time does this work: it holds a lock.
Reading a line again changes nothing, so a segment that was not read to its end is read from its beginning after a crash.
"""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Final, Self

from sidecar import log
from sidecar.core.settings.settings import Settings
from sidecar.core.settings.suppression import SuppressionSettings
from sidecar.core.sharing import Connect
from sidecar.core.text import counted
from sidecar.journal import JournalError
from sidecar.journal.clock_guard import clock_guard
from sidecar.journal.database import DamagedError, ReplacedError, StoreError, database_faults, file_of, remove_log, require_same
from sidecar.journal.read import Checkpoint, Checkpoints, Followed, ReaderState, SegmentMark, followers
from sidecar.suppression import READER, revisions
from sidecar.suppression.building import Builder, EndedError
from sidecar.suppression.filter import AddressFilter
from sidecar.suppression.filtering import FilterKeeper, forget_filter
from sidecar.suppression.locking import BusyError, lock_of, locked
from sidecar.suppression.node_store import NodeStore
from sidecar.suppression.opening import open_store
from sidecar.suppression.reading import Reader
from sidecar.suppression.segments import SegmentReader
from sidecar.suppression.sharing import Sharing, first_place

# A change by hand and a report are in force after this time, and one transaction.
_LOOK_SECONDS: Final = 0.25
_SWEEP_SECONDS: Final = 10.0
# `sidecar status` shows when the checkpoint was saved last.
_SAVE_SECONDS: Final = 60.0
_LOG = log.get("suppression")


class Consumer:
    """The list of these settings, which must have `[suppression]`, while this process keeps it up to date.

    Use it as a context manager, while the list is `locked`. `wait` returns True if the work has to end, at the latest after so
    many seconds. `damaged` says what is wrong with a database that has to be replaced. The filter of the list is in `shared`.
    `connect` connects with the other nodes of a fleet. `clock` returns seconds since 1970. `rules` are those of the settings.
    """

    def __init__(  # noqa: PLR0913 - see the class
        self,
        settings: Settings,
        *,
        wait: Callable[[float], bool] = lambda _: False,
        damaged: str = "",
        shared: AddressFilter | None = None,
        connect: Connect | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        assert settings.suppression is not None  # noqa: S101 - the caller's condition
        self._list: SuppressionSettings = settings.suppression
        self._directories = settings.journal.directories
        self._checkpoints = Checkpoints(settings.checkpoints_directory)
        self._reader = Reader.of(settings)
        self._segments = SegmentReader(self._reader)
        self._builder = Builder(settings, wait=wait, clock=clock)
        self.rules = self._reader.rules
        self._node = "" if settings.fleet is None else settings.fleet.node
        self._wait, self._damaged, self._shared, self._connect, self._clock = wait, damaged, shared, connect, clock
        self._stack = ExitStack()
        self._saved: dict[str, SegmentMark] | None = None
        self._save_at = self._sweep_at = 0.0
        self._swept_to = self._swept_states_to = ""
        self._must_empty_log = False

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self.database = stack.enter_context(self._opened())
            self._file = file_of(self._list.database)
            self._given = 0
            self._compare_revisions()
            self.database.share(self._node)
            # Before the first change: an entry is in the filter before it is in the database.
            if self._shared is None:
                # The filter of a sidecar that runs has no entry of this process.
                forget_filter(self.database)
            self._filter = None if self._shared is None else FilterKeeper(self._shared, self.database)
            self.database.use_rules(self._reader.fingerprint, self.rules, self._now())
            self._marks = self.database.marks()
            self._save_checkpoint()
            show_fault(self._checkpoints, "")
            self._sharing = None if self._connect is None else self._shared_with(stack, self._connect)
            self._followers = stack.enter_context(followers(self._directories))
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def run(self) -> None:
        """Follow the journal until the work has to end. Raise ReplacedError for another file, and DamagedError."""
        self.read_new()
        while not self._wait(0.0 if self.step_filter() | self._share() else _LOOK_SECONDS):
            require_same(self._list.database, self._file)
            self.read_new()
            self._tidy()

    def step_filter(self) -> bool:
        """Build the filter for some time, if it has to be. Return True if there is more to do."""
        return self._filter is not None and self._filter.step(_LOOK_SECONDS)

    def _shared_with(self, stack: ExitStack, connect: Connect) -> Sharing:
        exchange = stack.enter_context(connect(first_place(self.database)))
        return Sharing(self.database, exchange, node=self._node, rules=self.rules, clock=self._clock, show=self._show_others)

    def _show_others(self, since: int, why: str) -> None:
        show_fault(self._checkpoints, why, oldest=since)

    def _share(self) -> bool:
        """Receive from other nodes, and publish. Return True if there is more to do."""
        if self._sharing is None or not self._sharing.step():
            return False
        self._note_revision()
        return True

    def read_new(self) -> None:
        """Read what the journal has now, unless the work has to end. Raise JournalError and StoreError."""
        for follower in self._followers:
            for file in follower.look():
                self._read(file)
                if self._wait(0.0):
                    return
        self._note_revision()
        done = {path: mark for path, mark in self._marks.items() if mark.done}
        if self._saved is None or done.keys() != {path for path, mark in self._saved.items() if mark.done}:
            self._save_checkpoint()

    def _read(self, file: Followed) -> None:
        path = str(file.path)
        mark = self._marks.get(path)
        if mark is not None and mark.done:
            file.skip()
            return
        for batch in self._segments.read(file, mark):
            self.database.apply(batch.events, batch.progress, rules=self.rules, now=self._now())
            self._marks[path] = batch.progress.mark

    def _opened(self) -> NodeStore:
        """Open the database. Make a new one if there is none, or if it is damaged."""
        path, why = self._list.database, self._damaged
        if not why and path.exists() and path.stat().st_size:
            try:
                return self._checked()
            except DamagedError as error:
                why = str(error)
        if why:
            _LOG.error(f"{why}: a new suppression list is made of it and of the journal")
        built = self._builder.build("damaged")
        if built.aside is not None:
            _LOG.info("the new suppression list is complete", damaged=built.aside, copied_events=built.copied)
        return open_store(self._list)

    def _checked(self) -> NodeStore:
        with ExitStack() as stack:
            store = stack.enter_context(open_store(self._list))
            store.check()
            stack.pop_all()
        return store

    def _tidy(self) -> None:
        """Delete what has ended, some at a time."""
        now = time.monotonic()
        if now >= self._sweep_at:
            self._sweep_at = now + _SWEEP_SECONDS
            if self._is_clock_trusted():
                self._delete_old()
        if now >= self._save_at:
            self._save_checkpoint()

    def _is_clock_trusted(self) -> bool:
        """Return False for a day after the clock was set forward: what is deleted then is missing when it is right again."""
        with suppress(OSError), clock_guard(Path(f"{self._list.database}.sweep"), now=self._now(), keep_age=math.inf) as guard:
            if guard is not None:  # another process locks the file
                guard.due = self._now() + _SWEEP_SECONDS
                if guard.began and (count := self.database.count_expired(self._now())):
                    _LOG.warning(guard.warning(counted(count, "entry", "entries"), "expire"), database=self.database.path)
                return not guard.paused
        return False

    def _delete_old(self) -> None:
        if deleted := self.database.delete_expired(self.rules, self._now()):
            _LOG.info("entries of the suppression list have ended", count=deleted)
        self._swept_to = self.database.delete_old_events(self.rules, self._now(), after=self._swept_to)
        self._swept_states_to = self.database.delete_old_states(self.rules, self._now(), after=self._swept_states_to)
        self._must_empty_log |= bool(deleted + self.database.delete_old_changes(self._now()))
        self._must_empty_log &= not (self._must_empty_log and self.database.empty_log())
        self._note_revision()

    def _compare_revisions(self) -> None:
        """Find an older database in the place of the list: changes that programs have seen are not in it."""
        given = revisions.read_given(lock_of(self._list))
        if given > self.database.revision:
            self.database.forget_changes(self._now(), given=given)
            _LOG.warning("the suppression list is older than before: programs with a copy read all of it again")

    def _note_revision(self) -> None:
        if (revision := self.database.revision) != self._given:
            revisions.write_given(lock_of(self._list), revision)
            self._given = revision

    def _save_checkpoint(self) -> None:
        """Save for retention what is read to the end, and forget segments that do not exist any more."""
        gone = [path for path in self._marks if not Path(path).exists()]
        if gone:
            self.database.forget_segments(gone)
            for path in gone:
                del self._marks[path]
        self._checkpoints.save(READER, Checkpoint(segments=self._marks))
        self._saved = dict(self._marks)
        self._save_at = time.monotonic() + _SAVE_SECONDS

    def _now(self) -> int:
        return int(self._clock())


def show_fault(checkpoints: Checkpoints, fault: str, *, oldest: int = 0) -> None:
    """Let `sidecar status` show why the list does not follow the journal, or the other nodes since `oldest`. Raise OSError."""
    if READER not in checkpoints.readers():
        checkpoints.save(READER, Checkpoint(segments={}))
    if ((known := checkpoints.known(READER)).fault, known.oldest) != (fault, oldest):
        checkpoints.save_live(READER, Checkpoint(segments={}), ReaderState(fault=fault, oldest=oldest))


@contextmanager
def _shown_fault(settings: Settings) -> Iterator[None]:
    try:
        yield
    except (JournalError, StoreError, OSError) as error:
        with suppress(OSError):
            show_fault(Checkpoints(settings.checkpoints_directory), str(error))
        raise


def follow(
    settings: Settings,
    wait: Callable[[float], bool],
    shared: AddressFilter | None = None,
    connect: Connect | None = None,
) -> None:
    """Keep the list of these settings, and its filter, up to date until `wait` returns True. `connect` is as for `Consumer`.

    Raise JournalError, StoreError and OSError.
    """
    assert settings.suppression is not None  # noqa: S101 - the caller's condition
    damaged = ""
    with suppress(BusyError, EndedError), locked(settings.suppression, wait), _shown_fault(settings):
        while True:
            if file_of(settings.suppression.database) is None:
                _LOG.info("the suppression list is made from the journal", database=settings.suppression.database)
            try:
                with (
                    database_faults(settings.suppression.database),
                    Consumer(settings, wait=wait, damaged=damaged, shared=shared, connect=connect) as consumer,
                ):
                    damaged = ""
                    return consumer.run()
            except ReplacedError:
                remove_log(settings.suppression.database)
                _LOG.warning("the database of the suppression list was replaced or removed: opening it again")
            except DamagedError as error:
                if damaged:
                    raise  # the new one, too: the disk is at fault
                damaged = str(error)
