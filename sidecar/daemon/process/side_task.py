"""A process for work beside the workers: its start, its replacement and its end. What it does is not known here.

The supervisor never waits for it, and its faults never affect a worker: the journal keeps what it has not read.
"""

import os
import select
import socket
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from threading import Event, Thread
from typing import Any

from msgspec import Struct

from sidecar import log
from sidecar.core.settings.settings import Settings
from sidecar.daemon.process.child import FAILED, ignore_signals, receive_order, send
from sidecar.daemon.process.plan import Plan
from sidecar.daemon.process.workers import OneProcess
from sidecar.journal.read import Checkpoints

# It ends between two transactions. If it is killed instead, the next one continues where it was.
RELOAD_GRACE = 10.0
STOP_GRACE = 3.0
READY_WITHIN = 30.0
# Workers, which MTAs wait for, get the CPU first: a side task does not interrupt them when it has work (SCHED_BATCH). On a busy
# machine it still gets a tenth of a worker's share.
_NICENESS = 10

_LOG = log.get("supervisor")


class SideTask(Struct, frozen=True, kw_only=True):
    """Work in a process of its own. `what` names the process in the log.

    If it reads the journal, `name` is that of its checkpoint; it can have several, with `name`, a dash and more.

    `wanted` returns True if these settings need it. `run` works until the function that it gets returns True; that waits for
    the end, at the longest so many seconds.
    """

    name: str
    what: str
    wanted: Callable[[Settings], bool]
    run: Callable[[Settings, Callable[[float], bool]], None]


class SideTaskProcesses(OneProcess):
    """One process for the plan in use, if that wants it. The other arguments are those of `Processes`."""

    what = "the process of a side task"
    ready_within = READY_WITHIN
    reload_grace = RELOAD_GRACE
    stop_grace = STOP_GRACE

    def __init__(self, task: SideTask, **parts: Any) -> None:  # noqa: ANN401 - see above
        super().__init__(**parts)
        self._task = task
        self.what = task.what  # type: ignore[misc] # each task has its own words
        self._forgotten: Plan | None = None

    def update(self, plan: Plan | None) -> None:
        """Take all steps that are due. Retention does not wait for a task that the plan does not want."""
        super().update(plan)
        if plan is not None and plan is not self._forgotten and not self._wanted(plan):
            self._forgotten = plan
            Checkpoints(plan.settings.checkpoints_directory).remove_all(self._task.name)

    def _wanted(self, plan: Plan) -> int:
        return int(self._task.wanted(plan.settings))

    def _start_one(self, plan: Plan) -> None:
        self._spawn(partial(work, task=self._task, settings=plan.settings), plan)


def work(control: socket.socket, task: SideTask, settings: Settings) -> int:
    """Do the work until the supervisor ends it. Return the exit status."""
    ignore_signals()
    with suppress(OSError):  # the unit of an earlier version forbids it
        os.nice(_NICENESS)
        os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
    log.configure(level=settings.log.level, format=settings.log.format)
    end, failed = Event(), Event()
    ours, theirs = socket.socketpair()

    def run() -> None:
        try:
            task.run(settings, lambda seconds: end.wait(seconds) if seconds else end.is_set())
        except Exception as error:  # noqa: BLE001 - the one guard of this process: another process replaces it
            _LOG.error(f"{task.what} failed", exc_info=error)
            failed.set()
        finally:
            theirs.close()

    # The main thread answers the supervisor, also while the disk does not.
    thread = Thread(target=run, daemon=True)
    thread.start()
    send(control, "ready")
    while control in select.select([control, ours], [], [])[0]:
        if (order := receive_order(control)) == "ping":
            send(control, "alive")
            continue
        end.set()
        thread.join(order if isinstance(order, float) else STOP_GRACE)
        break
    return FAILED if failed.is_set() or not end.is_set() else 0
