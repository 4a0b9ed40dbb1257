"""Work in which a disk can hang, beside the supervisor's loop: the loop waits for a moment, and not for the disk.

Owns the thread. Never writes a log line there: a child that is forked meanwhile would inherit its locks.
"""

import errno
import threading
from collections.abc import Callable

# A disk that works needs some ms. The loop answers its workers within 20 seconds.
WAIT_SECONDS = 0.2


class Aside:
    """Does one work at a time, and no second one while the first one hangs."""

    def __init__(self) -> None:
        self._thread: threading.Thread | None = None
        self._error: Exception | None = None

    def do(self, work: Callable[[], object], *, within: float = WAIT_SECONDS) -> bool:
        """Return True if the work is done; False if it, or the one before it, takes longer. Raise its exception."""
        if self._thread is not None and self._thread.is_alive():
            return False
        self._error = None
        self._thread = threading.Thread(target=self._run, args=(work,), name="aside", daemon=True)
        try:
            self._thread.start()
        except RuntimeError as error:
            self._thread = None
            raise OSError(errno.EAGAIN, "the system gives no more threads") from error
        self._thread.join(within)
        if self._thread.is_alive():
            return False
        failed = self._end()
        if failed is not None:
            try:
                raise failed
            finally:
                failed = None
        return True

    def _end(self) -> Exception | None:
        """Forget the thread, and return its exception: kept here, a traceback would keep settings with their descriptors."""
        failed, self._error, self._thread = self._error, None, None
        return failed

    def _run(self, work: Callable[[], object]) -> None:
        try:
            work()
        except Exception as error:  # noqa: BLE001 - raised again in the loop, which has the guard
            self._error = error
