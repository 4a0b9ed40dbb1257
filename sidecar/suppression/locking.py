"""One process at a time writes the list: it holds a lock. The file of the lock also has the latest revision."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from sidecar.core.settings.suppression import SuppressionSettings
from sidecar.journal import hold_lock, try_lock
from sidecar.suppression.opening import finish_replacement, remove_unfinished


class BusyError(Exception):
    """Another process keeps the list up to date."""


def lock_of(settings: SuppressionSettings) -> Path:
    """Return the file that the one process which writes the list locks. It has the latest revision."""
    return Path(f"{settings.database}.lock")


@contextmanager
def locked(settings: SuppressionSettings, wait: Callable[[float], bool] = lambda _: True) -> Iterator[None]:
    """Be the one process that writes the list. Raise BusyError if another one is, and `wait` returns True; raise OSError."""
    with hold_lock(lock_of(settings), BusyError, wait):
        # The process before can have been killed.
        remove_unfinished(settings.database)
        finish_replacement(settings.database)
        yield


def is_kept(settings: SuppressionSettings) -> bool:
    """Return True if a process keeps the list up to date. Raise OSError."""
    with lock_of(settings).open("rb") as file:
        return not try_lock(file.fileno())
