"""The process that serves HTTP: its listening socket, its start, its replacement and its end.

The supervisor never waits for it, and its faults never affect a worker.
"""

import mmap
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from msgspec import Struct

from sidecar import __version__, log
from sidecar.core.fleet_view import OpenFleet
from sidecar.core.session.suppressing import SuppressionList
from sidecar.core.settings.settings import Settings
from sidecar.core.settings.suppression import SuppressionSettings
from sidecar.core.settings.values import AdminSettings
from sidecar.core.suppressed import EditableList
from sidecar.daemon.metrics import Memory
from sidecar.daemon.process.child import FAILED, ignore_signals, receive_order, send
from sidecar.daemon.process.plan import Plan
from sidecar.daemon.process.worker import ORPHAN_GRACE
from sidecar.daemon.process.workers import OneProcess
from sidecar.daemon.sockets import SocketPath, open_listening

# An answer takes some seconds at most. The end of the program does not wait for it.
RELOAD_GRACE = 10.0
STOP_GRACE = 1.0
# It imports the HTTP server, in some 0.3 s.
READY_WITHIN = 30.0
# Some hundred sessions of 80 bytes.
_SESSIONS_SIZE = 8192
# Connections that wait while another process takes the place of this one.
_BACKLOG = 128

OpenList = Callable[[Settings], EditableList | None]

_LOG = log.get("supervisor")


class ListAccess(Struct, frozen=True, kw_only=True):
    """The suppression list of any settings: workers and explanations ask `known`, and `open` opens it for HTTP.

    `problem_of` returns why it cannot be read, None if it can be. `open` returns None if the settings have no list. `fleet`
    reads the nodes that the console shows.
    """

    known: SuppressionList | None = None
    problem_of: Callable[[SuppressionSettings], str | None] = lambda _: None
    open: OpenList = lambda _: None
    fleet: OpenFleet | None = None


class AdminSocket(NamedTuple):
    """A socket that listens, its name in the settings' spelling, and the sessions of the console, which outlast a reload."""

    socket: socket.socket
    name: str
    sessions: mmap.mmap | None = None


@contextmanager
def open_admin_socket(settings: AdminSettings) -> Iterator[AdminSocket]:
    """Yield the socket of the settings, and remove its path in the end. Raise ListenError.

    It is opened once, before root's rights are given up, and inherited by the process that serves it.
    """
    kind, _, where = settings.socket.partition(":")
    with open_listening(settings, "admin", backlog=_BACKLOG) as one:
        path = SocketPath(Path(where)) if kind == "unix" else None
        try:
            yield AdminSocket(one, settings.socket, mmap.mmap(-1, _SESSIONS_SIZE) if settings.console else None)
        finally:
            if path is not None:
                path.remove()


class AdminProcesses(OneProcess):
    """One process for the plan in use, or none without an `admin_socket`. The other arguments are those of `Processes`.

    It reaches the suppression list by `suppression`.
    """

    what = "the process for admin.socket"
    ready_within = READY_WITHIN
    reload_grace = RELOAD_GRACE
    stop_grace = STOP_GRACE

    def __init__(
        self,
        admin_socket: AdminSocket | None,
        memory: Memory | None,
        suppression: ListAccess,
        **parts: Any,  # noqa: ANN401 - see above
    ) -> None:
        super().__init__(**parts)
        self._suppression = suppression
        self._socket = admin_socket
        self._memory = memory

    def close(self) -> None:
        """In a forked child: close the supervisor's descriptors of this process."""
        super().close()
        if self._socket is not None:
            self._socket.socket.close()

    def _wanted(self, plan: Plan) -> int:  # noqa: ARG002 - one for any plan
        return 0 if self._socket is None else 1

    def _start_one(self, plan: Plan) -> None:
        if self._socket is not None and self._memory is not None:
            self._spawn(
                partial(work, admin_socket=self._socket, memory=self._memory, suppression=self._suppression, plan=plan), plan
            )


def work(control: socket.socket, admin_socket: AdminSocket, memory: Memory, suppression: ListAccess, plan: Plan) -> int:
    """Serve until the supervisor ends it. Return the exit status."""
    try:
        import asyncio  # noqa: PLC0415 - only this process needs it

        ignore_signals()
        asyncio.run(_serve(control, admin_socket, memory, suppression, plan))
    except ImportError as error:
        _LOG.error(f"cannot load the HTTP server: {error}; install the complete program where its user can read it")
        return FAILED
    except Exception as error:  # noqa: BLE001 - the one guard of this process: another process replaces it
        _LOG.error(f"{AdminProcesses.what} failed", exc_info=error)
        return FAILED
    return 0


async def _serve(
    control: socket.socket, admin_socket: AdminSocket, memory: Memory, suppression: ListAccess, plan: Plan
) -> None:
    # Only this process pays for the HTTP server.
    import asyncio  # noqa: PLC0415

    from sidecar.daemon import http  # noqa: PLC0415

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

    application = http.Application(
        plan,
        memory,
        version=__version__,
        listening=admin_socket.name,
        suppressed=suppression.open(plan.settings),
        known=suppression.known,
        sessions=admin_socket.sessions,
        fleet=suppression.fleet,
    )
    server = http.Server(application)
    server.start(admin_socket.socket)
    loop.add_reader(control, on_order)
    send(control, "ready")
    await server.drain(await end)
    application.close()
