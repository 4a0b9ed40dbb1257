"""Start, restart, replace and end the process that serves policy and metrics over HTTP.

The supervisor never waits for it, and its faults never affect a worker.
"""

import asyncio
import selectors
import socket
import time
from collections.abc import Callable
from functools import partial

from sidecar import log
from sidecar.daemon.metrics import Memory
from sidecar.daemon.process.admin_socket import AdminSocket
from sidecar.daemon.process.child import FAILED, Start, ignore_signals, receive_order, send, start
from sidecar.daemon.process.plan import Plan
from sidecar.daemon.process.status import VERSION
from sidecar.daemon.process.worker import ORPHAN_GRACE
from sidecar.daemon.process.workers import Processes, Worker

# An answer takes some seconds at most. The end of the program does not wait for it.
RELOAD_GRACE = 10.0
STOP_GRACE = 1.0
# It imports the HTTP server, in some 0.3 s.
READY_WITHIN = 30.0

_LOG = log.get("supervisor")


class AdminProcess(Worker):
    """The process, as the supervisor sees it."""

    what = "the process for admin.socket"
    ready_within = READY_WITHIN


class AdminProcesses(Processes):
    """One process for the plan in use, or none without an `admin_socket`. Call `update` after each event."""

    def __init__(  # noqa: PLR0913 - each is a part of it
        self,
        admin_socket: AdminSocket | None,
        memory: Memory | None,
        *,
        selector: selectors.BaseSelector,
        close_inherited: Callable[[], None],
        start: Start = start,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(start=start, close_inherited=close_inherited, selector=selector, clock=clock)
        self._socket = admin_socket
        self._memory = memory

    def update(self, plan: Plan | None) -> None:
        """Take all steps that are due: start a process for a new plan, end the one before, and kill those that are late."""
        current = [one for one in self.children if one.plan is plan and not one.retiring]
        if plan is not None and not current and self._clock() >= self._start_after:
            self._start_one(plan)
        if plan is None or any(one.ready for one in current):
            for one in self.children:
                if one not in current:
                    one.retire(STOP_GRACE if plan is None else RELOAD_GRACE)
        self.kill_late()

    def ask(self) -> None:
        """Ask for a sign of life."""
        for one in self.children:
            one.ask()

    def due(self, plan: Plan | None) -> list[float]:
        """Return the times (monotonic) at which `update` has something to do."""
        waits = self._socket is not None and plan is not None and all(one.plan is not plan for one in self.children)
        return [*self.deadlines(), self._start_after] if waits else self.deadlines()

    def receive(self, one: AdminProcess) -> None:
        """Apply a message of a process, or its death."""
        if not one.receive():
            lived = self.reap(one)
            if not one.retiring:
                self.delay(lived)

    def close(self) -> None:
        """In a forked child: close the supervisor's descriptors of this process."""
        self.close_controls()
        if self._socket is not None:
            self._socket.close()

    def _start_one(self, plan: Plan) -> None:
        if self._socket is None or self._memory is None:
            return
        serve = partial(work, admin_socket=self._socket, memory=self._memory, plan=plan)
        try:
            self._spawn(serve, partial(AdminProcess, plan=plan))
        except OSError as error:
            _LOG.error(f"cannot start {AdminProcess.what}: {error.strerror}")


def work(control: socket.socket, admin_socket: AdminSocket, memory: Memory, plan: Plan) -> int:
    """Serve until the supervisor ends it. Return the exit status."""
    try:
        ignore_signals()
        asyncio.run(_serve(control, admin_socket, memory, plan))
    except ImportError as error:
        _LOG.error(f"cannot load the HTTP server: {error}; install the complete program where its user can read it")
        return FAILED
    except Exception as error:  # noqa: BLE001 - the one guard of this process: another process replaces it
        _LOG.error(f"{AdminProcess.what} failed", exc_info=error)
        return FAILED
    return 0


async def _serve(control: socket.socket, admin_socket: AdminSocket, memory: Memory, plan: Plan) -> None:
    from sidecar.daemon import http  # noqa: PLC0415 - only this process pays for the HTTP server

    loop = asyncio.get_running_loop()
    # By default it would write tracebacks of many lines to standard error.
    loop.set_exception_handler(lambda _, fault: _LOG.error(fault["message"], exc_info=fault.get("exception")))
    end: asyncio.Future[float] = loop.create_future()

    def on_order() -> None:
        order = receive_order(control)
        if order == "ping":
            send(control, "alive")
        else:
            # Only workers get a newer plan.
            loop.remove_reader(control)
            end.set_result(order if isinstance(order, float) else ORPHAN_GRACE)

    server = http.Server(http.application(plan, memory, version=VERSION, listening=admin_socket.name))
    server.start(admin_socket.socket)
    loop.add_reader(control, on_order)
    send(control, "ready")
    await server.drain(await end)
