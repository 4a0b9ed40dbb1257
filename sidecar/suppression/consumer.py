"""Follows the journal, and keeps the list up to date.

Owns the reader's checkpoint, and what happens to a damaged database. One process at a time does this work: it holds a lock.
Reading a line again changes nothing, so a segment that was not read to its end is read from its beginning after a crash.
"""

import math
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Final, Self

import msgspec

from sidecar import log
from sidecar.core.records.reading import decode
from sidecar.core.settings.keys import Keys
from sidecar.core.settings.settings import Settings
from sidecar.core.settings.suppression import SuppressionSettings
from sidecar.core.text import counted
from sidecar.journal import JournalError, open_lock, try_lock
from sidecar.journal.clock_guard import clock_guard
from sidecar.journal.read import Checkpoint, Checkpoints, Followed, Line, ReaderState, SegmentMark, Skipped, followers
from sidecar.suppression import READER, revisions
from sidecar.suppression.faults import DamagedError, StoreError, database_faults
from sidecar.suppression.filter import AddressFilter
from sidecar.suppression.filtering import FilterKeeper, forget_filter
from sidecar.suppression.opened import file_of
from sidecar.suppression.opening import open_store, require_database, set_aside
from sidecar.suppression.reading import Reader, Said, Uncounted
from sidecar.suppression.store import Database, Progress

REPORTS: Final = "reports"
CHANGES: Final = "changes"
"""What is counted, besides the words of `Uncounted`."""

# Reports of one transaction: each is one write to the disk, and other processes see it whole.
_BATCH: Final = 20_000
# A change by hand and a report are in force after this time, and one transaction.
_LOOK_SECONDS: Final = 0.25
_SWEEP_SECONDS: Final = 10.0
# `sidecar status` shows when the checkpoint was saved last.
_SAVE_SECONDS: Final = 60.0
# They say nothing to the list, and are most of a journal. Ours and KumoMTA's lines begin with the type.
_OTHER_LINES: Final = (b'{"type":"Reception"', b'{"type":"Rejection"', b'{"type":"Delivery"', b'{"type":"TransientFailure"')

_LOG = log.get("suppression")


class BusyError(Exception):
    """Another process keeps the list up to date."""


class ReplacedError(Exception):
    """Another file has taken the place of the database, or it was removed."""


class Consumer:
    """The list of these settings, which must have `[suppression]`, while this process keeps it up to date.

    Use it as a context manager, while the list is `locked`. `wait` returns True if the work has to end, at the latest after so
    many seconds. `damaged` says what is wrong with a database that has to be replaced. The filter of the list is in `shared`.
    `clock` returns seconds since 1970. `rules` are those of the settings.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        wait: Callable[[float], bool] = lambda _: False,
        damaged: str = "",
        shared: AddressFilter | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        assert settings.suppression is not None  # noqa: S101 - the caller's condition
        self._list: SuppressionSettings = settings.suppression
        self._directories = settings.journal.directories
        self._checkpoints = Checkpoints(settings.checkpoints_directory)
        proof_age = (settings.verify or Keys()).maximum_age
        self._reader = Reader(self._list.rule, trust=self._list.trust, proof_age=proof_age)
        self.rules = self._reader.rules
        self._wait, self._damaged, self._shared, self._clock = wait, damaged, shared, clock
        self._stack = ExitStack()
        self._counted: dict[str, Counter[str]] = {}
        self._saved: dict[str, SegmentMark] | None = None
        self._save_at = self._sweep_at = 0.0
        self._swept_to = ""
        self._must_empty_log = False

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self.database = stack.enter_context(self._opened())
            self._file = file_of(self._list.database)
            self._given = 0
            self._compare_revisions()
            # Before the first change: an entry is in the filter before it is in the database.
            if self._shared is None:
                # The filter of a sidecar that runs has no entry of this process.
                forget_filter(self.database)
            self._filter = None if self._shared is None else FilterKeeper(self._shared, self.database)
            self.database.use_rules(fingerprint(self._list), self.rules, self._now())
            self._marks = self.database.marks()
            self._save_checkpoint()
            show_fault(self._checkpoints, "")
            self._followers = followers(self._directories)
            for follower in self._followers:
                stack.callback(follower.close)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def run(self) -> None:
        """Follow the journal until the work has to end. Raise ReplacedError for another file, and DamagedError."""
        self.read_new()
        while not self._wait(0.0 if self.step_filter() else _LOOK_SECONDS):
            if file_of(self._list.database) != self._file:
                raise ReplacedError
            require_database(self._list.database)
            self.read_new()
            self._tidy()

    def step_filter(self) -> bool:
        """Build the filter for some time, if it has to be. Return True if there is more to do."""
        return self._filter is not None and self._filter.step(_LOOK_SECONDS)

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
        if (mark := self._marks.get(path)) is not None and mark.done:
            file.skip()
            return
        batch: list[Said] = []
        counts, number = self._counts_of(path), 0
        for line in file.lines():
            if line.number <= number or line.number == 1:
                counts.clear()  # the file was cut off, and is read again from its beginning
            number = line.number
            if (said := self._said(line, counts)) is not None:
                batch.append(said)
            if len(batch) >= _BATCH:
                self._apply(batch, Progress(path=path, mark=SegmentMark(lines=number), counts=counts))
                batch = []
        number = number or (0 if mark is None else mark.lines)
        self._apply(batch, Progress(path=path, mark=SegmentMark(lines=number, done=file.done), counts=counts))
        if file.done:
            self._counted.pop(path, None)

    def _said(self, line: Line | Skipped, counts: Counter[str]) -> Said | None:
        if isinstance(line, Skipped) or line.text.startswith(_OTHER_LINES):
            return None
        try:
            said = self._reader.read(decode(line.text))
        except ValueError:
            said = Uncounted.NOT_READABLE
        if isinstance(said, Uncounted):
            counts[said.value] += 1
            return None
        if said is not None:
            counts[REPORTS if said.event.kind == "report" else CHANGES] += 1
        return said

    def _counts_of(self, path: str) -> Counter[str]:
        return self._counted.setdefault(path, Counter())

    def _apply(self, said: Sequence[Said], progress: Progress) -> None:
        self.database.apply(said, progress, rules=self.rules, now=self._now())
        self._marks[progress.path] = progress.mark

    def _opened(self) -> Database:
        """Open the database. Set a damaged one aside, and begin a new one with what can be read of it."""
        if self._damaged:
            return self._renewed(self._damaged)
        if file_of(self._list.database) is None:
            _remove_log(self._list.database)
        try:
            store = open_store(self._list)
            try:
                store.check()
            except DamagedError:
                store.close()
                raise
        except DamagedError as error:
            return self._renewed(str(error))
        return store

    def _renewed(self, why: str) -> Database:
        aside = set_aside(self._list.database)
        store = open_store(self._list)
        copied = 0 if aside is None else store.copy_events(aside, rules=self.rules, now=self._now())
        text = f"{why}: a new suppression list is made of it and of the journal"
        _LOG.error(text, damaged=aside, copied_events=copied)
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


def show_fault(checkpoints: Checkpoints, fault: str) -> None:
    """Let `sidecar status` show why the list does not follow the journal; "" if it does. Raise OSError."""
    if READER not in checkpoints.readers():
        checkpoints.save(READER, Checkpoint(segments={}))
    if checkpoints.known(READER).fault != fault:
        checkpoints.save_live(READER, Checkpoint(segments={}), ReaderState(fault=fault))


def _remove_log(database: Path) -> None:
    """Remove the log of a database that does not exist any more: it must not be read into another one."""
    for ending in ("-wal", "-shm"):
        Path(f"{database}{ending}").unlink(missing_ok=True)


def fingerprint(settings: SuppressionSettings) -> str:
    """Return a text that differs if other rules decide."""
    rules = [(rule.when, rule.count, rule.days, rule.within, rule.expire) for rule in settings.rule]
    return msgspec.json.encode((rules, settings.trust)).decode()


def lock_of(settings: SuppressionSettings) -> Path:
    """Return the file that the one process which writes the list locks. It has the latest revision."""
    return Path(f"{settings.database}.lock")


@contextmanager
def locked(settings: SuppressionSettings, wait: Callable[[float], bool] = lambda _: True) -> Iterator[None]:
    """Be the one process that writes the list. Raise BusyError if another one is, and `wait` returns True; raise OSError."""
    descriptor = open_lock(lock_of(settings))
    try:
        while not try_lock(descriptor):
            if wait(_LOOK_SECONDS):
                raise BusyError
        yield
    finally:
        os.close(descriptor)


def is_kept(settings: SuppressionSettings) -> bool:
    """Return True if a process keeps the list up to date. Raise OSError."""
    with lock_of(settings).open("rb") as file:
        return not try_lock(file.fileno())


@contextmanager
def _shown_fault(settings: Settings) -> Iterator[None]:
    try:
        yield
    except (JournalError, StoreError, OSError) as error:
        with suppress(OSError):
            show_fault(Checkpoints(settings.checkpoints_directory), str(error))
        raise


def follow(settings: Settings, wait: Callable[[float], bool], shared: AddressFilter | None = None) -> None:
    """Keep the list of these settings, and its filter, up to date until `wait` returns True.

    Raise JournalError, StoreError and OSError.
    """
    assert settings.suppression is not None  # noqa: S101 - the caller's condition
    damaged = ""
    with suppress(BusyError), locked(settings.suppression, wait), _shown_fault(settings):
        while True:
            try:
                with (
                    database_faults(settings.suppression.database),
                    Consumer(settings, wait=wait, damaged=damaged, shared=shared) as consumer,
                ):
                    damaged = ""
                    return consumer.run()
            except ReplacedError:
                _remove_log(settings.suppression.database)
                _LOG.warning("the database of the suppression list was replaced or removed: opening it again")
            except DamagedError as error:
                if damaged:
                    raise  # the new one, too: the disk is at fault
                damaged = str(error)
