"""The parts of a worker, with counting. Without [admin] they are not used.

Owns where counting happens. Never changes an outcome.
"""

import time
from collections.abc import Callable
from functools import partial
from typing import Any

from sidecar.core.policy import MessageAnswer
from sidecar.core.session import Quota, Session
from sidecar.core.session.events import Event
from sidecar.core.session.verdicts import Continue, Outcome
from sidecar.core.settings.values import LimitSettings
from sidecar.daemon.metrics import CELL, Meter
from sidecar.daemon.milter import Step
from sidecar.journal import JournalError
from sidecar.journal.write import Recorder
from sidecar.journal.write.disk_thread import Done
from sidecar.journal.write.recorder import Writer
from sidecar.journal.write.routes import Batch, write_and_wait

_STEPS = {step: CELL["answer_seconds", step.name.lower()] for step in Step if ("answer_seconds", step.name.lower()) in CELL}
_DURABLE, _NOT_DURABLE = CELL["journal_write_seconds", "true"], CELL["journal_write_seconds", "false"]
_ERRORS, _FAULTS = CELL["journal_errors",], CELL["faults",]
_SESSIONS, _WAITING = CELL["sessions",], CELL["journal_waiting",]


def metered_session(meter: Meter) -> type[Session]:
    """Return a class of sessions that count what they accept. The recorder counts verdicts, after their records are written."""

    class MeteredSession(Session):
        def handle(self, event: Event) -> Outcome:
            outcome = super().handle(event)
            answer = outcome.answer
            if answer is not None and type(outcome.verdict) is Continue and not isinstance(answer, MessageAnswer):
                meter.admitted(answer, outcome.checked)
            return outcome

        def give_up(self) -> None:
            meter.add(_FAULTS)
            super().give_up()

    return MeteredSession


class MeteredQuota(Quota):
    """Counts the open sessions."""

    def __init__(self, meter: Meter, limits: LimitSettings) -> None:
        super().__init__(limits)
        self._meter = meter

    def enter(self) -> bool:
        """Count a session, if it is permitted."""
        entered = super().enter()
        self._meter.add(_SESSIONS, entered)
        return entered

    def leave(self) -> None:
        """Count the end of a session."""
        super().leave()
        self._meter.add(_SESSIONS, -1)


class MeteredRecorder(Recorder):
    """Counts verdicts whose records are written."""

    def __init__(self, meter: Meter, **parts: Any) -> None:  # noqa: ANN401 - a recorder's arguments
        super().__init__(**parts)
        self._meter = meter

    def finished(self, outcome: Outcome) -> None:
        """Count the final verdict."""
        self._meter.judged(outcome)


class MeteredJournal:
    """Measures the time of each write. With `durable` it contains the time of the disk."""

    def __init__(self, meter: Meter, journal: Writer) -> None:
        self._meter = meter
        self._journal = journal
        self.encode, self.roll, self.close = journal.encode, journal.roll, journal.close

    def submit(self, batch: Batch, *, durable: bool, done: Done) -> bool:
        """Write encoded records, or have the disk thread write them. Raise JournalError."""
        began = time.perf_counter_ns()
        self._meter.add(_WAITING)

        def written(error: JournalError | None) -> None:
            self._count(began, error, durable=durable)
            done(error)

        try:
            is_written = self._journal.submit(batch, durable=durable, done=written)
        except JournalError as error:
            self._count(began, error, durable=durable)
            raise
        if is_written:
            self._count(began, None, durable=durable)
        return is_written

    def write(self, batch: Batch, *, durable: bool) -> None:
        """Write encoded records, and wait for that. Raise JournalError."""
        write_and_wait(self.submit, batch, durable=durable)

    def _count(self, began: int, error: JournalError | None, *, durable: bool) -> None:
        self._meter.add(_WAITING, -1)
        self._meter.observe(_DURABLE if durable else _NOT_DURABLE, time.perf_counter_ns() - began)
        if error is None:
            self._meter.wrote()
        else:
            self._meter.add(_ERRORS)


def observer(meter: Meter, step: Step) -> Callable[[int], None] | None:
    """Return what observes the time of a step in nanoseconds, for the steps whose answer an MTA waits for."""
    histogram = _STEPS.get(step)
    return None if histogram is None else partial(meter.observe, histogram)
