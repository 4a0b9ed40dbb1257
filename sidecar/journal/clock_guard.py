"""When a sweep last ran, in a small file that all workers share: so one of them sweeps, and a changed clock deletes nothing.

Owns that file. Never deletes anything.

After the clock was set forward, everything looks old. The clock cannot be checked, but the time since the last sweep can: if it
is longer than the pause, the clock was changed or the program did not run. Then nothing is deleted by its age for one pause.
"""

import math
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from sidecar.journal import try_lock

_PAUSE_LIMIT = 24 * 3600.0
# Only its owner may open it: whoever can open a file can lock it, and so stop all sweeps.
_FILE_MODE = 0o600
_FLAGS = os.O_CREAT | os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
# Seconds since 1970: when the next sweep is due, and from when on ages count.
_CONTENT = struct.Struct("<dd")


class ClockGuard:
    """One sweep. `due` is when the next one should run, in seconds since 1970; `paused` means that ages do not count yet.

    With `began` the pause begins with this sweep. Its end is `until`.
    """

    def __init__(self, content: bytes, *, now: float, keep_age: float) -> None:
        until: float
        self.due: float
        self.due, until = _CONTENT.unpack(content) if len(content) == _CONTENT.size else (-math.inf, -math.inf)
        pause = min(_PAUSE_LIMIT, keep_age)
        # Not so for a file that is new or damaged; NaN is never less.
        self.began = not now - self.due <= pause
        # A pause that began while the clock was wrong must not last longer than it would now.
        self.until = now + pause if self.began else min(until, now + pause)
        self.paused = now < self.until

    def warning(self, what: str, setting: str) -> str:
        """Return the warning that `what` will be deleted by a setting after the pause."""
        when = datetime.fromtimestamp(self.until, UTC)
        return (
            f"{what} will be deleted by {setting} at {when:%Y-%m-%d %H:%M:%S} UTC, not now: the clock was set forward, or no "
            "sidecar was running; if the clock is wrong, correct it before"
        )


@contextmanager
def clock_guard(path: Path, *, now: float, keep_age: float) -> Iterator[ClockGuard | None]:
    """Yield the guard of a sweep, None while another process sweeps, and save it at the end of the block. Raise OSError."""
    descriptor = os.open(path, _FLAGS, _FILE_MODE)
    try:
        if not try_lock(descriptor):
            yield None
            return
        guard = ClockGuard(os.pread(descriptor, _CONTENT.size + 1, 0), now=now, keep_age=keep_age)
        yield guard
        # In place: a full disk has space for that.
        os.pwrite(descriptor, _CONTENT.pack(guard.due, guard.until), 0)
        os.ftruncate(descriptor, _CONTENT.size)
    finally:
        os.close(descriptor)
