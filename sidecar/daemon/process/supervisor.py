"""The supervisor's loop: it waits for an event, then takes its steps, each of which does what is due.

Owns which plan serves, and how one follows the other. Never accepts a connection, and never opens a journal.
"""

import selectors
import signal
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import IO, Final

from msgspec.structs import replace

from sidecar import log
from sidecar.config import Loaded
from sidecar.core.settings.values import Source
from sidecar.daemon.metrics import Memory
from sidecar.daemon.milter import Listener
from sidecar.daemon.process import child, watchdog
from sidecar.daemon.process.admin import AdminProcess, Keeper
from sidecar.daemon.process.admin_socket import AdminSocket
from sidecar.daemon.process.control import hear_worker
from sidecar.daemon.process.loader import Loader
from sidecar.daemon.process.loading import Loading
from sidecar.daemon.process.notify import notify
from sidecar.daemon.process.plan import Plan
from sidecar.daemon.process.probe import Probe
from sidecar.daemon.process.process import Worker
from sidecar.daemon.process.reload import replan, tell
from sidecar.daemon.process.retiring import STOP_GRACE, behind, replace_generation, retire
from sidecar.daemon.process.signals import SignalReader, Terminal
from sidecar.daemon.process.space import Space
from sidecar.daemon.process.status import Board, WorkerStatus, first_status, in_state, instant, reloaded, serving, show_numbers
from sidecar.daemon.process.worker import work
from sidecar.daemon.process.workers import READY_WITHIN, Workers

# A retiring worker leaves the listening socket, and takes the new settings, in some ms. One that has not by then is ended.
LEAVE_WITHIN = 5.0
# After a turn with a fault: the same fault may wait in the next one, and must not take a whole CPU.
FAULT_PAUSE = 1.0

_FAULT: Final = "an unexpected fault, whose traceback is in the log"
_LOG = log.get("supervisor")


class Supervisor:
    """`run` serves until it is told to stop. `plan` was made from `sources`, which `loader` has read.

    With an `admin_socket`, policy and metrics are served there. The last three are the system's, and a test's own in tests.
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
        admin_socket: AdminSocket | None = None,
        clock: Callable[[], float] = time.monotonic,
        start: child.Start = child.start,
        load: Callable[[Path | None], Loader] = Loader,
    ) -> None:
        self._listener = listener
        self._lock = lock
        self._terminal = terminal
        self._clock = clock
        self._plan: Plan | None = None
        self._coming: Plan | None = replace(plan, handover=loader.take_handover())
        self._signals = SignalReader()
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._signals, selectors.EVENT_READ)
        self._memory = None if admin_socket is None else Memory()
        self._workers = Workers(
            serve=partial(work, listener),
            start=start,
            forget=self._forget,
            memory=self._memory,
            selector=self._selector,
            clock=clock,
        )
        self._loading = Loading(loader, sources, load=load, selector=self._selector, clock=clock)
        self._admin = Keeper(
            admin_socket, self._memory, selector=self._selector, forget=self._forget_listener, start=start, clock=clock
        )
        self._watchdog = watchdog.Watchdog(
            within=watchdog.interval(), listening=listener.name, selector=self._selector, clock=clock
        )
        self._space = Space(clock)
        self._board = Board(plan.settings.state_directory)
        self._now = first_status(listener.name, plan, None if admin_socket is None else admin_socket.name)
        self._tell_by: float | None = None
        self._stopping = False
        self._faulty = False
        self._status = 0

    def run(self) -> int:
        """Serve. Return the exit status: 0 after an orderly stop, 1 when the first workers did not become ready."""
        self._guarded(self._begin)
        while self._workers.everyone or self._admin.alive or not self._stopping:
            self._turn()
        self._now = in_state(self._now, "stopped")
        self._guarded(self._show_status)
        _LOG.info("stopped")
        return self._status

    def _turn(self) -> None:
        """Wait for an event, and take all steps. A fault of one of them keeps no other from being taken."""
        if self._faulty:
            self._faulty = False
            self._signals.wait(FAULT_PAUSE)
        for step in (
            self._wait,
            # First of all, while every answer that has come is heard: a step that takes long is no fault of the workers.
            self._kill_late,
            self._take_signals,
            self._look_at_files,
            self._settle_coming,
            self._tell_of_serving,
            self._begin_reload,
            self._refill,
            self._watch_over_serving,
            self._show_status,
            self._keep_admin,
        ):
            self._guarded(step)

    def _guarded(self, step: Callable[[], None]) -> None:
        """Take a step. The one guard of the supervisor: whatever goes wrong is a failed reload at most."""
        try:
            step()
        except Exception as error:  # noqa: BLE001 - see above
            self._faulty = True
            _LOG.error("an unexpected fault: the supervisor goes on", step=step.__name__.strip("_"), exc_info=error)
            try:
                self._recover()
            except Exception as second:  # noqa: BLE001 - likewise
                _LOG.error("an unexpected fault after a fault: the supervisor goes on", exc_info=second)

    def _recover(self) -> None:
        """End what may be half done: a stop goes on, a start fails, and a reload leaves the settings as they were."""
        if self._stopping:
            retire(self._workers.everyone, STOP_GRACE)
        elif self._coming is not None:
            self._give_up_coming(_FAULT)
        elif self._loading.pending and self._tell_by is None:
            self._loading.drop()
            self._fail_reload(f"{_FAULT}.", again=True)

    # --- events

    def _wait(self) -> None:
        for key, _ in self._selector.select(self._time_to_next()):
            if isinstance(key.data, AdminProcess):
                self._admin.hear(key.data)
            elif isinstance(key.data, Worker):
                self._hear(key.data)
            elif isinstance(key.data, Probe):
                key.data.go_on()
            elif key.data is self._loading.loader and key.data is not None:  # it may have been dropped by now
                self._hear_loader(key.data)

    def _time_to_next(self) -> float | None:
        """Return the seconds until something is due by the clock, None when nothing is."""
        due = self._workers.due(self._plan, self._coming) + self._admin.due(self._plan)
        due += self._loading.due(looking=self._plan is not None)
        if self._plan is not None:
            due += [self._watchdog.ask_at, self._space.look_at]
            due += [self._tell_by] if self._tell_by is not None else []
        return max(0.0, min(due) - self._clock()) if due else None

    def _hear(self, one: Worker) -> None:
        if (word := hear_worker(one.control)) is not None:
            one.ready |= word == "ready"
            one.left |= word == "left"
            one.taken += word == "taken"
            one.alive()
            return
        lived = self._workers.bury(one)
        if one.retiring:
            return
        if one.plan is self._coming:
            self._give_up_coming("a worker ended before it was ready; the lines above say why")
        elif one.plan is self._plan:
            self._now = replace(self._now, restarts=self._now.restarts + 1)
            self._workers.put_off(lived)

    def _hear_loader(self, loader: Loader) -> None:
        heard = self._loading.hear(loader)
        if isinstance(heard, Loaded):
            self._take_loaded(loader, heard)
        elif heard is not None:
            for problem in heard:
                tell(problem)
        elif (trouble := self._loading.bury(loader)) is not None:
            self._lose_loader(loader, trouble)

    def _lose_loader(self, loader: Loader, trouble: str) -> None:
        """Log what happened to a loader. Without settings from it the reload has failed."""
        _LOG.error(trouble)
        if not loader.has_loaded:
            self._fail_reload(f"{trouble}.", again=True)

    def _take_signals(self) -> None:
        for number in self._signals.read():
            if number is signal.SIGHUP and (self._stopping or not self._terminal.is_gone()):
                self._loading.wanted = not self._stopping
            elif self._stopping:
                _LOG.warning(f"{number.name} again: not waiting for open sessions")
                retire(self._workers.everyone, 0.0)
            else:
                why = "the terminal is closed" if number is signal.SIGHUP else number.name
                self._stop(STOP_GRACE)
                _LOG.info(f"{why}: stopping", grace=STOP_GRACE)

    # --- the steps

    def _begin(self) -> None:
        """Start the first workers."""
        if self._coming is not None:
            self._start_coming(self._coming)

    def _stop(self, grace: float) -> None:
        self._stopping = True
        self._now = in_state(self._now, "stopping")
        retire(self._workers.everyone, grace)
        plans, self._plan, self._coming, self._tell_by = (self._plan, self._coming), None, None, None
        self._loading.wanted = self._loading.pending = False
        # Another sidecar that starts sees by the status that it need not wait for long.
        self._show_status()
        notify("STOPPING=1")
        self._listener.close()
        self._loading.drop()
        self._drop(*plans)

    def _look_at_files(self) -> None:
        """Want a reload when the files behind the settings have changed; not in the middle of one."""
        if self._plan is None or self._clock() < self._loading.look_at:
            return
        self._terminal.look()
        self._loading.look(only_pass=not self._plan.settings.reload_on_change or not self._is_settled())

    def _is_settled(self) -> bool:
        return self._coming is None and self._tell_by is None and not self._loading.pending

    def _begin_reload(self) -> None:
        """Load the settings in a process of its own; wait for an earlier reload to be settled first."""
        if not self._loading.wanted or self._plan is None or not self._is_settled():
            return
        notify("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")
        try:
            self._loading.begin()
        except OSError as error:
            self._fail_reload(f"cannot start a process to load the settings: {error.strerror}.", again=True)

    def _take_loaded(self, loader: Loader, loaded: Loaded) -> None:
        """Make a plan of what was loaded, and start its workers beside the old ones."""
        if self._plan is None:
            return
        made = replan(self._plan, loaded)
        self._loading.follow(loaded, made.folders)
        if made.plan is None:
            self._loading.drop()
            self._fail_reload(*made.problems, again=bool(made.folders))
            return
        self._coming = replace(made.plan, handover=loader.take_handover())
        self._start_coming(self._coming)

    def _start_coming(self, coming: Plan) -> None:
        try:
            self._workers.start_missing(coming)
        except OSError:
            self._give_up_coming("the system gives no more processes")

    def _fail_reload(self, *problems: str, again: bool = False) -> None:
        """Keep the settings. With `again` the reason may pass, and the files are loaded again later."""
        self._loading.end(again=again)
        self._now = reloaded(self._now, problems)
        _LOG.error("the reload failed; the previous settings remain in use", problems=problems)
        notify("READY=1")

    def _settle_coming(self) -> None:
        """Make the coming plan the one that serves, once all of its workers are ready."""
        coming = self._coming
        if coming is None:
            return
        if not self._workers.are_ready(coming):
            if self._workers.is_late(coming):
                self._give_up_coming(f"a worker was not ready within {READY_WITHIN:.0f} seconds")
            return
        old, self._plan, self._coming = self._plan, coming, None
        self._workers.start_at_once()
        self._now = serving(self._now, coming) if old is None else reloaded(serving(self._now, coming))
        self._loading.end()
        self._tell_by = self._clock() + LEAVE_WITHIN
        if old is not None:
            replace_generation(self._workers.everyone, old, coming)
            old.close()

    def _tell_of_serving(self) -> None:
        """Log that the plan serves, once every new message is judged by it.

        The old workers have left the listening socket then, and judge what their open connections begin by the new plan.
        """
        if self._plan is None or self._tell_by is None:
            return
        staying = behind(self._workers.everyone)
        if staying and self._clock() < self._tell_by:
            return
        self._tell_by = None
        if staying:
            what = "old workers have not left the socket in time, or not taken the new settings"
            _LOG.warning(f"{what}: they end in {STOP_GRACE:.0f} seconds", pids=[one.pid for one in staying])
            retire(staying, STOP_GRACE)
        settings = self._plan.settings
        _LOG.info(
            "reloaded" if self._now.reloads else "ready",
            socket=self._listener.name,
            workers=settings.milter.workers,
            listener_domains=len(settings.domains),
        )
        notify("READY=1")

    def _give_up_coming(self, why: str) -> None:
        """Keep the old plan; without one the start has failed."""
        failed, self._coming = self._coming, None
        if self._plan is None:
            _LOG.error(f"cannot start: {why}")
            self._status = 1
            self._stop(0.0)
        elif failed is not None:
            replace_generation(self._workers.everyone, failed, self._plan)
            self._fail_reload(f"{why}.", again=True)
        self._drop(failed)

    def _refill(self) -> None:
        if self._plan is not None:
            self._workers.refill(self._plan)

    def _kill_late(self) -> None:
        self._workers.kill_late()
        if (late := self._loading.drop_late()) is not None:
            self._lose_loader(late, late.late())

    def _watch_over_serving(self) -> None:
        if self._plan is not None:
            workers = self._workers.of(self._plan)
            if self._watchdog.ask(workers):
                self._admin.ask()
            self._watchdog.feed(workers)

    def _show_status(self) -> None:
        workers = tuple(
            WorkerStatus(pid=one.pid, ready=one.ready, retiring=one.retiring, since=instant(one.since))
            for one in self._workers.everyone
        )
        disk = self._now.disk if self._plan is None else self._space.look(self._plan.settings.journal)
        self._now = replace(self._now, workers=workers, disk=disk)
        self._board.show(self._now)
        if self._memory is not None:
            show_numbers(self._memory, self._now, self._space.latest)

    def _keep_admin(self) -> None:
        self._admin.keep(self._plan)

    # --- in a forked child

    @staticmethod
    def _drop(*plans: Plan | None) -> None:
        for plan in plans:
            if plan is not None:
                plan.close()

    def _forget(self) -> None:
        """Close what is the supervisor's, in a worker."""
        self._forget_own()
        self._admin.forget()

    def _forget_own(self) -> None:
        self._selector.close()
        self._signals.forget()
        self._watchdog.forget()
        self._lock.close()
        self._loading.forget()
        self._drop(self._plan, self._coming)
        self._workers.forget()

    def _forget_listener(self) -> None:
        """Close what is the supervisor's, in the process for HTTP, and the milter's socket as well."""
        self._forget_own()
        self._listener.leave()
