"""Group commit: many threads wait for one file to reach the disk, few of them make the system call.

Owns the waiting. Never writes, and has no thread of its own: one that died would leave every writer waiting.
"""

from collections.abc import Callable
from threading import Condition


class GroupCommit:
    """Makes an append-only file durable for any number of threads at once.

    `fsync` puts all of the file on disk or raises OSError; `written` gives how many bytes of it the kernel has.
    """

    def __init__(self, *, fsync: Callable[[], None], written: Callable[[], int]) -> None:
        self._fsync = fsync
        self._written = written
        self._changed = Condition()
        self._leading = False
        self._durable = 0
        self._failure: BaseException | None = None

    @property
    def failed(self) -> bool:
        """Whether an fsync of this file has ever failed."""
        return self._failure is not None

    def reach(self, end: int) -> None:
        """Return once the first `end` bytes are on disk.

        Raises OSError when they are not, or when nobody can tell any more because an fsync failed.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._durable >= end or not self._leading)
            if self._durable >= end:
                return
            # A second fsync after a failed one may well succeed: Linux reports a failed write-back once and then
            # takes the pages for clean, so success would say nothing about the bytes that were lost ("fsyncgate",
            # PostgreSQL 2018). The first failure therefore is this file's last word, for every waiter.
            if self._failure is not None:
                raise _again(self._failure)
            self._leading = True
        self._lead()

    def _lead(self) -> None:
        """Make one fsync for everything written so far, while others write on and wait for the next."""
        # Read before the call: what is written during an fsync may be in it or not.
        target = self._written()
        failure: BaseException | None = None
        try:
            self._fsync()
        except BaseException as error:
            failure = error
            raise
        finally:
            with self._changed:
                self._leading = False
                self._failure = failure
                if failure is None:
                    self._durable = target
                self._changed.notify_all()


def _again(failure: BaseException) -> OSError:
    """Give each waiter an exception of its own: threads that raise one object write into each other's traceback."""
    if isinstance(failure, OSError):
        return OSError(failure.errno, failure.strerror or str(failure))
    return OSError(f"the fsync that others waited for was cut short by {type(failure).__name__}")
