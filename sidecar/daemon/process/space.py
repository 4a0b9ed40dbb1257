"""The space for records: the free bytes of the journal's file systems, and how fast they shrink.

Owns the look at them every few seconds, and the line in the log. Never decides about mail.
"""

import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

from sidecar import log
from sidecar.core.settings.values import RECORD_TYPES, JournalSettings
from sidecar.daemon.process.status import DiskStatus
from sidecar.machine import free_bytes

LOOK_SECONDS = 5.0
# The rate is that of the last minute. A disk that is too full is logged as often.
SAY_SECONDS = 60.0

_LOG = log.get("supervisor")


class Space:
    """The free space for records. `latest` is what the last look found, None before the first."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self.look_at = 0.0
        self.latest: DiskStatus | None = None
        self._shown: DiskStatus | None = None
        self._say_at = 0.0
        self._samples: dict[Path, deque[tuple[float, int]]] = {}

    def look(self, journal: JournalSettings) -> DiskStatus | None:
        """Look at the disks if it is time. Return what `sidecar status` shows: a look each minute, and every change."""
        now = self._clock()
        if now < self.look_at:
            return self._shown
        self.look_at = now + LOOK_SECONDS
        self.latest = min(self._looks(journal, now), key=lambda one: one.free, default=None)
        was_low = self._shown is not None and self._shown.low
        is_low = self.latest is not None and self.latest.low
        if is_low != was_low or now >= self._say_at:
            self._say_at = now + SAY_SECONDS
            self._say(was_low=was_low)
            self._shown = self.latest
        return self._shown

    def _looks(self, journal: JournalSettings, now: float) -> Iterator[DiskStatus]:
        places = (journal.place(record_type) for record_type in RECORD_TYPES)
        directories = dict.fromkeys(place[0] for place in places if place is not None)
        self._samples = {directory: self._samples.get(directory, deque()) for directory in directories}
        for directory, samples in self._samples.items():
            with suppress(OSError):  # a folder that this user cannot reach: the first write reports it
                free = free_bytes(directory)
                samples.append((now, free))
                while samples[0][0] < now - SAY_SECONDS:
                    samples.popleft()
                yield DiskStatus(
                    directory=str(directory),
                    free=free,
                    minimum_free=journal.minimum_free,
                    seconds_left=_seconds_left(samples),
                )

    def _say(self, *, was_low: bool) -> None:
        disk = self.latest
        if disk is not None and disk.low:
            _LOG.error(
                "degraded: the journal's file system has less free space than journal.minimum_free; free some space there: "
                "mail is still handled, but all that needs a record gets 451 when nothing can be written",
                directory=disk.directory,
                free=disk.free,
                minimum_free=disk.minimum_free,
                seconds_left=disk.seconds_left,
            )
        elif was_low and disk is not None:
            _LOG.info("recovered: the journal's file system has room again", directory=disk.directory, free=disk.free)


def _seconds_left(samples: deque[tuple[float, int]]) -> int | None:
    """Return the seconds until nothing is free at the rate of these looks; None where the space does not shrink."""
    (began, before), (now, free) = samples[0], samples[-1]
    return int(free * (now - began) / (before - free)) if before > free else None
