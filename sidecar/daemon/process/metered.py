"""The parts of a worker with a meter at them: each does what it does without one, and is counted.

Owns where counting happens. Never changes an outcome. Where nothing is served over HTTP, none of this is built.
"""

import time
from collections.abc import Callable, Sequence
from typing import Any

from sidecar.core.policy import MessageAnswer
from sidecar.core.records import Record
from sidecar.core.session import Quota, Session
from sidecar.core.session.events import Event
from sidecar.core.session.verdicts import Continue, Outcome
from sidecar.core.settings.values import LimitSettings
from sidecar.daemon.metrics import CELL, STEPS, Meter
from sidecar.daemon.milter import Step
from sidecar.journal import JournalError
from sidecar.journal.write import Recorder
from sidecar.journal.write.recorder import Writer
from sidecar.journal.write.routes import Batch

_Callback = Callable[..., int]

_STEPS = {step: CELL["step", step.name.lower()] for step in Step if step.name.lower() in STEPS}
_DURABLE, _NOT_DURABLE = CELL["write", "true"], CELL["write", "false"]
_ERRORS, _FAULTS = CELL["plain", "journal_errors"], CELL["plain", "faults"]
_SESSIONS, _WRITING = CELL["gauge", "sessions"], CELL["gauge", "writing"]


def metered_session(meter: Meter) -> type[Session]:
    """Return a class of sessions that count what goes on. What ends with a verdict the recorder counts, once it is kept."""

    class MeteredSession(Session):
        def handle(self, event: Event) -> Outcome:
            """Take the next event."""
            outcome = super().handle(event)
            answer = outcome.answer
            if answer is not None and type(outcome.verdict) is Continue and not isinstance(answer, MessageAnswer):
                meter.admitted(answer)
            return outcome

        def give_up(self) -> None:
            """End after an exception."""
            meter.add(_FAULTS)
            super().give_up()

    return MeteredSession


class MeteredQuota(Quota):
    """Counts the sessions that have a place."""

    def __init__(self, meter: Meter, limits: LimitSettings) -> None:
        super().__init__(limits)
        self._meter = meter

    def enter(self) -> bool:
        """Take the place of one session."""
        entered = super().enter()
        self._meter.add(_SESSIONS, entered)
        return entered

    def leave(self) -> None:
        """Give the place of one session back."""
        super().leave()
        self._meter.add(_SESSIONS, -1)


class MeteredRecorder(Recorder):
    """Counts verdicts whose records are kept."""

    def __init__(self, meter: Meter, **parts: Any) -> None:  # noqa: ANN401 - a recorder's own, handed through
        super().__init__(**parts)
        self._meter = meter

    def kept(self, outcome: Outcome) -> None:
        """Count the verdict that holds."""
        self._meter.given(outcome)


class MeteredJournal:
    """Measures the time of every write, which with `durable` is that of the disk."""

    def __init__(self, meter: Meter, journal: Writer) -> None:
        self._meter = meter
        self._journal = journal

    def encode(self, records: Sequence[Record]) -> Batch:
        """Encode records."""
        return self._journal.encode(records)

    def write(self, batch: Batch, *, durable: bool) -> None:
        """Write encoded records. Raises JournalError."""
        meter = self._meter
        began = time.perf_counter_ns()
        meter.add(_WRITING)
        try:
            self._journal.write(batch, durable=durable)
        except JournalError:
            meter.add(_ERRORS)
            raise
        else:
            meter.wrote()
        finally:
            meter.add(_WRITING, -1)
            meter.observe(_DURABLE if durable else _NOT_DURABLE, time.perf_counter_ns() - began)

    def roll(self) -> None:
        """Finish what is too old to go on with."""
        self._journal.roll()

    def close(self) -> None:
        """Finish the journal."""
        self._journal.close()


def timed(meter: Meter) -> Callable[[Step, _Callback], _Callback]:
    """Give what makes of a callback one that takes its own time, for the steps whose answer an MTA waits for."""

    def wrap(step: Step, callback: _Callback) -> _Callback:
        histogram = _STEPS.get(step)
        if histogram is None:
            return callback

        def timing(*told: Any) -> int:  # noqa: ANN401 - as libmilter hands it over
            began = time.perf_counter_ns()
            code = callback(*told)
            meter.observe(histogram, time.perf_counter_ns() - began)
            return code

        return timing

    return wrap
