"""The status of this process for others: in its file, for systemd, and as numbers for the metrics.

Owns when it is published. Never waits for a disk that hangs.
"""

import os
import time
from collections.abc import Callable, Sequence
from datetime import datetime
from functools import partial
from typing import Final

from msgspec.structs import replace

from sidecar import __version__, log
from sidecar.core.settings.suppression import SuppressionSettings
from sidecar.core.text import rfc3339
from sidecar.daemon.metrics import INFINITE, Memory
from sidecar.daemon.process.aside import WAIT_SECONDS, Aside, HungError
from sidecar.daemon.process.plan import Plan
from sidecar.daemon.process.status import (
    FILE_NAME,
    RENEW_SECONDS,
    DiskSpace,
    ListLook,
    ReloadStatus,
    SettingsStatus,
    State,
    Status,
    WorkerStatus,
    sentence,
    start_ticks,
    ticks_now,
    write_status,
)
from sidecar.daemon.process.systemd import notify, unit_name
from sidecar.daemon.process.workers import Worker
from sidecar.journal.read import Checkpoints
from sidecar.journal.read.checkpoints import KnownReader

# For the last status: without it, `sidecar status` would look for a reason why the program ended.
LAST_WITHIN: Final = 5.0

_LOG = log.get("supervisor")


class StatusPublisher:
    """The status of this process, published when it has changed."""

    def __init__(  # noqa: PLR0913 - each is shown
        self,
        plan: Plan,
        *,
        socket: str,
        admin_socket: str | None = None,
        memory: Memory | None = None,
        list_problem_of: Callable[[SuppressionSettings], str | None] = lambda _: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        now = rfc3339(int(time.time()))
        self.now = Status(
            state="starting",
            since=now,
            pid=os.getpid(),
            start_ticks=start_ticks(os.getpid()),
            version=__version__,
            started=now,
            socket=socket,
            workers_wanted=plan.settings.milter.workers,
            workers=(),
            settings=_settings(plan),
            admin_socket=admin_socket,
            unit=unit_name(),
        )
        self.space = DiskSpace(clock, checkpoints=Checkpoints(plan.settings.checkpoints_directory))
        self._list = ListLook(list_problem_of, clock)
        self._directory = plan.settings.state_directory
        self._memory = memory
        self._clock = clock
        self._writing = Aside()
        self._shown: Status | None = None
        self._renew_at = 0.0
        self._sentence = ""
        self._is_logged = False

    def enter(self, state: State) -> None:
        """Change the state."""
        if self.now.state != state:
            self.now = replace(self.now, state=state, since=rfc3339(int(time.time())))

    def count_restart(self) -> None:
        """Count a worker that died while it served."""
        self.now = replace(self.now, restarts=self.now.restarts + 1)

    def end_reload(self, *problems: str) -> None:
        """Note the end of a reload, which failed if there are problems."""
        self.now = replace(
            self.now,
            last_reload=ReloadStatus(time=rfc3339(int(time.time())), problems=problems),
            reloads=self.now.reloads + (not problems),
            failed_reloads=self.now.failed_reloads + bool(problems),
        )

    def publish(self, plan: Plan | None, workers: Sequence[Worker]) -> None:
        """Publish the plan that serves, and these workers. If the file cannot be written, log it once."""
        shown = (
            WorkerStatus(pid=one.pid, ready=one.ready, retiring=one.retiring, since=rfc3339(int(one.since))) for one in workers
        )
        self.now = replace(self.now, workers=tuple(shown))
        if plan is not None:
            self.enter("serving")
            self.now = replace(
                self.now,
                settings=_settings(plan),
                workers_wanted=plan.settings.milter.workers,
                needs_restart=plan.needs_restart,
                disk=self.space.look(plan.settings.journal),
                suppression=self._list.look(plan.settings.suppression),
            )
        if self._memory is not None:
            self.now = replace(self.now, faults=self._memory.total("faults"))
            _publish_metrics(self._memory, self.now, self.space)
        if self.now != self._shown or self._clock() >= self._renew_at:
            self._write()
        if (text := sentence(self.now)) != self._sentence:
            self._sentence = text
            notify(f"STATUS={text}")

    def _write(self) -> None:
        shown, self._renew_at = self.now, self._clock() + RENEW_SECONDS
        renewed = replace(shown, renewed=rfc3339(int(time.time())), renewed_ticks=ticks_now())
        within = LAST_WITHIN if shown.state == "stopped" else WAIT_SECONDS
        problem = None
        try:
            self._writing.do(partial(write_status, self._directory, renewed), within=within)
            self._shown = shown
        except HungError:
            problem = "its disk does not answer"
        except OSError as error:
            self._shown, problem = shown, error.strerror
        if problem is not None and not self._is_logged:
            path = self._directory / FILE_NAME
            _LOG.warning(f"cannot write {path}: {problem}; sidecar status shows what was there before")
        self._is_logged = problem is not None


def _settings(plan: Plan) -> SettingsStatus:
    return SettingsStatus(revision=plan.revision, loaded=rfc3339(int(plan.made)), listener_domains=len(plan.settings.domains))


def _publish_metrics(memory: Memory, status: Status, space: DiskSpace) -> None:
    """Publish the supervisor's metrics. `space` has the last look, which the status need not show."""
    disk = space.latest
    numbers = {
        ("workers", "wanted"): status.workers_wanted,
        ("workers", "ready"): status.serving() if status.state == "serving" else 0,
        ("workers", "retiring"): sum(one.retiring for one in status.workers),
        ("worker_restarts",): status.restarts,
        ("reloads", "succeeded"): status.reloads,
        ("reloads", "failed"): status.failed_reloads,
        ("listener_domains",): status.settings.listener_domains,
        ("start_timestamp_seconds",): int(datetime.fromisoformat(status.started).timestamp()),
    }
    numbers |= _of_readers(space.readers)
    if disk is not None:
        numbers |= {
            ("degraded",): int(disk.low),
            ("journal_free_bytes",): disk.free,
            ("journal_minimum_free_bytes",): disk.minimum_free,
            ("journal_time_left_seconds",): INFINITE if disk.seconds_left is None else disk.seconds_left,
        }
    memory.publish(numbers)


def _of_readers(readers: Sequence[KnownReader]) -> dict[tuple[str, ...], int]:
    """Return how far readers are behind: the one of a name, and those whose names begin with it and a dash."""
    now, numbers = int(time.time()), dict[tuple[str, ...], int]()
    for name in ("fleet", "webhook", "suppression"):
        own = [one for one in readers if one.name == name or one.name.startswith(f"{name}-")]
        behind = max((now - one.oldest for one in own if one.oldest), default=0)
        numbers["reader_behind_seconds", name] = max(0, behind)
        if name != "suppression":
            numbers["reader_kept_records", name] = sum(one.kept for one in own)
    return numbers
