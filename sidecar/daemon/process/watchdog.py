"""Signs of life: asked of every worker and of the socket, and passed on to systemd only when all of them are there.

Owns the questions and their times. Never kills anybody; it only says who has not answered.
"""

import os
import selectors
import time
from collections.abc import Callable, Iterable, Mapping, Sequence

from sidecar.daemon.process.notify import notify
from sidecar.daemon.process.probe import Probe
from sidecar.daemon.process.process import Worker

ASK_SECONDS = 5.0
# The answer comes from the worker's main thread, which gets its turn every 5 ms (sys.getswitchinterval) however busy the others
# are. A worker that gives none serves nobody; an MTA gives up on it after 30 seconds (Postfix: milter_command_timeout).
ANSWER_WITHIN = 20.0


def interval(environ: Mapping[str, str] = os.environ) -> float | None:
    """Give the seconds within which systemd wants a sign of life; None where it wants none (sd_watchdog_enabled(3))."""
    microseconds, pid = environ.get("WATCHDOG_USEC", ""), environ.get("WATCHDOG_PID", "")
    if not _is_number(microseconds) or int(microseconds) == 0 or pid not in {"", str(os.getpid())}:
        return None
    return int(microseconds) / 1e6


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit()


class Watchdog:
    """`ask` and `feed` may be called at any time; each does what is due.

    systemd wants a sign of life `within` so many seconds; where it wants none (None), only the workers are asked.
    """

    def __init__(
        self,
        *,
        within: float | None,
        listening: str,
        selector: selectors.BaseSelector,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._clock = clock
        # sd_watchdog_enabled(3) recommends half the time.
        self._half = None if within is None else within / 2
        self._every = ASK_SECONDS if self._half is None else min(ASK_SECONDS, self._half / 4)
        self._probe = None if within is None else Probe(listening, selector, clock)
        self._fed = self.ask_at = clock()

    def ask(self, workers: Iterable[Worker]) -> bool:
        """Ask the workers, and with systemd the socket as well; tell whether it was time to."""
        now = self._clock()
        if now < self.ask_at:
            return False
        self.ask_at = now + self._every
        for one in workers:
            one.ask()
        if self._probe is not None:
            self._probe.begin()
        return True

    def feed(self, workers: Iterable[Worker]) -> None:
        """Tell systemd that all is well, if every worker and the socket have answered since the last time."""
        if self._half is None or self._probe is None or self._clock() < self._fed + self._half:
            return
        if min([self._probe.answered, *(one.answered for one in workers)]) > self._fed:
            notify("WATCHDOG=1")
            self._fed = self._clock()

    def forget(self) -> None:
        """Let go of the connection, in a forked child."""
        if self._probe is not None:
            self._probe.end()


def silent(workers: Sequence[Worker]) -> list[Worker]:
    """Give those whose answer is overdue."""
    return [one for one in workers if (due := answer_due(one)) is not None and one.clock() >= due]


def answer_due(one: Worker) -> float | None:
    """Give the time by which a worker must have answered; None when nothing is asked of it."""
    return None if one.asked is None or one.retiring else one.asked + ANSWER_WITHIN
