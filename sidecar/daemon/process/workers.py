"""The worker processes: started, replaced when they die, killed when they are late, retired when a new plan serves.

Owns the list of them, and the times that they get. Never decides which plan serves.
"""

import os
import selectors
import signal
import time
import zlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from socket import socket
from typing import Any, ClassVar, Final

from sidecar import log
from sidecar.daemon.metrics import Memory, Meter
from sidecar.daemon.process.child import Backoff, Start, Work, control_pair, reap, receive_word, send, send_plan
from sidecar.daemon.process.plan import Plan

Serve = Callable[[socket, Plan, Meter | None], int]
"""Serves with a plan, in the child, until it is ordered to end. Returns the exit status."""

# A worker is ready in some 10 ms. One that looks through a folder of a million segments may need a while.
READY_WITHIN: Final = 60.0
# The worker's main thread answers. It runs every 5 ms (sys.getswitchinterval), also if the other threads are busy.
# A worker without an answer serves no one. Postfix gives up on it after 30 seconds (milter_command_timeout).
ANSWER_WITHIN = 20.0
# systemd waits 90 s by default. The sender retries, so nothing is lost when time is up.
STOP_GRACE = 10.0
# A session may take as long as a slow peer with a big message: RFC 5321 section 4.5.3.2 gives 10 minutes for the final reply.
RELOAD_GRACE: Final = 600.0
# A worker ends by itself when its grace is over. This long after, it is killed.
KILL_AFTER = 2.0
# Old generations that keep RELOAD_GRACE. Each is a set of processes of some 30 MB, and MTAs keep connections open for minutes:
# without a bound, a reload every few seconds would fill the memory.
RETIRING_GENERATIONS: Final = 2

_LOG = log.get("supervisor")


@dataclass(kw_only=True, eq=False)
class Worker:
    """A child process as its supervisor sees it. Times are of the monotonic `clock`, `since` is in seconds since 1970.

    `what` names it in the log. The other facts are of workers only:

    `cpu` is the number of the CPU that it is bound to. `left` is True when it accepts no more connections. `newest` is the last
    plan that it got; of `sent` plans it has `applied` so many: for new messages it uses no earlier one. `asked` is the time of
    the ping that it has not answered yet, `answered` that of its last message. `block` is where it counts, if it counts.
    """

    pid: int
    control: socket
    plan: Plan
    what: str = "a worker"
    ready_within: float = READY_WITHIN
    cpu: int | None = None
    clock: Callable[[], float] = time.monotonic
    born: float = field(init=False)
    since: float = field(default_factory=time.time)
    ready: bool = False
    retiring: bool = False
    left: bool = False
    newest: Plan = field(init=False)
    sent: int = 0
    applied: int = 0
    asked: float | None = None
    answered: float = 0.0
    kill_at: float | None = None
    killed: bool = False
    block: int | None = None

    def __post_init__(self) -> None:
        self.born, self.newest = self.clock(), self.plan

    @property
    def deadline(self) -> float | None:
        """The time at which to kill it: its grace is over, it is not ready, or it does not answer."""
        if self.killed:
            return None
        if self.kill_at is not None:
            return self.kill_at
        if not self.ready:
            return self.born + self.ready_within
        return None if self.asked is None else self.asked + ANSWER_WITHIN

    def receive(self) -> bool:
        """Apply the next message. Return False if the process is dead."""
        if (word := receive_word(self.control)) is None:
            return False
        self.ready |= word == "ready"
        self.left |= word == "left"
        self.applied += word == "applied"
        self.asked, self.answered = None, self.clock()
        return True

    def ask(self) -> None:
        """Ask for a sign of life, unless an answer is still due."""
        if self.ready and self.asked is None:
            self.asked = self.clock()
            send(self.control, "ping")

    def update(self, plan: Plan) -> None:
        """Pass a newer plan to it, unless it has it."""
        if self.newest is not plan:
            self.newest = plan
            if plan.handover.descriptors:
                self.sent += 1
                send_plan(self.control, plan.handover)

    def retire(self, grace: float) -> None:
        """Order it to end within `grace` seconds. A later order can only shorten the time."""
        self.retiring = True
        end = self.clock() + grace + KILL_AFTER
        if self.killed or (self.kill_at is not None and self.kill_at <= end):
            return
        self.kill_at = end
        send(self.control, grace)

    def kill(self) -> None:
        """Kill it. Its death shows on `control`."""
        self.killed = True
        with suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)

    def reap(self) -> float:
        """Reap the process: close its control socket, log how it ended, return its lifetime in seconds."""
        self.control.close()
        code, how = reap(self.pid)
        lived = self.clock() - self.born
        write = _LOG.info if self.retiring and code == 0 else _LOG.error
        write(f"{self.what} {how}", pid=self.pid, seconds=round(lived, 1), retiring=self.retiring)
        return lived


class Processes(ABC):
    """Child processes of one kind. `close_inherited` is called in a new child: it closes the supervisor's descriptors.

    `lost` is called with a process that has died, and its lifetime in seconds.
    """

    what: ClassVar[str]
    ready_within: ClassVar[float]

    def __init__(
        self,
        *,
        start: Start,
        close_inherited: Callable[[], None],
        lost: Callable[[Worker, float], None],
        selector: selectors.BaseSelector,
        clock: Callable[[], float],
    ) -> None:
        self.children: list[Worker] = []
        self._start, self._close_inherited, self._lost = start, close_inherited, lost
        self._selector = selector
        self._clock = clock
        self._backoff = Backoff()
        self._start_after = 0.0

    def delay(self, lived: float = 0.0) -> None:
        """Wait before the next start, after one that failed or a process that lived so many seconds."""
        self._start_after = self._clock() + self._backoff.after(lived)

    def of(self, plan: Plan) -> list[Worker]:
        """Return the processes that serve with a plan."""
        return [one for one in self.children if one.plan is plan and not one.retiring]

    def start_missing(self, plan: Plan) -> None:
        """Start the processes that a plan lacks. Raise OSError if the system cannot start one."""
        for _ in range(self._missing(plan)):
            try:
                self._start_one(plan)
            except OSError as error:
                _LOG.error(f"cannot start {self.what}: {error.strerror}")
                raise

    def refill(self, plan: Plan) -> None:
        """Start processes in place of those that died, when it is time."""
        if self._clock() >= self._start_after:
            with suppress(OSError):  # logged, and tried again later
                self.start_missing(plan)

    def kill_late(self) -> None:
        """Kill processes whose time is over."""
        for one in self.children:
            if one.deadline is None or self._clock() < one.deadline:
                continue
            if not one.retiring:
                silent = f"gives no sign of life for {ANSWER_WITHIN:.0f} seconds"
                why = silent if one.ready else f"was not ready within {one.ready_within:.0f} seconds"
                _LOG.error(f"{one.what} {why}: it is killed", pid=one.pid)
            one.kill()

    def due(self, plan: Plan | None) -> list[float]:
        """Return the times at which something is to be done."""
        deadlines = [deadline for one in self.children if (deadline := one.deadline) is not None]
        return [*deadlines, self._start_after] if plan is not None and self._missing(plan) else deadlines

    def close_controls(self) -> None:
        """Close the control sockets, in a forked child: one that held another's would hide its end."""
        for one in self.children:
            one.control.close()

    @abstractmethod
    def _wanted(self, plan: Plan) -> int:
        """Return the number of processes for a plan."""

    @abstractmethod
    def _start_one(self, plan: Plan) -> None: ...

    def _missing(self, plan: Plan) -> int:
        return max(0, self._wanted(plan) - len(self.of(plan)))

    def _receive(self, one: Worker) -> None:
        """Apply the next message of a process, or its death."""
        if not one.receive():
            self._selector.unregister(one.control)
            self.children.remove(one)
            self._lost(one, one.reap())

    def _spawn(self, work: Work, plan: Plan, *, cpu: int | None = None, block: int | None = None) -> None:
        """Start a process. It is on the list before it exists, so that a fault leaves no process that is not on the list."""
        ours, theirs = control_pair()
        what, within = self.what, self.ready_within
        one = Worker(pid=0, control=ours, plan=plan, what=what, ready_within=within, clock=self._clock, cpu=cpu, block=block)
        self.children.append(one)
        try:
            self._selector.register(ours, selectors.EVENT_READ, partial(self._receive, one))
            one.pid = self._start(theirs, partial(self._in_child, work))
        except BaseException:
            self.children.remove(one)
            with suppress(KeyError):
                self._selector.unregister(ours)
            ours.close()
            self.delay()
            raise
        finally:
            theirs.close()

    def _in_child(self, work: Work, control: socket) -> int:
        self.close_controls()
        self._close_inherited()
        return work(control)


class OneProcess(Processes):
    """One process for the plan in use, if the plan wants it. Call `update` after each event.

    A new plan gets a new process, and the old one ends when that is ready. A process that died is started again.
    """

    reload_grace: ClassVar[float]
    stop_grace: ClassVar[float]

    def __init__(self, **parts: Any) -> None:  # noqa: ANN401 - those of `Processes`
        super().__init__(lost=lambda one, lived: None if one.retiring else self.delay(lived), **parts)

    def update(self, plan: Plan | None) -> None:
        """Take all steps that are due: start a process for a new plan, end the one before, and kill those that are late."""
        if plan is not None:
            self.refill(plan)
        current = [] if plan is None else self.of(plan)
        if plan is None or not self._wanted(plan) or any(one.ready for one in current):
            for one in self.children:
                if one not in current:
                    one.retire(self.stop_grace if plan is None else self.reload_grace)
        self.kill_late()

    def close(self) -> None:
        """In a forked child: close the supervisor's descriptors of this process."""
        self.close_controls()


class Workers(Processes):
    """All workers, of every plan. The other arguments are those of `Processes`."""

    what = "a worker"
    ready_within = READY_WITHIN

    def __init__(self, *, serve: Serve, memory: Memory | None, **parts: Any) -> None:  # noqa: ANN401 - see the docstring
        super().__init__(**parts)
        self._serve = serve
        self._memory = memory

    def are_ready(self, plan: Plan) -> bool:
        """Return True if all workers that a plan wants accept connections."""
        own = self.of(plan)
        return len(own) >= plan.settings.milter.workers and all(one.ready for one in own)

    def are_late(self, plan: Plan) -> bool:
        """Return True if a worker of a plan is not ready in time."""
        return any(self._clock() >= one.born + READY_WITHIN for one in self.of(plan) if not one.ready)

    def start_at_once(self) -> None:
        """Do not wait any longer: a new plan serves."""
        self._start_after = 0.0

    def follow(self, plan: Plan, coming: Plan | None) -> None:
        """Retire the workers of all other plans, and pass the serving plan to them. May be called at any time.

        The newest old generations keep RELOAD_GRACE, the next one gets STOP_GRACE, and those before it end at once.
        """
        for one in self.children:
            if one.plan is not plan and one.plan is not coming:
                one.retire(RELOAD_GRACE)
                one.update(plan)
        generations = list(dict.fromkeys(one.plan for one in reversed(self.children) if one.retiring))
        for number, old in enumerate(generations[RETIRING_GENERATIONS:]):
            for one in self.children:
                if one.retiring and one.plan is old:
                    one.retire(0.0 if number else STOP_GRACE)

    def behind(self, plan: Plan) -> list[Worker]:
        """Return the workers that may still judge a new message by an earlier plan than this one."""
        others = [one for one in self.children if one.plan is not plan]
        return [one for one in others if not one.left or one.newest is not plan or one.applied < one.sent]

    def retire_all(self, grace: float) -> None:
        """Order all workers to end."""
        for one in self.children:
            one.retire(grace)

    def _wanted(self, plan: Plan) -> int:
        return plan.settings.milter.workers

    def _start_one(self, plan: Plan) -> None:
        memory = self._memory
        block = None if memory is None else memory.free(one.block for one in self.children if one.block is not None)
        meter = None if memory is None or block is None else Meter(memory.block(block), memory.reporters(block))
        cpu = least_used_cpu(self.of(plan), plan)
        self._spawn(partial(self._work, plan, meter, cpu), plan, cpu=cpu, block=block)

    def _work(self, plan: Plan, meter: Meter | None, cpu: int | None, control: socket) -> int:
        bind_to_cpu(cpu)
        return self._serve(control, plan, meter)


def least_used_cpu(workers: Sequence[Worker], plan: Plan) -> int | None:
    """Return the CPU for one more worker of a plan beside these: of the allowed CPUs, the one with the fewest of them.

    Return None if the settings bind no worker to a CPU. Each installation begins at another CPU: containers see the same CPUs,
    often with the same process ids and paths, and must not all choose the lowest ones.
    """
    if not plan.settings.milter.cpu_affinity:
        return None
    allowed = sorted(os.sched_getaffinity(0))
    first = zlib.crc32(f"{plan.node_id} {plan.settings.state_directory}".encode(errors="surrogateescape")) % len(allowed)
    used = [one.cpu for one in workers]
    return min(allowed[first:] + allowed[:first], key=used.count)


def bind_to_cpu(cpu: int | None) -> None:
    """Bind this process to one CPU. With None, or if the system does not permit it, it runs on all of them.

    Only one thread at a time can run Python. On several CPUs, threads wake each other at each step of a session: two workers
    handle 7,600 sessions a second if bound, and 3,400 if not.
    """
    if cpu is not None:
        with suppress(OSError):
            os.sched_setaffinity(0, {cpu})
