"""Loading the settings again: on SIGHUP, when files have changed, and after a failure that may pass.

Owns the loader process, and when the next one is started. Never decides what becomes of settings.
"""

import os
import selectors
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

from sidecar import log
from sidecar.config import Loaded
from sidecar.core.findings import Finding
from sidecar.core.settings.values import Source
from sidecar.daemon.process import watch
from sidecar.daemon.process.backoff import Backoff
from sidecar.daemon.process.loader import Loader

# After a loader that died, or a folder that cannot be written to. What is wrong may be over soon, or last for a night.
FIRST_RETRY = 4.0
LONGEST_RETRY = 300.0

_LOG = log.get("supervisor")


class Loading:
    """The loader of the start, and later ones: `loader`, None when none is at work.

    `wanted` asks for a load. `pending` is True from its beginning until `end`.
    """

    def __init__(
        self,
        loader: Loader,
        sources: Iterable[Source],
        *,
        load: Callable[[Path | None], Loader],
        selector: selectors.BaseSelector,
        clock: Callable[[], float],
    ) -> None:
        self.wanted = False
        self.pending = False
        self.look_at = clock() + watch.LOOK_SECONDS
        self._config = loader.config
        self._load = load
        self._selector = selector
        self._clock = clock
        self.loader: Loader | None = loader
        self._files = watch.FileWatch(sources)
        self._tried: watch.Seen | None = None
        self._backoff = Backoff(first=FIRST_RETRY, longest=LONGEST_RETRY)
        self._again_at: float | None = None
        self._unreaped: list[int] = []
        selector.register(loader.control, selectors.EVENT_READ, loader)

    def look(self, *, only_pass: bool) -> None:
        """Want a load if the files differ from what was read and from what was tried, or if a failed load is due again.

        With `only_pass` the time of the next look is all that changes.
        """
        now = self._clock()
        self.look_at = now + watch.LOOK_SECONDS
        if only_pass:
            return
        changed = self._files.changed()
        if changed and self._files.seen != self._tried:
            _LOG.info("files have changed: loading the settings again", files=list(map(str, changed)))
            self.wanted = True
        elif self._again_at is not None and now >= self._again_at:
            _LOG.info("loading the settings again, after a failure that may have passed")
            self.wanted = True

    def begin(self) -> None:
        """Start a loader. Raise OSError where the system has no room for a process."""
        self.wanted = False
        self.pending = True
        self._tried = self._files.seen
        # The warnings of an earlier load are out of date.
        self.drop()
        self.loader = self._load(self._config)
        self._selector.register(self.loader.control, selectors.EVENT_READ, self.loader)

    def hear(self, loader: Loader) -> Loaded | tuple[Finding, ...] | None:
        """Return what a loader passes, None at its end. Whatever fails in here drops the loader, or it would fail for ever."""
        try:
            heard = loader.hear()
        except BaseException:
            self.drop()
            raise
        return heard

    def bury(self, loader: Loader) -> str | None:
        """Close what belongs to a loader that has ended. Return what went wrong, if anything did."""
        self._selector.unregister(loader.control)
        self.loader = None
        return loader.bury()

    def follow(self, loaded: Loaded, folders: Iterable[Path] = ()) -> None:
        """Watch the files of settings that were loaded, and the rights of folders that could not be used."""
        self._files.follow(loaded.sources, folders)

    def end(self, *, again: bool = False) -> None:
        """Settle a load. With `again` it failed for a reason outside the files, and is tried again later."""
        self.pending = False
        if again:
            self._again_at = self._clock() + self._backoff.after(0.0)
        else:
            self._tried = self._again_at = None
            self._backoff = Backoff(first=FIRST_RETRY, longest=LONGEST_RETRY)

    def drop(self) -> None:
        """Kill the loader, and do not wait for its end: it may hang in the kernel, on a disk that does not answer."""
        loader, self.loader = self.loader, None
        if loader is not None:
            self._selector.unregister(loader.control)
            self._unreaped.append(loader.abandon())

    def drop_late(self) -> Loader | None:
        """Drop a loader whose time is over, and return it. Reap those that were dropped before."""
        self._unreaped = [pid for pid in self._unreaped if not _reaped(pid)]
        loader = self.loader
        if loader is None or loader.kill_at is None or self._clock() < loader.kill_at:
            return None
        self.drop()
        return loader

    def due(self, *, looking: bool) -> list[float]:
        """Return the times at which something is to be done."""
        times = [self.look_at] if looking else []
        if self.loader is not None and self.loader.kill_at is not None:
            times.append(self.loader.kill_at)
        return times

    def forget(self) -> None:
        """Close, in a forked child, what is the supervisor's."""
        if self.loader is not None:
            self.loader.control.close()


def _reaped(pid: int) -> bool:
    with suppress(ChildProcessError):
        return os.waitpid(pid, os.WNOHANG)[0] != 0
    return True
