"""From an outcome to the disk: what must be kept is kept before the MTA hears of the verdict.

Owns the order (the quarantine, then the journal, then the answer) and what is due each second. Never decides about mail.
"""

import threading
import time
from collections.abc import Callable, Sequence
from typing import Protocol

from msgspec.structs import replace

from sidecar import log
from sidecar.journal import JournalError, QuarantineFullError
from sidecar.milter.flood import Counted, Flood
from sidecar.records import Record, encode, rejections
from sidecar.session.verdicts import Outcome
from sidecar.settings.values import LimitSettings

_FLUSH_SECONDS = 1.0
# An operator who has made room in the quarantine waits so long; going through its files takes up to a second.
_SWEEP_SECONDS = 60.0

_LOG = log.get("milter")


class Writer(Protocol):
    """What is needed of the journal."""

    def write(self, records: Sequence[Record], *, durable: bool) -> None:
        """Write records, in their order; raises JournalError when that cannot be done."""

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
        self._rate = limits.rejection_records_per_second
        self._flood = Flood(self._rate)
        self._clock = clock
        self._closing = threading.Event()
        self._flushing = threading.Lock()

    def start(self) -> None:
        """Begin to do what is due each second."""
        threading.Thread(target=self._keep_up, name="recorder", daemon=True).start()

    def write(self, outcome: Outcome) -> Outcome:
        """Put on disk what belongs to an outcome, and give the one that holds: the same, or the one for a full quarantine.

        A refusal that is only counted comes back without a decision for the log. Raises JournalError.
        """
        if not outcome.records:
            return outcome
        outcome = self._keep_near_miss(outcome)
        records = self._flood.sift(outcome.records)
        if not records:
            return replace(outcome, decision=None)
        self._journal.write(records, durable=outcome.durable)
        return outcome

    def flush(self) -> None:
        """Write the refusals that were only counted. What cannot be written is kept for the next time."""
        # One at a time: the last flush must not finish while another still holds what it took.
        with self._flushing:
            self._flush()

    def _flush(self) -> None:
        counted = self._flood.take()
        if not counted:
            return
        now = self._clock()
        records = [self._together(one, now) for one in counted]
        try:
            self._journal.write(records, durable=False)
        except JournalError as error:
            self._flood.put_back(counted)
            _LOG.error(f"{error}; this concerns counted refusals")
            return
        for record, one in zip(records, counted, strict=True):
            _LOG.warning("a flood of refusals", peer=record.peer_address.addr, count=one.count, why=record.meta["why"])

    def close(self) -> None:
        """Write what is left, and finish the journal."""
        self._closing.set()
        self._flood.end()
        self.flush()
        self._journal.close()

    def _keep_near_miss(self, outcome: Outcome) -> Outcome:
        near_miss = outcome.near_miss
        if near_miss is None:
            return outcome
        try:
            self._quarantine.keep(near_miss.name, message=near_miss.content, record=encode(outcome.records[0]))
        except QuarantineFullError:
            return near_miss.full
        return outcome

    def _together(self, counted: Counted, now: float) -> Record:
        # Each flush writes one such record for a peer, so that it speaks of about a second.
        why = (
            f"{counted.count} more refusals of this peer in about a second, counted instead of recorded one by one, because "
            f"limits.rejection_records_per_second is {self._rate}; the first: {counted.first.meta['why']}"
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
