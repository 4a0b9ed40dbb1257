"""The supervisor's loop: it waits for an event, then takes its steps, each of which does what is due.

Owns the loop and its guard, the start's end and the stop; `reload.py` has what happens between them. Never accepts a
connection, and never opens a journal.
"""

import selectors
import signal
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import IO, Any, Final

from msgspec.structs import replace

from sidecar import log
from sidecar.core.settings.values import Source
from sidecar.daemon.metrics import Memory
from sidecar.daemon.milter import Listener
from sidecar.daemon.process import child
from sidecar.daemon.process.admin import AdminProcesses, AdminSocket, ListAccess
from sidecar.daemon.process.loader import Loader, load_again
from sidecar.daemon.process.plan import Plan
from sidecar.daemon.process.publisher import StatusPublisher
from sidecar.daemon.process.reload import Load, Reload
from sidecar.daemon.process.side_task import SideTask, SideTaskProcesses
from sidecar.daemon.process.signals import SignalReader, Terminal
from sidecar.daemon.process.systemd import Watchdog, notify, watchdog_seconds
from sidecar.daemon.process.worker import work
from sidecar.daemon.process.workers import STOP_GRACE, Worker, Workers

# After a turn with a fault: the next turn may have the same fault, and must not take a whole CPU.
FAULT_PAUSE: Final = 1.0

_LOG = log.get("supervisor")


class Supervisor:
    """`run` serves until it is stopped. `plan` was made from `sources`, which `loader` has read.

    `lock` is the open lock file of the state directory. With an `admin_socket`, policy and metrics are served there. Each of
    the `side_tasks` runs in a process of its own. The last three arguments are for tests.
    """

    def __init__(  # noqa: PLR0913 - each is a part of it
        self,
        *,
        listener: Listener,
        plan: Plan,
        sources: Sequence[Source],
        loader: Loader,
        lock: IO[bytes],
        terminal: Terminal,
        suppression: ListAccess,
        admin_socket: AdminSocket | None = None,
        side_tasks: Sequence[SideTask] = (),
        clock: Callable[[], float] = time.monotonic,
        start: child.Start = child.start,
        load: Load = load_again,
    ) -> None:
        self._listener = listener
        self._lock = lock
        self._terminal = terminal
        self._clock = clock
        self._signals = SignalReader()
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._signals, selectors.EVENT_READ)
        # The fleet's policy agent needs the faults that workers count.
        memory = Memory() if admin_socket is not None or plan.settings.fleet is not None else None
        self._publisher = StatusPublisher(
            plan,
            socket=listener.name,
            admin_socket=None if admin_socket is None else admin_socket.name,
            memory=memory,
            list_problem_of=suppression.problem_of,
            clock=clock,
        )
        parts: Any = {"start": start, "selector": self._selector, "clock": clock}
        serve = partial(work, listener, suppression=suppression.known)
        self._workers = Workers(serve=serve, memory=memory, close_inherited=self._close_in_worker, lost=self._lose, **parts)
        self._reload = Reload(
            replace(plan, handover=loader.take_handover()),
            sources,
            loader,
            load=load,
            workers=self._workers,
            publisher=self._publisher,
            fail_start=self._fail_start,
            selector=self._selector,
            clock=clock,
        )
        self._admin = AdminProcesses(admin_socket, memory, suppression, close_inherited=self._close_in_admin, **parts)
        self._side_tasks = [
            SideTaskProcesses(one, selector=self._selector, close_inherited=self._close_in_side_task, start=start, clock=clock)
            for one in side_tasks
        ]
        self._watchdog = Watchdog(within=watchdog_seconds(), listening=listener.name, selector=self._selector, clock=clock)
        self._stopping = False
        self._faulty = False
        self._status = 0

    def run(self) -> int:
        """Serve. Return the exit status: 0 after an orderly stop, 1 if the first workers did not become ready."""
        self._guarded(self._reload.start_coming)
        while self._workers.children or self._others() or not self._stopping:
            self._guarded(self._turn)
        self._publisher.enter("stopped")
        self._guarded(self._show_status)
        _LOG.info("stopped")
        return self._status

    def _turn(self) -> None:
        """Wait for an event, and take all steps. A fault of one of them does not prevent the others."""
        if self._faulty:
            self._faulty = False
            self._signals.wait(FAULT_PAUSE)
        for step in (
            self._wait,
            # First, because all answers are received now: a long step must not make workers late.
            self._workers.kill_late,
            self._reload.kill_late,
            self._handle_signals,
            self._look_at_files,
            self._reload.switch,
            self._reload.follow,
            self._reload.announce,
            self._reload.begin,
            self._ask_for_life,
            self._show_status,
            self._update_admin,
            self._update_side_tasks,
        ):
            self._guarded(step)

    def _guarded(self, step: Callable[[], object]) -> None:
        """Take a step. This is the supervisor's only guard: an unexpected exception is a failed reload at most."""
        try:
            step()
        except Exception as error:  # noqa: BLE001 - see above
            self._faulty = True
            _LOG.error("an unexpected fault: the supervisor continues", step=step.__name__.strip("_"), exc_info=error)
            try:
                self._recover()
            except Exception as second:  # noqa: BLE001 - likewise
                _LOG.error("an unexpected fault after a fault: the supervisor continues", exc_info=second)

    def _recover(self) -> None:
        """End what may be half done: a stop continues, a start fails, and a reload leaves the settings as they were."""
        if self._stopping:
            self._workers.retire_all(STOP_GRACE)
            self._reload.stop()
        else:
            self._reload.recover()

    # --- the steps

    def _wait(self) -> None:
        for key, _ in self._selector.select(self._time_to_next()):
            if key.data is not None:  # what to call; a signal has a step of its own
                key.data()

    def _time_to_next(self) -> float | None:
        """Return the seconds until something is due by the clock, None if nothing is."""
        plan = self._reload.plan
        due = [*self._workers.due(plan), *self._reload.due()]
        due += [when for one in (self._admin, *self._side_tasks) for when in one.due(plan)]
        if plan is not None:
            due += [self._watchdog.ask_at, self._publisher.space.look_at]
        return max(0.0, min(due) - self._clock()) if due else None

    def _lose(self, one: Worker, lived: float) -> None:
        if one.retiring:
            return
        if one.plan is self._reload.coming:
            self._reload.give_up("a worker ended before it was ready; the lines above say why")
        elif one.plan is self._reload.plan:
            self._workers.delay(lived)
            self._publisher.count_restart()

    def _handle_signals(self) -> None:
        for number in self._signals.read():
            if number is signal.SIGHUP and (self._stopping or not self._terminal.is_gone()):
                self._reload.wanted = not self._stopping
            elif self._stopping:
                _LOG.warning(f"{number.name} again: not waiting for open sessions")
                self._workers.retire_all(0.0)
            else:
                why = "the terminal is closed" if number is signal.SIGHUP else number.name
                self._stop(STOP_GRACE)
                _LOG.info(f"{why}: stopping", grace=STOP_GRACE)

    def _look_at_files(self) -> None:
        if self._reload.look():
            self._terminal.look()

    def _ask_for_life(self) -> None:
        if self._reload.plan is not None:
            workers = self._workers.of(self._reload.plan)
            self._watchdog.ask((*workers, *self._others()))
            self._watchdog.feed(workers)

    def _show_status(self) -> None:
        self._publisher.publish(self._reload.plan, self._workers.children)

    def _update_admin(self) -> None:
        self._admin.update(self._reload.plan)

    def _update_side_tasks(self) -> None:
        for one in self._side_tasks:
            one.update(self._reload.plan)

    def _others(self) -> list[Worker]:
        """Return the processes that are no workers."""
        return [child for one in (self._admin, *self._side_tasks) for child in one.children]

    # --- the end

    def _fail_start(self, why: str) -> None:
        _LOG.error(f"cannot start: {why}")
        self._status = 1
        self._stop(0.0)

    def _stop(self, grace: float) -> None:
        self._stopping = True
        self._workers.retire_all(grace)
        self._reload.stop()
        self._publisher.enter("stopping")
        # Another sidecar that starts reads in the status that this one is stopping, and waits for its end.
        self._show_status()
        notify("STOPPING=1")
        self._listener.close()

    # --- in a forked child: close what is the supervisor's

    def _close_in_worker(self) -> None:
        self._close()
        self._admin.close()

    def _close_in_admin(self) -> None:
        self._close()
        self._listener.leave()

    def _close_in_side_task(self) -> None:
        self._close_in_worker()
        self._listener.leave()

    def _close(self) -> None:
        self._selector.close()
        self._signals.close()
        self._watchdog.close()
        self._lock.close()
        self._reload.close()
        self._workers.close_controls()
        for one in self._side_tasks:
            one.close()
