"""From an outcome to the disk: records and quarantined messages are written before the MTA gets the verdict.

Owns the order (the limit on records, the quarantine, the journal, the answer) and the work of each second. Never decides about
mail.
"""

import math
import sys
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Protocol

from msgspec.structs import replace

from sidecar import log
from sidecar.core.records import Record, encode, rejections
from sidecar.core.session.verdicts import Outcome
from sidecar.core.settings.values import LimitSettings
from sidecar.journal import JournalError
from sidecar.journal.write.disk_thread import Done
from sidecar.journal.write.limits import NETWORKS_LIMIT, Counted, RecordBudget, RejectionLimiter
from sidecar.journal.write.quarantine import QuarantineFullError
from sidecar.journal.write.routes import Batch

_FLUSH_SECONDS = 1.0
# An operator who moves messages out of the quarantine waits so long for its space. A sweep reads all names, in up to a second.
_SWEEP_SECONDS = 60.0
# For what is too slow for the thread of the connections: it waits for the disk, or keeps the interpreter busy.
_SLOW_THREADS = 2
# While they work, a thread passes the interpreter on after this time, because the thread of the connections can wait for it
# after each system call. Without slow work it would only cost CPU time.
_SLOW_SWITCH, _USUAL_SWITCH = 0.0002, sys.getswitchinterval()

_LOG = log.get("milter")


class Writer(Protocol):
    """What a recorder needs of the journals; see `Routes`."""

    def encode(self, records: Sequence[Record]) -> Batch:
        """Encode records, in their order."""

    def submit(self, batch: Batch, *, durable: bool, done: Done) -> bool:
        """Write encoded records, or have the disk thread write them."""

    def write(self, batch: Batch, *, durable: bool) -> None:
        """Write encoded records, and wait for that. Raise JournalError."""

    def roll(self) -> None:
        """Finish the segments that are too old."""

    def close(self) -> None:
        """Finish the journals."""


class Store(Protocol):
    """What a recorder needs of the quarantine; see `Quarantine`."""

    def keep(self, name: str, *, message: bytes, record: bytes) -> None:
        """Put a message on disk. Raise QuarantineFullError, and JournalError for any other reason."""

    def sweep(self) -> None:
        """Remove what is too old."""


class Recorder:
    """Writes outcomes, from any threads. Build it after the fork, then `start` it.

    `retain` deletes old segments, and returns the seconds until its next call; `clock` returns seconds since 1970.
    """

    def __init__(
        self,
        *,
        journal: Writer,
        quarantine: Store,
        limits: LimitSettings,
        retain: Callable[[], float] = lambda: math.inf,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._journal = journal
        self._quarantine = quarantine
        self._rate, self._burst = limits.rejection_records_per_second, limits.record_bytes_burst
        self._rejections = RejectionLimiter(self._rate)
        self._budget = RecordBudget(limits)
        self._clock = clock
        self._retain = retain
        self._closing = threading.Event()
        self._flushing = threading.Lock()
        self._slow_lock = threading.Lock()
        self._slow = 0
        self._pool = ThreadPoolExecutor(_SLOW_THREADS, thread_name_prefix="slow")

    def start(self) -> None:
        """Start the thread for the work of each second."""
        threading.Thread(target=self._run_each_second, name="recorder", daemon=True).start()

    def write(self, outcome: Outcome) -> Outcome:
        """Put on disk what belongs to an outcome, and return the one that holds. This waits. Raise JournalError.

        The one that holds is the same, or the one for records above their limit or a full quarantine. A rejection that is only
        counted is returned without a decision for the log.
        """
        if not outcome.records:
            return self._unrecorded(outcome)
        return self._store(*self._within_limits(outcome))

    def begin(self, outcome: Outcome, done: Callable[[Outcome | Exception], object]) -> Outcome | None:
        """Do what `write` does, without waiting.

        Return the outcome that holds, or None: then another thread calls `done` later, with that outcome or the exception.
        Raise JournalError.
        """
        if not outcome.records:
            return self._unrecorded(outcome)
        outcome, batch = self._within_limits(outcome)
        if batch is None:
            return self._written(outcome, None)
        if outcome.unparsable is not None:
            # The quarantine waits for the disk several times, and for other processes.
            self.run_slowly(partial(self._store, outcome, batch), done)
            return None

        def written(error: JournalError | None) -> None:
            result: Outcome | Exception | None = error
            try:
                result = result or self._written(outcome, batch)
            except Exception as fault:  # noqa: BLE001 - raised again by `done`, in the guard of the connection
                result = fault
            done(result)

        return self._written(outcome, batch) if self._journal.submit(batch, durable=outcome.durable, done=written) else None

    def run_slowly(self, work: Callable[[], Outcome], done: Callable[[Outcome | Exception], object]) -> None:
        """Let one of few threads do this, then call `done` with the outcome or the exception."""

        def run() -> None:
            self._count_slow(1)
            try:
                result: Outcome | Exception = work()
            except Exception as error:  # noqa: BLE001 - raised again by `done`, in the guard of the connection
                result = error
            finally:
                self._count_slow(-1)
            done(result)

        self._pool.submit(run)

    def _count_slow(self, change: int) -> None:
        with self._slow_lock:
            self._slow += change
            sys.setswitchinterval(_SLOW_SWITCH if self._slow else _USUAL_SWITCH)

    def finished(self, outcome: Outcome) -> None:
        """Called with each final outcome, recorded or counted. A subclass can override it."""

    def _unrecorded(self, outcome: Outcome) -> Outcome:
        if outcome.decision is not None:
            self.finished(outcome)
        return outcome

    def _written(self, outcome: Outcome, batch: Batch | None) -> Outcome:
        """Return an outcome whose records are written, or only counted."""
        self.finished(outcome)
        return outcome if batch is not None else replace(outcome, decision=None)

    def _within_limits(self, outcome: Outcome) -> tuple[Outcome, Batch | None]:
        """Return the outcome that the limits permit, and its records; None if they are only counted."""
        records = self._rejections.limit(outcome.records, outcome.network, limited=outcome.received is not None)
        batch = self._journal.encode(records) if records else None
        if outcome.received is not None and not self._budget.spend(
            outcome.network,
            received=outcome.received,
            relayed_again=outcome.relayed_again,
            size=0 if batch is None else batch.size,
            now=self._clock(),
        ):
            if outcome.above is not None:
                return self._within_limits(outcome.above())
            if self._rejections.count(records, outcome.network):
                return outcome, None
        return outcome, batch

    def _store(self, outcome: Outcome, batch: Batch | None) -> Outcome:
        """Write an outcome, its message first. Return the one that holds. Raise JournalError."""
        if batch is not None:
            if (unparsable := outcome.unparsable) is not None:
                try:
                    self._quarantine.keep(unparsable.name, message=unparsable.content, record=encode(unparsable.record))
                except QuarantineFullError:
                    return self._store(*self._within_limits(unparsable.full))
            self._journal.write(batch, durable=outcome.durable)
        return self._written(outcome, batch)

    def flush(self) -> None:
        """Write the rejections that were only counted. Keep those that cannot be written now for the next time."""
        # One at a time: the last flush must not end while another one still has counts to write.
        with self._flushing:
            counted, waiting = self._rejections.take(), list[Counted]()
            now = self._clock()
            # At the end, and if many networks wait, a count is worth more than its bytes.
            anyway = self._closing.is_set() or len(counted) > NETWORKS_LIMIT // 2
            try:
                while counted:
                    if (waits := self._write_counted(counted[-1], now, anyway=anyway)) is not None:
                        waiting.append(waits)
                    counted.pop()
            except JournalError as error:
                _LOG.error(f"{error}; this concerns counted rejections")
            self._rejections.put_back([*waiting, *counted])

    def _write_counted(self, counted: Counted, now: float, *, anyway: bool) -> Counted | None:
        """Write the record of counted rejections. Return them if it exceeds the limit. Raise JournalError."""
        # Encode it only if its last size is within the limit: thousands of networks can be above it.
        if not self._charge(counted, counted.size, now, anyway=anyway):
            return counted
        record = self._together(counted, now)
        batch = self._journal.encode([record])
        if not self._charge(counted, batch.size - counted.size, now, anyway=anyway):
            self._charge(counted, -counted.size, now, anyway=True)
            return replace(counted, size=batch.size)
        try:
            self._journal.write(batch, durable=False)
        except JournalError:
            self._charge(counted, -batch.size, now, anyway=True)
            raise
        _LOG.warning("a flood of rejections", peer=record.peer_address.addr, count=counted.count, why=record.meta["why"])
        return None

    def _charge(self, counted: Counted, size: int, now: float, *, anyway: bool) -> bool:
        return not counted.limited or self._budget.spend(counted.network, received=0, size=size, now=now, anyway=anyway)

    def close(self) -> None:
        """Write what is left, and finish the journal."""
        self._closing.set()
        self._rejections.end()
        self.flush()
        self._journal.close()

    def _together(self, counted: Counted, now: float) -> Record:
        # Each flush writes one such record for a network: it covers a second, or more time above the limit on bytes.
        count = f"{counted.count} more rejection{'s' if counted.count > 1 else ''}"
        whose = "this peer's network" if ":" in counted.first.peer_address.addr else "this peer"
        why = (
            f"{count} of {whose}, counted instead of recorded one by one (limits.rejection_records_per_second is {self._rate}, "
            f"limits.record_bytes_burst {self._burst}); the first: {counted.first.meta['why']}"
        )
        return rejections(counted.first, count=counted.count, now=now, why=why)

    def _run_each_second(self) -> None:
        sweep_at = retain_at = time.monotonic()
        while not self._closing.wait(_FLUSH_SECONDS):
            try:
                self.flush()
                self._journal.roll()
                if (now := time.monotonic()) >= sweep_at:
                    sweep_at = now + _SWEEP_SECONDS
                    self._quarantine.sweep()
                if now >= retain_at:
                    retain_at = now + self._retain()
            except Exception as error:  # noqa: BLE001 - without this thread counted rejections are never written
                _LOG.error("an unexpected fault in the work of each second", exc_info=error)
