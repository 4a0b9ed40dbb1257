"""The process that serves policy and metrics over HTTP: started, restarted, renewed with each plan, ended.

Owns its life. Never waits for it, and never lets a fault of it touch a worker: without it mail is judged as ever.
"""

import selectors
import socket
import time
from collections.abc import Callable
from functools import partial

from sidecar import log
from sidecar.daemon.metrics import Memory
from sidecar.daemon.process.admin_socket import AdminSocket
from sidecar.daemon.process.child import FAILED, Backoff, Start, control_pair, ignore_signals, receive_order, send, start
from sidecar.daemon.process.plan import Plan
from sidecar.daemon.process.status import VERSION
from sidecar.daemon.process.worker import ORPHAN_GRACE
from sidecar.daemon.process.workers import Worker

# An answer in hand takes some seconds at most. The end of the whole program waits for none of them.
RELOAD_GRACE = 10.0
STOP_GRACE = 1.0
# It imports its HTTP server anew each time, in some 0.3 s.
READY_WITHIN = 30.0

_LOG = log.get("supervisor")


class AdminProcess(Worker):
    """The process, as the supervisor sees it."""

    what = "the process for admin.socket"
    ready_within = READY_WITHIN


class Keeper:
    """Keeps one such process, with the plan that serves; without an `admin_socket`, none. Call `keep` after each event.

    `forget` is called in the forked child, to let go of what is the supervisor's.
    """

    def __init__(  # noqa: PLR0913 - each is a part of it
        self,
        admin_socket: AdminSocket | None,
        memory: Memory | None,
        *,
        selector: selectors.BaseSelector,
        forget: Callable[[], None],
        start: Start = start,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._start = start
        self._clock = clock
        self._socket = admin_socket
        self._memory = memory
        self._selector = selector
        self._forget = forget
        self._processes: list[AdminProcess] = []
        self._backoff = Backoff()
        self._start_after = 0.0

    @property
    def alive(self) -> bool:
        """Tell whether a process is left."""
        return bool(self._processes)

    def keep(self, plan: Plan | None) -> None:
        """Take all steps that are due: begin a generation for a new plan, end the one before, and see that they live."""
        now = self._clock()
        current = [one for one in self._processes if one.plan is plan and not one.retiring]
        if plan is not None and not current and now >= self._start_after:
            self._spawn(plan)
        if plan is None or any(one.ready for one in current):
            for one in self._processes:
                if one not in current:
                    one.retire(STOP_GRACE if plan is None else RELOAD_GRACE)
        for one in self._processes:
            if (deadline := one.deadline) is not None and now >= deadline:
                _LOG.error(f"{one.what} gives no sign of life: it is killed", pid=one.pid)
                one.kill()

    def ask(self) -> None:
        """Ask for a sign of life."""
        for one in self._processes:
            one.ask()

    def due(self, plan: Plan | None) -> list[float]:
        """Give the times (monotonic) at which `keep` has something to do."""
        times = [deadline for one in self._processes if (deadline := one.deadline) is not None]
        waits = self._socket is not None and plan is not None and all(one.plan is not plan for one in self._processes)
        return [*times, self._start_after] if waits else times

    def hear(self, one: AdminProcess) -> None:
        """Take what a process said, or its death."""
        if one.receive():
            return
        self._selector.unregister(one.control)
        self._processes.remove(one)
        lived = one.reap()
        if not one.retiring:
            self._start_after = self._clock() + self._backoff.after(lived)

    def forget(self) -> None:
        """Let go of everything, in a forked child that has nothing to do with it."""
        for one in self._processes:
            one.control.close()
        if self._socket is not None:
            self._socket.close()

    def _spawn(self, plan: Plan) -> None:
        if self._socket is None or self._memory is None:
            return
        ours, theirs = control_pair()
        try:
            pid = self._start(theirs, partial(self._in_child, ours, self._socket, self._memory, plan))
        except BaseException as error:
            self._start_after = self._clock() + self._backoff.after(0.0)
            ours.close()
            if not isinstance(error, OSError):
                raise
            _LOG.error(f"cannot start {AdminProcess.what}: {error.strerror}")
            return
        finally:
            theirs.close()
        process = AdminProcess(pid=pid, control=ours, plan=plan, clock=self._clock)
        self._processes.append(process)
        self._selector.register(ours, selectors.EVENT_READ, process)

    def _in_child(
        self, ours: socket.socket, admin_socket: AdminSocket, memory: Memory, plan: Plan, control: socket.socket
    ) -> int:
        ours.close()
        for one in self._processes:
            one.control.close()
        self._forget()
        return work(control, admin_socket, memory, plan)


def work(control: socket.socket, admin_socket: AdminSocket, memory: Memory, plan: Plan) -> int:
    """Serve until told to end. Return the exit status."""
    try:
        ignore_signals()
        _serve(control, admin_socket, memory, plan)
    except ImportError as error:
        _LOG.error(f"the HTTP server cannot be loaded: {error}; install the program whole, where its user may read it")
        return FAILED
    except Exception as error:  # noqa: BLE001 - whatever it is, another process takes its place
        _LOG.error("the process for admin.socket failed", exc_info=error)
        return FAILED
    return 0


def _serve(control: socket.socket, admin_socket: AdminSocket, memory: Memory, plan: Plan) -> None:
    from sidecar.daemon import http as admin  # noqa: PLC0415 - the HTTP server is for this process alone: no worker pays for it

    def hear() -> float | None:
        heard = receive_order(control)
        if heard == "ping":
            send(control, "alive")
            return None
        # A newer plan is passed to workers only.
        return heard if isinstance(heard, float) else ORPHAN_GRACE

    service = admin.Service(
        policy=plan.policy,
        settings=plan.settings,
        node_id=plan.node_id,
        revision=plan.revision,
        made=plan.made,
        version=VERSION,
    )
    app = admin.application(service, memory, listening=admin_socket.name)
    admin.serve(app, admin_socket.socket, control=control, hear=hear, ready=lambda: send(control, "ready"))
