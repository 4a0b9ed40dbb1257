"""From an outcome to the disk: what must be kept is kept before the MTA hears of the verdict.

Owns the order (the limit on records, the quarantine, the journal, the answer) and what is due each second. Never decides about
mail.
"""

import threading
import time
from collections.abc import Callable, Sequence
from typing import Protocol

from msgspec.structs import replace

from sidecar import log
from sidecar.core.records import Record, encode, rejections
from sidecar.core.session.verdicts import Outcome
from sidecar.core.settings.values import LimitSettings
from sidecar.journal import JournalError
from sidecar.journal.write.limits import NETWORKS_LIMIT, Counted, Flood, RecordBudget
from sidecar.journal.write.quarantine import QuarantineFullError
from sidecar.journal.write.routes import Batch

_FLUSH_SECONDS = 1.0
# An operator who has made room in the quarantine waits so long; going through its files takes up to a second.
_SWEEP_SECONDS = 60.0

_LOG = log.get("milter")


class Writer(Protocol):
    """What is needed of the journal."""

    def encode(self, records: Sequence[Record]) -> Batch:
        """Encode records, in their order."""

    def write(self, batch: Batch, *, durable: bool) -> None:
        """Write encoded records; raises JournalError when that cannot be done."""

    def roll(self) -> None:
        """Finish what is too old to go on with."""

    def close(self) -> None:
        """Finish the journal."""


class Store(Protocol):
    """What is needed of the quarantine."""

    def keep(self, name: str, *, message: bytes, record: bytes) -> None:
        """Put a message on disk; raises QuarantineFullError, and JournalError when it cannot be done for another reason."""

    def sweep(self) -> None:
        """Remove what is too old."""


class Recorder:
    """Writes outcomes, from any threads. Build it after the fork, then `start` it; `clock` gives seconds since 1970."""

    def __init__(
        self, *, journal: Writer, quarantine: Store, limits: LimitSettings, clock: Callable[[], float] = time.time
    ) -> None:
        self._journal = journal
        self._quarantine = quarantine
        self._rate, self._burst = limits.rejection_records_per_second, limits.record_bytes_burst
        self._flood = Flood(self._rate)
        self._budget = RecordBudget(limits)
        self._clock = clock
        self._closing = threading.Event()
        self._flushing = threading.Lock()

    def start(self) -> None:
        """Begin to do what is due each second."""
        threading.Thread(target=self._keep_up, name="recorder", daemon=True).start()

    def write(self, outcome: Outcome) -> Outcome:
        """Put on disk what belongs to an outcome, and return the one that holds.

        That is the same, or the one for records above their limit or a full quarantine. A rejection that is only counted comes
        back without a decision for the log. Raises JournalError.
        """
        if not outcome.records:
            return outcome
        outcome, recorded = self._keep(outcome)
        self.kept(outcome)
        return outcome if recorded else replace(outcome, decision=None)

    def kept(self, outcome: Outcome) -> None:
        """Do what a subclass adds for an outcome that holds, counted or recorded."""

    def _keep(self, outcome: Outcome) -> tuple[Outcome, bool]:
        """Return the outcome that holds, and False if its records are only counted."""
        records = self._flood.limit(outcome.records, outcome.network, limited=outcome.received is not None)
        batch = self._journal.encode(records) if records else None
        if outcome.received is not None and not self._budget.spend(
            outcome.network, received=outcome.received, size=0 if batch is None else batch.size, now=self._clock()
        ):
            if outcome.above is not None:
                return self._keep(outcome.above())
            if self._flood.count(records, outcome.network):
                return outcome, False
        if batch is None:
            return outcome, False
        if (unparsable := outcome.unparsable) is not None:
            try:
                self._quarantine.keep(unparsable.name, message=unparsable.content, record=encode(records[0]))
            except QuarantineFullError:
                return self._keep(unparsable.full)
        self._journal.write(batch, durable=outcome.durable)
        return outcome, True

    def flush(self) -> None:
        """Write the rejections that were only counted. What cannot be written now is kept for the next time."""
        # One at a time: the last flush must not finish while another still holds what it took.
        with self._flushing:
            self._flush()

    def _flush(self) -> None:
        counted = self._flood.take()
        if not counted:
            return
        now = self._clock()
        # At the end, and where many networks wait, a count is worth more than its bytes.
        anyway = self._closing.is_set() or len(counted) > NETWORKS_LIMIT // 2
        waiting: list[Counted] = []
        try:
            while counted:
                if (waits := self._write_counted(counted[-1], now, anyway=anyway)) is not None:
                    waiting.append(waits)
                counted.pop()
        except JournalError as error:
            _LOG.error(f"{error}; this concerns counted rejections")
        self._flood.put_back([*waiting, *counted])

    def _write_counted(self, counted: Counted, now: float, *, anyway: bool) -> Counted | None:
        """Write the record of counted rejections. Return them if it exceeds the limit. Raises JournalError."""
        # Encoded only where the size of the last time is within the limit: thousands of networks may be above it.
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
        self._flood.end()
        self.flush()
        self._journal.close()

    def _together(self, counted: Counted, now: float) -> Record:
        # Each flush writes one such record for a network, so that it is about a second, or longer above the limit on bytes.
        count = f"{counted.count} more rejection{'s' if counted.count > 1 else ''}"
        whose = "this peer's network" if ":" in counted.first.peer_address.addr else "this peer"
        why = (
            f"{count} of {whose}, counted instead of recorded one by one (limits.rejection_records_per_second is {self._rate}, "
            f"limits.record_bytes_burst {self._burst}); the first: {counted.first.meta['why']}"
        )
        return rejections(counted.first, count=counted.count, now=now, why=why)

    def _keep_up(self) -> None:
        swept = -_SWEEP_SECONDS
        while not self._closing.wait(_FLUSH_SECONDS):
            try:
                self.flush()
                self._journal.roll()
                if time.monotonic() - swept >= _SWEEP_SECONDS:
                    swept = time.monotonic()
                    self._quarantine.sweep()
            except Exception as error:  # noqa: BLE001 - a thread that ended would leave counted refusals unwritten for good
                _LOG.error("an unexpected fault in what is due each second", exc_info=error)
