"""What happens on a reload, and when.

1. Wanted: by SIGHUP, by a changed file, or by the clock after a failure that may have passed (`look`).
2. Loading: a process reads the settings (`begin`, `receive`). The supervisor makes a plan of them (`replan`).
3. Starting: the workers of the coming plan start beside the old ones (`_start_coming`).
4. Serving: when all of them are ready, the coming plan becomes the serving one (`switch`). Old workers retire (`follow`).
5. Done: when all old workers have left the socket and judge new messages by the new plan (`announce`).

If anything fails before step 4, the serving plan and its workers remain (`give_up`, `fail`). A start is steps 3 to 5.

Owns the serving plan and the coming one. Never accepts a connection.
"""

import gc
import os
import selectors
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Final

from msgspec.structs import replace

from sidecar import log
from sidecar.config import Loaded
from sidecar.core.findings import Finding
from sidecar.core.settings.domain_table import DomainTable
from sidecar.core.settings.settings import Settings
from sidecar.core.settings.values import Source
from sidecar.daemon.process.aside import Aside, HungError
from sidecar.daemon.process.child import Backoff
from sidecar.daemon.process.loader import Loader
from sidecar.daemon.process.plan import Plan, make_plan
from sidecar.daemon.process.privileges import SetupError
from sidecar.daemon.process.publisher import StatusPublisher
from sidecar.daemon.process.systemd import notify
from sidecar.daemon.process.watch import FileWatch, Seen
from sidecar.daemon.process.workers import READY_WITHIN, STOP_GRACE, Workers

# A look costs one stat(2) for each file. inotify would be faster, but not for files behind links and on network file systems.
LOOK_SECONDS = 2.0
# After a loader that died, or a folder that cannot be written to. The cause may pass soon, or last for a night.
FIRST_RETRY: Final = 4.0
LONGEST_RETRY: Final = 300.0
# A retiring worker leaves the listening socket, and applies the new settings, in some ms. One that takes longer is ended.
LEAVE_WITHIN = 5.0

# What only a start can change.
_KEPT: Final = ("state_directory", "user", "group")
_KEPT_OF_SOCKETS: Final = ("socket", "socket_mode", "socket_owner", "socket_group")

_FAULT: Final = "an unexpected fault, whose traceback is in the log"

Load = Callable[[Path | None, DomainTable | None], Loader]
"""Starts a loader; it gets the settings file, and the table of domains that serves."""

_LOG = log.get("supervisor")


class Reload:
    """The plans, and the steps between them. Each step may be called at any time, and does what is due.

    `plan` is the one that serves, None before the first. `coming` is the one whose workers start. `wanted` asks for a reload.
    `fail_start` is called with the reason if the first plan cannot serve.
    """

    def __init__(  # noqa: PLR0913 - each is a part of it
        self,
        coming: Plan,
        sources: Iterable[Source],
        loader: Loader,
        *,
        load: Load,
        workers: Workers,
        publisher: StatusPublisher,
        fail_start: Callable[[str], None],
        selector: selectors.BaseSelector,
        clock: Callable[[], float],
    ) -> None:
        self.plan: Plan | None = None
        self.coming: Plan | None = coming
        self.loader: Loader | None = loader
        self.wanted = False
        self._loading = False
        self._leave_by: float | None = None
        self._config = loader.config
        self._load, self._workers, self._publisher, self._fail_start = load, workers, publisher, fail_start
        self._selector, self._clock = selector, clock
        self._look_at = clock() + LOOK_SECONDS
        self._files = FileWatch(sources)
        self._looking = Aside()
        self._tried: Seen | None = None
        self._backoff = Backoff(first=FIRST_RETRY, longest=LONGEST_RETRY)
        self._again_at: float | None = None
        self._unreaped: list[int] = []
        self._watch(loader)

    # --- 1. wanted

    def look(self) -> bool:
        """Want a reload if files differ from what was read and from what was tried, or if a failed one is due again.

        Return True if it was time to look.
        """
        now = self._clock()
        if self.plan is None or now < self._look_at:
            return False
        self._look_at = now + LOOK_SECONDS
        if not self.plan.settings.reload_on_change or not self._is_idle():
            return True
        try:
            changed = self._looking.do(self._files.changed)
        except HungError:
            return True  # the next look can find a change
        if changed and self._files.seen != self._tried:
            _LOG.info("files have changed: loading the settings again", files=list(map(str, changed)))
            self.wanted = True
        elif self._again_at is not None and now >= self._again_at:
            _LOG.info("loading the settings again, after a failure that may have passed")
            self.wanted = True
        return True

    def _is_idle(self) -> bool:
        return self.coming is None and self._leave_by is None and not self._loading

    # --- 2. loading

    def begin(self) -> None:
        """Start a loader, if a reload is wanted and none is running."""
        if not self.wanted or self.plan is None or not self._is_idle():
            return
        notify("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")
        self.wanted, self._loading = False, True
        self._tried = self._files.seen
        # The warnings of an earlier load are out of date.
        self._drop_loader()
        try:
            domains = self.plan.settings.domains
            self.loader = self._load(self._config, domains if isinstance(domains, DomainTable) else None)
            self._watch(self.loader)
        except OSError as error:
            self.fail(f"cannot start a process to load the settings: {error.strerror}.", again=True)

    def _watch(self, loader: Loader) -> None:
        self._selector.register(loader.control, selectors.EVENT_READ, partial(self.receive, loader))

    def receive(self, loader: Loader) -> None:
        """Take what a loader passes, or its end."""
        if loader is not self.loader:
            return  # dropped in this turn
        try:
            received = loader.receive()
        except BaseException:
            self._drop_loader()  # or this would fail in every turn
            raise
        if isinstance(received, Loaded):
            self._receive_settings(loader, received)
        elif received is not None:
            for finding in received:
                log_finding(finding)
        else:
            self._selector.unregister(loader.control)
            self.loader = None
            if (trouble := loader.reap()) is not None:
                self._lose(loader, trouble)

    def _receive_settings(self, loader: Loader, loaded: Loaded) -> None:
        if self.plan is None:
            return  # stopped in this turn
        for finding in loaded.problems:
            log_finding(finding)
        self._files.follow(loaded.sources)
        if loaded.settings is None:
            self.fail(*(_in_one_line(finding) for finding in loaded.problems if finding.level == "error"))
            return
        try:
            plan = replan(self.plan, loaded.settings, loaded.sources)
        except SetupError as error:
            _LOG.error(str(error))
            # A repair of the folders is no change of a file.
            self._files.follow(loaded.sources, (loaded.settings.state_directory, *loaded.settings.journal.directories))
            self.fail(f"{error}.", again=True)
            return
        self.coming = replace(plan, handover=loader.take_handover())
        self.start_coming()

    def kill_late(self) -> None:
        """Kill a loader whose time is over. Reap those that were killed before."""
        self._unreaped = [pid for pid in self._unreaped if not _reaped(pid)]
        loader = self.loader
        if loader is not None and loader.kill_at is not None and self._clock() >= loader.kill_at:
            self._drop_loader()
            self._lose(loader, loader.late())

    def _lose(self, loader: Loader, trouble: str) -> None:
        """Log what happened to a loader. Without settings from it the reload has failed."""
        _LOG.error(trouble)
        if not loader.has_loaded:
            self.fail(f"{trouble}.", again=True)

    def _drop_loader(self) -> None:
        """Kill the loader, and do not wait for its end: it may hang in the kernel, on a disk that does not answer."""
        loader, self.loader = self.loader, None
        if loader is not None:
            with suppress(KeyError):  # a fault may have kept it from being registered
                self._selector.unregister(loader.control)
            self._unreaped.append(loader.abandon())

    # --- 3. starting

    def start_coming(self) -> None:
        """Start the workers of the coming plan."""
        if self.coming is not None:
            try:
                self._workers.start_missing(self.coming)
            except OSError:
                self.give_up("the system gives no more processes")

    # --- 4. serving

    def switch(self) -> None:
        """Make the coming plan the serving one, when all of its workers are ready."""
        coming = self.coming
        if coming is None:
            return
        if not self._workers.are_ready(coming):
            if self._workers.are_late(coming):
                self.give_up(f"a worker was not ready within {READY_WITHIN:.0f} seconds")
            return
        # All that may raise is before the assignment: until then the reload can fail as a whole.
        self._end()
        self._workers.start_at_once()
        if self.plan is not None:
            self._publisher.end_reload()
        log.configure(level=coming.settings.log.level, format=coming.settings.log.format)
        leave_by = self._clock() + LEAVE_WITHIN
        old, self.plan, self.coming, self._leave_by = self.plan, coming, None, leave_by
        if old is not None:
            old.handover.close()

    def follow(self) -> None:
        """Retire the workers of other plans than these two, and replace dead workers of the serving plan."""
        if self.plan is not None:
            self._workers.follow(self.plan, self.coming)
            self._workers.refill(self.plan)

    # --- 5. done

    def announce(self) -> None:
        """Log that the plan serves, when every new message is judged by it."""
        if self.plan is None or self._leave_by is None:
            return
        staying = self._workers.behind(self.plan)
        if staying and self._clock() < self._leave_by:
            return
        if staying:
            what = "old workers have not left the socket in time, or not applied the new settings"
            _LOG.warning(f"{what}: they end in {STOP_GRACE:.0f} seconds", pids=[one.pid for one in staying])
            for one in staying:
                one.retire(STOP_GRACE)
        self._leave_by = None
        notify("READY=1")
        settings, now = self.plan.settings, self._publisher.now
        _LOG.info(
            "reloaded" if now.reloads else "ready",
            socket=now.socket,
            workers=settings.milter.workers,
            listener_domains=len(settings.domains),
        )

    # --- failure, and the end

    def give_up(self, why: str) -> None:
        """Keep the serving plan. Without one the start has failed."""
        failed, self.coming = self.coming, None
        if failed is not None:
            failed.handover.close()
        if self.plan is None:
            self._fail_start(why)
        else:
            self.fail(f"{why}.", again=True)

    def fail(self, *problems: str, again: bool = False) -> None:
        """Keep the serving plan. With `again` the cause is not in the files, and they are loaded again later."""
        self._end(again=again)
        self._drop_loader()
        self._publisher.end_reload(*problems)
        _LOG.error("the reload failed; the previous settings remain in use", problems=problems)
        notify("READY=1")

    def _end(self, *, again: bool = False) -> None:
        self._loading = False
        if again:
            self._again_at = self._clock() + self._backoff.after(0.0)
        else:
            self._tried = self._again_at = None
            self._backoff = Backoff(first=FIRST_RETRY, longest=LONGEST_RETRY)

    def recover(self) -> None:
        """Fail what a fault has left half done."""
        if self.coming is not None:
            self.give_up(_FAULT)
        elif self._loading:
            self.fail(f"{_FAULT}.", again=True)

    def stop(self) -> None:
        """Drop both plans and the loader. May be called again."""
        self._close_plans()
        self.plan = self.coming = self._leave_by = None
        self.wanted = self._loading = False
        self._drop_loader()

    def due(self) -> list[float]:
        """Return the times at which something is to be done."""
        times = [] if self.plan is None else [self._look_at]
        times += [] if self._leave_by is None else [self._leave_by]
        return times if self.loader is None or self.loader.kill_at is None else [*times, self.loader.kill_at]

    def close(self) -> None:
        """Close, in a forked child, what is the supervisor's."""
        if self.loader is not None:
            self.loader.control.close()
        self._close_plans()

    def _close_plans(self) -> None:
        for plan in (self.plan, self.coming):
            if plan is not None:
                plan.handover.close()


# --- the next plan


def replan(old: Plan, settings: Settings, sources: Sequence[Source]) -> Plan:
    """Make a plan of new settings, without what a reload cannot change. Raise SetupError."""
    before = old.settings
    kept = {name: getattr(before, name) for name in _KEPT}
    kept_of_milter = {name: getattr(before.milter, name) for name in _KEPT_OF_SOCKETS}
    needs_restart = [name for name, value in kept.items() if value != getattr(settings, name)]
    admin = before.admin
    if admin is not None and settings.admin is not None:
        # The tokens change with a reload; without the section the socket still asks for those from before.
        admin = replace(settings.admin, **{name: getattr(admin, name) for name in _KEPT_OF_SOCKETS})
    needs_restart += ["admin"] if admin != settings.admin else []
    needs_restart += [f"milter.{name}" for name, value in kept_of_milter.items() if value != getattr(settings.milter, name)]
    journal = settings.journal
    if before.state_directory != settings.state_directory and journal.directory == settings.state_directory / "journal":
        journal = replace(journal, directory=before.journal.directory)  # the default, below the state directory
    milter = replace(settings.milter, **kept_of_milter)
    plan = make_plan(replace(settings, journal=journal, milter=milter, admin=admin, **kept), sources)
    for name in needs_restart:
        _LOG.warning(f"{name} has changed: that takes effect at the next start, not at a reload")
    refreeze_memory()
    return replace(plan, needs_restart=tuple(needs_restart))


def freeze_memory() -> None:
    """Keep the garbage collector of the workers off the policy, so that they still share its memory after the fork."""
    gc.collect()
    gc.freeze()


def refreeze_memory() -> None:
    """Do the same for a new plan: what was frozen for the earlier one can be garbage by now."""
    gc.unfreeze()
    freeze_memory()


def log_finding(finding: Finding) -> None:
    """Log a finding of the settings."""
    write = _LOG.error if finding.level == "error" else _LOG.warning
    write(finding.text, code=finding.code, fix=finding.fix, where=finding.place, key=finding.key)


def _in_one_line(finding: Finding) -> str:
    # A fault in a file that is no settings file has no key.
    return ": ".join(filter(None, (finding.place, finding.key, finding.text))) if finding.file else finding.text


def _reaped(pid: int) -> bool:
    with suppress(ChildProcessError):
        return os.waitpid(pid, os.WNOHANG)[0] != 0
    return True
