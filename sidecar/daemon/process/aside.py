"""Work in which a disk can hang, beside the supervisor's loop: the loop waits for a moment, and not for the disk.

Owns the thread. Never writes a log line there: a child that is forked meanwhile would inherit its locks.
"""

import errno
import threading
from collections.abc import Callable
from typing import TypeVar

# A disk that works needs some ms. The loop answers its workers within 20 seconds.
WAIT_SECONDS = 0.2

T = TypeVar("T")


class HungError(Exception):
    """The work, or the one before it, takes longer than it may."""


class Aside:
    """Does one work at a time, and no second one while the first one hangs."""

    def __init__(self) -> None:
        self._thread: threading.Thread | None = None
        self._error: Exception | None = None

    def do(self, work: Callable[[], T], *, within: float = WAIT_SECONDS) -> T:
        """Return what the work returns, or raise its exception. Raise HungError, and OSError if there are no threads."""
        if self._thread is not None and self._thread.is_alive():
            raise HungError
        results: list[T] = []
        self._error = None
        self._thread = threading.Thread(target=self._run, args=(lambda: results.append(work()),), name="aside", daemon=True)
        try:
            self._thread.start()
        except RuntimeError as error:
            raise OSError(errno.EAGAIN, "the system gives no more threads") from error
        self._thread.join(within)
        if self._thread.is_alive():
            raise HungError
        failed, self._error = self._error, None
        try:
            if failed is not None:
                raise failed
        finally:
            # Kept here, a traceback would keep settings with their descriptors.
            del failed
        return results[0]

    def _run(self, work: Callable[[], None]) -> None:
        try:
            work()
        except Exception as error:  # noqa: BLE001 - raised again in the loop, which has the guard
            self._error = error
