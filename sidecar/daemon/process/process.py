"""A worker process as its supervisor sees it.

Owns what is known of it. Never decides when it starts or ends.
"""

import os
import signal
import socket
import time
import zlib
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import ClassVar

from sidecar import log
from sidecar.daemon.process.control import ask_alive, say_plan
from sidecar.daemon.process.plan import Handover, Plan

_LOG = log.get("supervisor")


@dataclass(kw_only=True, eq=False)
class Worker:
    """A worker process. Times are of the monotonic `clock`, but for `since`, which is in seconds since 1970.

    `cpu` is the number of the one CPU that it runs on, if it is bound to one. `left` is True when it accepts no more
    connections. `handed` counts the newer plans that were passed to it, `taken` those that it judges by, or at least no more by
    an earlier one. `asked` is when the question was put that it has not answered yet, `answered` when it last gave a sign of
    life. `block` is where it counts, if anything is counted.
    """

    what: ClassVar[str] = "a worker"

    pid: int
    control: socket.socket
    plan: Plan
    cpu: int | None = None
    clock: Callable[[], float] = time.monotonic
    born: float = field(init=False)
    since: float = field(default_factory=time.time)
    ready: bool = False
    retiring: bool = False
    left: bool = False
    handed: int = 0
    taken: int = 0
    asked: float | None = None
    answered: float = 0.0
    kill_at: float | None = None
    block: int | None = None

    def __post_init__(self) -> None:
        self.born = self.clock()

    def ask(self) -> None:
        """Ask for a sign of life, unless an answer is still due."""
        if self.ready and self.asked is None:
            self.asked = self.clock()
            ask_alive(self.control)

    def hand(self, handover: Handover) -> None:
        """Pass a newer plan to it."""
        self.handed += 1
        say_plan(self.control, handover)

    def alive(self) -> None:
        """Take a sign of life."""
        self.asked = None
        self.answered = self.clock()

    def kill(self) -> None:
        """Kill it; its death is heard on `control`."""
        self.asked = self.kill_at = None
        with suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)

    def bury(self) -> float:
        """Reap the process: close its control socket, log how it ended, return its lifetime in seconds."""
        self.control.close()
        _, status = os.waitpid(self.pid, 0)
        code = os.waitstatus_to_exitcode(status)
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with status {code}"
        lived = self.clock() - self.born
        tell = _LOG.info if self.retiring and code == 0 else _LOG.error
        tell(f"{self.what} {how}", pid=self.pid, seconds=round(lived, 1), retiring=self.retiring)
        return lived


def freest_cpu(workers: Sequence[Worker], plan: Plan) -> int | None:
    """Return the CPU for one more worker of a plan beside these: of the allowed CPUs, the one with the fewest of them.

    Return None if the settings bind no worker to a CPU. The order begins elsewhere for each installation: containers see the
    same CPUs, often with the same process ids and paths, and must not all choose the lowest ones.
    """
    if not plan.settings.milter.cpu_affinity:
        return None
    allowed = sorted(os.sched_getaffinity(0))
    first = zlib.crc32(f"{plan.node_id} {plan.settings.state_directory}".encode(errors="surrogateescape")) % len(allowed)
    taken = [one.cpu for one in workers]
    return min(allowed[first:] + allowed[:first], key=taken.count)


def stay_on(cpu: int | None) -> None:
    """Bind this process to one CPU. With None, or where the system does not permit it, it runs on all of them.

    Only one thread at a time can run Python. On one CPU there is none that waits for its turn while another has it, and is
    woken for each step of a session: two workers took 7,600 sessions a second bound, and 3,400 free.
    """
    if cpu is not None:
        with suppress(OSError):
            os.sched_setaffinity(0, {cpu})
