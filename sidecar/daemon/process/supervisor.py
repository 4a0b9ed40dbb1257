"""The supervisor's loop: it waits for something to happen, then takes its steps, each of which does what is due.

Owns the workers' processes. Never accepts a connection and never opens a journal.
"""

import os
import selectors
import signal
import time
from collections.abc import Sequence

from msgspec.structs import replace

from sidecar import log
from sidecar.config import Loaded
from sidecar.core.settings.values import Source
from sidecar.daemon.metrics import Memory, Meter
from sidecar.daemon.milter import Listener
from sidecar.daemon.process import watch, watchdog, worker
from sidecar.daemon.process.admin import AdminProcess, Keeper
from sidecar.daemon.process.backoff import Backoff
from sidecar.daemon.process.control import hear_worker, pair
from sidecar.daemon.process.door import Door
from sidecar.daemon.process.loader import Loader
from sidecar.daemon.process.notify import notify
from sidecar.daemon.process.plan import Plan
from sidecar.daemon.process.probe import Probe
from sidecar.daemon.process.process import Worker, freest_cpu, stay_on
from sidecar.daemon.process.reload import replan, tell
from sidecar.daemon.process.retiring import STOP_GRACE, behind, replace_generation, retire
from sidecar.daemon.process.signals import SignalReader, held_back
from sidecar.daemon.process.space import Space
from sidecar.daemon.process.status import Board, WorkerStatus, first_status, in_state, instant, reloaded, serving, show_numbers

# A retiring worker leaves the listening socket, and takes the new settings, in some ms. One that has not by then is ended.
LEAVE_WITHIN = 5.0
# A worker is ready in some 10 ms; one that looks through a folder of a million segments may need a while.
READY_WITHIN = 60.0

_LOG = log.get("supervisor")


class Supervisor:
    """`run` serves until it is told to stop. `plan` was made from `sources`, which `loader` has read.

    With a `door`, policy and metrics are served there.
    """

    def __init__(
        self,
        *,
        listener: Listener,
        plan: Plan,
        sources: Sequence[Source],
        loader: Loader,
        door: Door | None = None,
    ) -> None:
        self._listener = listener
        self._config = loader.config
        self._loader: Loader | None = loader
        self._plan: Plan | None = None
        self._coming: Plan | None = replace(plan, handover=loader.take_handover())
        self._workers: list[Worker] = []
        self._signals = SignalReader()
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._signals, selectors.EVENT_READ)
        self._watchdog = watchdog.Watchdog(within=watchdog.interval(), listening=listener.name, selector=self._selector)
        self._selector.register(loader.control, selectors.EVENT_READ, loader)
        self._files = watch.FileWatch(sources)
        self._look_at = time.monotonic() + watch.LOOK_SECONDS
        self._memory = None if door is None else Memory()
        self._admin = Keeper(door, self._memory, selector=self._selector, forget=self._forget_all)
        self._space = Space()
        self._board = Board(plan.settings.state_directory)
        self._now = first_status(listener.name, plan, None if door is None else door.name)
        self._backoff = Backoff()
        self._start_after = 0.0
        self._tell_by: float | None = None
        self._reload_wanted = False
        self._stopping = False
        self._status = 0

    def run(self) -> int:
        """Serve; give the exit status: 0 after an orderly stop, 1 when the first workers did not become ready."""
        self._spawn_missing(self._coming)
        while self._workers or self._admin.alive or not self._stopping:
            self._wait()
            # First of all, while every answer that has come is heard: a step that takes long is no fault of the workers.
            self._kill_silent()
            self._take_signals()
            self._look_at_files()
            self._settle_coming()
            self._tell_of_serving()
            self._begin_reload()
            self._refill()
            self._kill_overdue()
            self._watch_over_serving()
            self._show_status()
            self._admin.keep(self._plan)
        self._now = in_state(self._now, "stopped")
        self._show_status()
        _LOG.info("stopped")
        return self._status

    # --- what happened

    def _wait(self) -> None:
        for key, _ in self._selector.select(self._time_to_next()):
            if isinstance(key.data, AdminProcess):
                self._admin.hear(key.data)
            elif isinstance(key.data, Worker):
                self._hear(key.data)
            elif isinstance(key.data, Loader):
                self._hear_loader(key.data)
            elif isinstance(key.data, Probe):
                key.data.go_on()

    def _time_to_next(self) -> float | None:
        """Give the seconds until something is due by the clock; None when nothing is."""
        due = [one.kill_at for one in self._workers if one.kill_at is not None]
        due += [answer for one in self._workers if (answer := watchdog.answer_due(one)) is not None]
        due += [self._loader.kill_at] if self._loader is not None and self._loader.kill_at is not None else []
        if self._coming is not None:
            due += [one.born + READY_WITHIN for one in self._of(self._coming)]
        if self._plan is not None:
            due += [self._look_at, self._watchdog.ask_at, self._space.look_at]
            due += [self._start_after] if self._missing(self._plan) else []
            due += [self._tell_by] if self._tell_by is not None else []
        due += self._admin.due(self._plan)
        return max(0.0, min(due) - time.monotonic()) if due else None

    def _hear(self, one: Worker) -> None:
        if (word := hear_worker(one.control)) is not None:
            one.ready |= word == "ready"
            one.left |= word == "left"
            one.taken += word == "taken"
            one.alive()
            return
        self._selector.unregister(one.control)
        self._workers.remove(one)
        lived = one.bury()
        if one.retiring:
            return
        if one.plan is self._coming:
            self._give_up_coming("a worker ended before it was ready; the lines above say why")
        elif one.plan is self._plan:
            self._now = replace(self._now, restarts=self._now.restarts + 1)
            self._start_after = time.monotonic() + self._backoff.after(lived)

    def _hear_loader(self, loader: Loader) -> None:
        heard = loader.hear()
        if isinstance(heard, Loaded):
            self._take_loaded(loader, heard)
        elif heard is not None:
            for problem in heard:
                tell(problem)
        else:
            self._selector.unregister(loader.control)
            self._loader = None
            trouble = loader.bury()
            if trouble is None:
                return
            _LOG.error(trouble)
            if not loader.has_loaded:
                self._fail_reload(f"{trouble}.")

    def _take_signals(self) -> None:
        for number in self._signals.read():
            if number is signal.SIGHUP:
                self._reload_wanted = not self._stopping
            elif self._stopping:
                _LOG.warning(f"{number.name} again: not waiting for open sessions")
                retire(self._workers, 0.0)
            else:
                _LOG.info(f"{number.name}: stopping", grace=STOP_GRACE)
                self._stop(STOP_GRACE)

    # --- the steps

    def _stop(self, grace: float) -> None:
        notify("STOPPING=1")
        self._stopping = True
        self._now = in_state(self._now, "stopping")
        self._reload_wanted = False
        self._drop(self._plan, self._coming)
        self._plan = self._coming = self._tell_by = None
        self._drop_loader()
        self._listener.close()
        retire(self._workers, grace)

    def _look_at_files(self) -> None:
        """Want a reload when the files behind the settings have changed; not in the middle of one."""
        if self._plan is None or time.monotonic() < self._look_at:
            return
        self._look_at = time.monotonic() + watch.LOOK_SECONDS
        wanted = self._plan.settings.reload_on_change and self._coming is None and not self._is_loading()
        if wanted and (changed := self._files.changed()):
            _LOG.info("files have changed: loading the settings again", files=list(map(str, changed)))
            self._reload_wanted = True

    def _begin_reload(self) -> None:
        """Load the settings in a process of its own; wait for an earlier reload to be settled first."""
        settled = self._coming is None and self._tell_by is None and not self._is_loading()
        if not self._reload_wanted or self._plan is None or not settled:
            return
        self._reload_wanted = False
        notify("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")
        # What an earlier one has yet to warn of is out of date.
        self._drop_loader()
        try:
            self._loader = Loader(self._config)
        except OSError as error:
            self._fail_reload(f"cannot start a process to load the settings: {error.strerror}")
            return
        self._selector.register(self._loader.control, selectors.EVENT_READ, self._loader)

    def _take_loaded(self, loader: Loader, loaded: Loaded) -> None:
        """Make a plan of what was loaded, and start its workers beside the old ones."""
        if self._plan is None:
            return
        self._files.follow(loaded.sources)
        made = replan(self._plan, loaded)
        if made.plan is None:
            self._drop_loader()
            self._fail_reload(*made.problems)
            return
        self._coming = replace(made.plan, handover=loader.take_handover())
        self._spawn_missing(self._coming)

    def _fail_reload(self, *problems: str) -> None:
        self._now = reloaded(self._now, problems)
        _LOG.error("the reload failed; the previous settings remain in use")
        notify("READY=1")

    def _is_loading(self) -> bool:
        return self._loader is not None and not self._loader.has_loaded

    def _drop_loader(self) -> None:
        if self._loader is not None:
            self._selector.unregister(self._loader.control)
            self._loader.kill()
            self._loader.bury()
            self._loader = None

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
        self._now = serving(self._now, coming) if old is None else reloaded(serving(self._now, coming))
        if old is not None:
            replace_generation(self._workers, old, coming)
            old.drop()
        self._tell_by = time.monotonic() + LEAVE_WITHIN

    def _tell_of_serving(self) -> None:
        """Log that the plan serves, once every new message is judged by it.

        The old workers have left the listening socket then, and judge what their open connections begin by the new plan.
        """
        if self._plan is None or self._tell_by is None:
            return
        staying = behind(self._workers)
        if staying and time.monotonic() < self._tell_by:
            return
        if staying:
            what = "old workers have not left the socket in time, or not taken the new settings"
            _LOG.warning(f"{what}: they end in {STOP_GRACE:.0f} seconds", pids=[one.pid for one in staying])
            retire(staying, STOP_GRACE)
        self._tell_by = None
        settings = self._plan.settings
        _LOG.info(
            "reloaded" if self._now.reloads else "ready",
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
        self._now = reloaded(self._now, (f"{why}.",))
        _LOG.error(f"the reload failed: {why}; the previous settings remain in use")
        if failed is not None:
            replace_generation(self._workers, failed, self._plan)
            failed.drop()
        notify("READY=1")

    def _refill(self) -> None:
        """Start workers in place of those that died, when it is time."""
        if self._plan is not None and time.monotonic() >= self._start_after:
            self._spawn_missing(self._plan)

    def _kill_overdue(self) -> None:
        if self._loader is not None and self._loader.kill_at is not None and time.monotonic() >= self._loader.kill_at:
            self._loader.kill()
        for one in self._workers:
            if one.kill_at is not None and time.monotonic() >= one.kill_at:
                one.kill()

    def _kill_silent(self) -> None:
        """Kill workers that owe an answer for too long; others are started in their places."""
        for one in watchdog.silent(self._workers):
            within = f"{watchdog.ANSWER_WITHIN:.0f} seconds"
            _LOG.error(
                f"a worker has given no sign of life for {within}: it is killed, and another one takes its place", pid=one.pid
            )
            one.kill()

    def _watch_over_serving(self) -> None:
        if self._plan is not None:
            workers = self._of(self._plan)
            if self._watchdog.ask(workers):
                self._admin.ask()
            self._watchdog.feed(workers)

    def _show_status(self) -> None:
        workers = tuple(
            WorkerStatus(pid=one.pid, ready=one.ready, retiring=one.retiring, since=instant(one.since)) for one in self._workers
        )
        disk = self._now.disk if self._plan is None else self._space.look(self._plan.settings.journal)
        self._now = replace(self._now, workers=workers, disk=disk)
        self._board.show(self._now)
        if self._memory is not None:
            show_numbers(self._memory, self._now, self._space.latest)

    # --- workers

    def _of(self, plan: Plan) -> list[Worker]:
        return [one for one in self._workers if one.plan is plan and not one.retiring]

    def _missing(self, plan: Plan) -> int:
        return max(0, plan.settings.milter.workers - len(self._of(plan)))

    @staticmethod
    def _drop(*plans: Plan | None) -> None:
        for plan in plans:
            if plan is not None:
                plan.drop()

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
        block = None if self._memory is None else self._memory.free(one.block for one in self._workers if one.block is not None)
        meter = None if self._memory is None or block is None else Meter(self._memory.block(block))
        cpu = freest_cpu(self._of(plan), plan)
        with held_back():
            pid = os.fork()
            if pid == 0:
                ours.close()
                self._forget()
                self._admin.forget()
                stay_on(cpu)
                worker.work(theirs, self._listener, plan, meter)
        theirs.close()
        one = Worker(pid=pid, control=ours, plan=plan, cpu=cpu, block=block)
        self._workers.append(one)
        self._selector.register(ours, selectors.EVENT_READ, one)

    def _forget(self) -> None:
        """Let go, in a forked child, of what is the supervisor's: a worker that held another's control would hide its end."""
        self._selector.close()
        self._signals.forget()
        self._watchdog.forget()
        if self._loader is not None:
            self._loader.control.close()
        self._drop(self._plan, self._coming)
        for one in self._workers:
            one.control.close()

    def _forget_all(self) -> None:
        """Let go of the milter's socket as well, in a child that never accepts from it."""
        self._forget()
        self._listener.leave()
