"""The worker processes: started, replaced when they die, killed when they are late.

Owns the list of them. Never decides which plan serves.
"""

import selectors
from collections.abc import Callable
from functools import partial
from socket import socket

from sidecar import log
from sidecar.daemon.metrics import Memory, Meter
from sidecar.daemon.process import watchdog
from sidecar.daemon.process.backoff import Backoff
from sidecar.daemon.process.child import Start
from sidecar.daemon.process.control import pair
from sidecar.daemon.process.plan import Plan
from sidecar.daemon.process.process import Worker, freest_cpu, stay_on

Serve = Callable[[socket, Plan, Meter | None], int]
"""Serves with a plan, in the child, until it is told to end. Return the exit status."""

# A worker is ready in some 10 ms. One that looks through a folder of a million segments may need a while.
READY_WITHIN = 60.0

_LOG = log.get("supervisor")


class Workers:
    """All workers, of every plan: `everyone`. `forget` closes in the child what is the supervisor's."""

    def __init__(  # noqa: PLR0913 - each is a part of it
        self,
        *,
        serve: Serve,
        start: Start,
        forget: Callable[[], None],
        memory: Memory | None,
        selector: selectors.BaseSelector,
        clock: Callable[[], float],
    ) -> None:
        self.everyone: list[Worker] = []
        self._serve = serve
        self._start = start
        self._forget = forget
        self._memory = memory
        self._selector = selector
        self._clock = clock
        self._backoff = Backoff()
        self._start_after = 0.0

    def of(self, plan: Plan) -> list[Worker]:
        """Return the workers that serve with a plan."""
        return [one for one in self.everyone if one.plan is plan and not one.retiring]

    def are_ready(self, plan: Plan) -> bool:
        """Return True if all that a plan wants accept connections."""
        own = self.of(plan)
        return len(own) >= plan.settings.milter.workers and all(one.ready for one in own)

    def is_late(self, plan: Plan) -> bool:
        """Return True if one that was started for a plan is not ready in time."""
        return any(self._clock() >= one.born + READY_WITHIN for one in self.of(plan) if not one.ready)

    def start_missing(self, plan: Plan) -> None:
        """Start as many as a plan wants. Raise OSError where the system has no room for one."""
        for _ in range(self._missing(plan)):
            try:
                self._start_one(plan)
            except OSError as error:
                _LOG.error(f"cannot start a worker: {error.strerror}")
                self.put_off()
                raise

    def refill(self, plan: Plan) -> None:
        """Start workers in place of those that died, when it is time."""
        if self._clock() >= self._start_after:
            try:
                self.start_missing(plan)
            except OSError:
                pass  # logged, and tried again later
            except BaseException:
                self.put_off()
                raise

    def put_off(self, lived: float = 0.0) -> None:
        """Wait before the next start, after one that failed or a worker that lived so many seconds."""
        self._start_after = self._clock() + self._backoff.after(lived)

    def start_at_once(self) -> None:
        """Wait no more: a new plan serves."""
        self._start_after = 0.0

    def bury(self, one: Worker) -> float:
        """Take a dead worker off the list. Return the seconds that it lived."""
        self._selector.unregister(one.control)
        self.everyone.remove(one)
        return one.bury()

    def kill_late(self) -> None:
        """Kill workers whose time is over, and those that owe an answer for too long."""
        for one in watchdog.silent(self.everyone):
            what = f"a worker gives no sign of life for {watchdog.ANSWER_WITHIN:.0f} seconds"
            _LOG.error(f"{what}: it is killed, and another one takes its place", pid=one.pid)
            one.kill()
        for one in self.everyone:
            if one.kill_at is not None and self._clock() >= one.kill_at:
                one.kill()

    def due(self, plan: Plan | None, coming: Plan | None) -> list[float]:
        """Return the times at which something is to be done."""
        times = [one.kill_at for one in self.everyone if one.kill_at is not None]
        times += [answer for one in self.everyone if (answer := watchdog.answer_due(one)) is not None]
        if coming is not None:
            times += [one.born + READY_WITHIN for one in self.of(coming)]
        if plan is not None and self._missing(plan):
            times.append(self._start_after)
        return times

    def forget(self) -> None:
        """Close, in a forked child, the control sockets: a child that held another's would hide its end."""
        for one in self.everyone:
            one.control.close()

    def _missing(self, plan: Plan) -> int:
        return max(0, plan.settings.milter.workers - len(self.of(plan)))

    def _start_one(self, plan: Plan) -> None:
        ours, theirs = pair()
        memory = self._memory
        block = None if memory is None else memory.free(one.block for one in self.everyone if one.block is not None)
        meter = None if memory is None or block is None else Meter(memory.block(block))
        cpu = freest_cpu(self.of(plan), plan)
        try:
            pid = self._start(theirs, partial(self._in_child, ours, plan, meter, cpu))
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
        one = Worker(pid=pid, control=ours, plan=plan, cpu=cpu, block=block, clock=self._clock)
        self.everyone.append(one)
        self._selector.register(ours, selectors.EVENT_READ, one)

    def _in_child(self, ours: socket, plan: Plan, meter: Meter | None, cpu: int | None, control: socket) -> int:
        ours.close()
        self._forget()
        stay_on(cpu)
        return self._serve(control, plan, meter)
