"""One process at a time writes the list: it holds a lock. The file of the lock also has the latest revision."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from sidecar.core.settings.suppression import SuppressionSettings
from sidecar.journal import open_lock, try_lock
from sidecar.suppression.opening import finish_replacement, remove_unfinished

_LOOK_SECONDS: Final = 0.25


class BusyError(Exception):
    """Another process keeps the list up to date."""


def lock_of(settings: SuppressionSettings) -> Path:
    """Return the file that the one process which writes the list locks. It has the latest revision."""
    return Path(f"{settings.database}.lock")


@contextmanager
def locked(settings: SuppressionSettings, wait: Callable[[float], bool] = lambda _: True) -> Iterator[None]:
    """Be the one process that writes the list. Raise BusyError if another one is, and `wait` returns True; raise OSError."""
    descriptor = open_lock(lock_of(settings))
    try:
        while not try_lock(descriptor):
            if wait(_LOOK_SECONDS):
                raise BusyError
        # The process before can have been killed.
        remove_unfinished(settings.database)
        finish_replacement(settings.database)
        yield
    finally:
        os.close(descriptor)


def is_kept(settings: SuppressionSettings) -> bool:
    """Return True if a process keeps the list up to date. Raise OSError."""
    with lock_of(settings).open("rb") as file:
        return not try_lock(file.fileno())
