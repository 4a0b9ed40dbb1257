"""The lock of the state directory: one sidecar at a time keeps its state there.

Owns the file `lock` in it, which stays. The lock is the kernel's, and ends with the process, whatever ends that.
"""

import errno
import fcntl
import os
import time
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from sidecar import log
from sidecar.daemon.process.plan import PlanError
from sidecar.daemon.process.retiring import KILL_AFTER, STOP_GRACE
from sidecar.daemon.process.status import read_status

FILE_NAME: Final = "lock"
# A sidecar that stops gives its sessions this time. The next one waits for it, as `systemctl restart` does.
WAIT_WITHIN: Final = STOP_GRACE + KILL_AFTER + 8.0
_LOOK_SECONDS: Final = 0.05
_FLAGS: Final = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_MODE: Final = 0o640
_HELD: Final = frozenset({errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES})

_LOG = log.get("supervisor")


class StateLock:
    """The lock of a state directory that exists. Raise PlanError if another sidecar has it, and is not about to stop.

    A forked child closes it, or it would hold the lock after its supervisor's death.
    """

    def __init__(self, directory: Path) -> None:
        path = directory / FILE_NAME
        try:
            self._descriptor = os.open(path, _FLAGS, _MODE)
        except OSError as error:
            fix = "fix its rights, or remove it while no sidecar runs"
            raise PlanError(f"cannot open {path}: {error.strerror}; {fix}") from error
        try:
            self._wait(directory)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close it. The lock is free when the last process has."""
        os.close(self._descriptor)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _wait(self, directory: Path) -> None:
        until = time.monotonic() + WAIT_WITHIN
        waited = False
        while not self._take(directory):
            pid, ends = _holder(directory)
            if not ends or time.monotonic() >= until:
                who = "another sidecar" if pid is None else f"another sidecar, process {pid},"
                fix = "stop it first, or name another state_directory in the settings of one of the two"
                raise PlanError(f"{who} keeps its state in {directory}: {fix}")
            if not waited:
                _LOG.info("another sidecar with this state directory is stopping: waiting for its end", pid=pid)
                waited = True
            time.sleep(_LOOK_SECONDS)

    def _take(self, directory: Path) -> bool:
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in _HELD:
                return False
            _LOG.warning(f"{directory} cannot be locked: {error.strerror}; see that no other sidecar keeps its state there")
        return True


def _holder(directory: Path) -> tuple[int | None, bool]:
    """Return the process id in the status file, and whether that sidecar is stopping or has just stopped."""
    try:
        status = read_status(directory)
    except (OSError, ValueError):
        return None, False
    return status.pid, status.state in {"stopping", "stopped"}
