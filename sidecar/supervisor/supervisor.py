"""The supervisor's loop: it waits for something to happen, then takes its steps, each of which does what is due.

Owns the workers' processes. Never accepts a connection and never opens a journal.
"""

import os
import selectors
import signal
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from sidecar import log
from sidecar.milter import Listener
from sidecar.supervisor import worker
from sidecar.supervisor.backoff import Backoff
from sidecar.supervisor.control import hear_ready, pair, say_retire
from sidecar.supervisor.notify import notify
from sidecar.supervisor.plan import Plan
from sidecar.supervisor.signals import SignalReader, held_back

# systemd waits 90 s by default; an MTA asks the peer to come again, so nothing is lost when time is up.
STOP_GRACE = 10.0
# A session may take as long as a slow peer with a big message: RFC 5321 section 4.5.3.2 gives 10 minutes for the final reply.
RELOAD_GRACE = 600.0
# A worker ends by itself when its grace is over; this long after, it is killed.
KILL_AFTER = 2.0
# A worker is ready in some 10 ms; one that looks through a folder of a million segments may need a while.
READY_WITHIN = 60.0

_LOG = log.get("supervisor")


@dataclass(kw_only=True, eq=False)
class Worker:
    """A worker process as its supervisor sees it. Times are of the monotonic clock."""

    pid: int
    control: socket.socket
    plan: Plan
    born: float = field(default_factory=time.monotonic)
    ready: bool = False
    retiring: bool = False
    kill_at: float | None = None


class Supervisor:
    """`run` serves until it is told to stop. `replan` gives a new plan for SIGHUP, or None when the old one must do."""

    def __init__(self, *, listener: Listener, plan: Plan, replan: Callable[[Plan], Plan | None]) -> None:
        self._listener = listener
        self._replan = replan
        self._plan: Plan | None = None
        self._coming: Plan | None = plan
        self._workers: list[Worker] = []
        self._signals = SignalReader()
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._signals, selectors.EVENT_READ)
        self._backoff = Backoff()
        self._start_after = 0.0
        self._reload_wanted = False
        self._stopping = False
        self._status = 0

    def run(self) -> int:
        """Serve; give the exit status: 0 after an orderly stop, 1 when the first workers did not become ready."""
        self._spawn_missing(self._coming)
        while self._workers or not self._stopping:
            self._wait()
            self._take_signals()
            self._begin_reload()
            self._settle_coming()
            self._refill()
            self._kill_overdue()
        _LOG.info("stopped")
        return self._status

    # --- what happened

    def _wait(self) -> None:
        for key, _ in self._selector.select(self._time_to_next()):
            if isinstance(key.data, Worker):
                self._hear(key.data)

    def _time_to_next(self) -> float | None:
        """Give the seconds until something is due by the clock; None when nothing is."""
        due = [one.kill_at for one in self._workers if one.kill_at is not None]
        if self._coming is not None:
            due += [one.born + READY_WITHIN for one in self._of(self._coming)]
        if self._plan is not None and self._missing(self._plan):
            due.append(self._start_after)
        return max(0.0, min(due) - time.monotonic()) if due else None

    def _hear(self, one: Worker) -> None:
        if hear_ready(one.control):
            one.ready = True
            return
        self._selector.unregister(one.control)
        one.control.close()
        self._workers.remove(one)
        _, status = os.waitpid(one.pid, 0)
        lived = time.monotonic() - one.born
        self._report_end(one, status, lived)
        if one.retiring:
            return
        if one.plan is self._coming:
            self._give_up_coming("a worker ended before it was ready; the lines above say why")
        elif one.plan is self._plan:
            self._start_after = time.monotonic() + self._backoff.after(lived)

    def _report_end(self, one: Worker, status: int, lived: float) -> None:
        code = os.waitstatus_to_exitcode(status)
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with status {code}"
        tell = _LOG.info if one.retiring and code == 0 else _LOG.error
        tell(f"a worker {how}", pid=one.pid, seconds=round(lived, 1), retiring=one.retiring)

    def _take_signals(self) -> None:
        for number in self._signals.read():
            if number is signal.SIGHUP:
                self._reload_wanted = not self._stopping
            elif self._stopping:
                _LOG.warning(f"{number.name} again: not waiting for open sessions")
                self._retire(self._workers, 0.0)
            else:
                _LOG.info(f"{number.name}: stopping", grace=STOP_GRACE)
                self._stop(STOP_GRACE)

    # --- the steps

    def _stop(self, grace: float) -> None:
        notify("STOPPING=1")
        self._stopping = True
        self._reload_wanted = False
        self._plan = self._coming = None
        self._listener.close()
        self._retire(self._workers, grace)

    def _begin_reload(self) -> None:
        """Make a new plan and start its workers beside the old ones; wait for an earlier reload to be settled first."""
        if not self._reload_wanted or self._plan is None or self._coming is not None:
            return
        self._reload_wanted = False
        notify("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")
        self._coming = self._replan(self._plan)
        if self._coming is None:
            _LOG.error("the reload failed: serving goes on with the settings from before")
            notify("READY=1")
        self._spawn_missing(self._coming)

    def _settle_coming(self) -> None:
        """Make the coming plan the one that serves, once all of its workers are ready."""
        coming = self._coming
        if coming is None:
            return
        if not all(one.ready for one in self._of(coming)):
            if any(time.monotonic() >= one.born + READY_WITHIN for one in self._of(coming) if not one.ready):
                self._give_up_coming(f"a worker was not ready within {READY_WITHIN:.0f} seconds")
            return
        old, self._plan, self._coming = self._plan, coming, None
        self._start_after = 0.0
        self._retire([one for one in self._workers if one.plan is old], RELOAD_GRACE)
        settings = coming.settings
        _LOG.info(
            "ready" if old is None else "reloaded",
            socket=self._listener.name,
            workers=settings.milter.workers,
            listener_domains=len(settings.domains),
        )
        notify("READY=1")

    def _give_up_coming(self, why: str) -> None:
        """Serve on with the old plan; without one the start has failed."""
        failed, self._coming = self._coming, None
        if self._plan is None:
            _LOG.error(f"cannot start: {why}")
            self._status = 1
            self._stop(0.0)
            return
        _LOG.error(f"the reload failed: {why}; serving goes on with the settings from before")
        self._retire([one for one in self._workers if one.plan is failed], RELOAD_GRACE)
        notify("READY=1")

    def _refill(self) -> None:
        """Start workers in place of those that died, when it is time."""
        if self._plan is not None and time.monotonic() >= self._start_after:
            self._spawn_missing(self._plan)

    def _kill_overdue(self) -> None:
        for one in self._workers:
            if one.kill_at is not None and time.monotonic() >= one.kill_at:
                os.kill(one.pid, signal.SIGKILL)
                one.kill_at = None

    # --- workers

    def _of(self, plan: Plan) -> list[Worker]:
        return [one for one in self._workers if one.plan is plan and not one.retiring]

    def _missing(self, plan: Plan) -> int:
        return max(0, plan.settings.milter.workers - len(self._of(plan)))

    def _retire(self, workers: list[Worker], grace: float) -> None:
        """Tell workers to end; one that is retiring already gets the shorter time of the two."""
        for one in workers:
            kill_at = time.monotonic() + grace + KILL_AFTER
            if one.retiring and one.kill_at is not None and one.kill_at <= kill_at:
                continue
            one.retiring = True
            one.kill_at = kill_at
            say_retire(one.control, grace)

    def _spawn_missing(self, plan: Plan | None) -> None:
        if plan is None:
            return
        for _ in range(self._missing(plan)):
            try:
                self._spawn(plan)
            except OSError as error:
                _LOG.error(f"cannot start a worker: {error.strerror}")
                self._start_after = time.monotonic() + self._backoff.after(0.0)
                if plan is self._coming:
                    self._give_up_coming("the system gives no more processes")
                return

    def _spawn(self, plan: Plan) -> None:
        ours, theirs = pair()
        with held_back():
            pid = os.fork()
            if pid == 0:
                ours.close()
                self._forget()
                worker.work(theirs, self._listener, plan)
        theirs.close()
        one = Worker(pid=pid, control=ours, plan=plan)
        self._workers.append(one)
        self._selector.register(ours, selectors.EVENT_READ, one)

    def _forget(self) -> None:
        """Let go, in a forked child, of what is the supervisor's: a worker that held another's control would hide its end."""
        self._selector.close()
        self._signals.forget()
        for one in self._workers:
            one.control.close()
