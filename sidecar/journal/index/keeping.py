"""The one process that keeps the index: its lock, and what happens to an index that is damaged, replaced or made again.

Never reads a record.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from pathlib import Path

from sidecar import log
from sidecar.core.settings.settings import Settings
from sidecar.journal import hold_lock
from sidecar.journal.database import BESIDE, DamagedError, ReplacedError, database_faults, remove_log
from sidecar.journal.index.follower import CutOffError, IndexFollower, RebuildError

_LOG = log.get("index")


class IndexBusyError(Exception):
    """Another process keeps the index up to date."""


def follow(settings: Settings, wait: Callable[[float], bool]) -> None:
    """Keep the index of these settings up to date until `wait` returns True. Raise JournalError, StoreError and OSError."""
    path, damaged = settings.index_file, False
    with suppress(IndexBusyError), locked(settings, wait):
        while True:
            try:
                with database_faults(path), IndexFollower(settings, wait=wait) as follower:
                    damaged = False
                    return follower.run()
            except CutOffError:
                _LOG.warning("a segment of the journal was cut off: reading it again")
            except ReplacedError:
                _LOG.warning("the index of the journal was replaced or removed: opening it again")
            except RebuildError as error:
                _LOG.info(f"{error}: a new index is made of the journal", index=path)
                path.unlink(missing_ok=True)
                remove_log(path)
            except DamagedError as error:
                if damaged:
                    raise  # the new one, too: the disk is at fault
                damaged = True
                _LOG.error(f"{error}: a new index is made of the journal", damaged=set_aside(path))


def locked(settings: Settings, wait: Callable[[float], bool] = lambda _: True) -> AbstractContextManager[None]:
    """Be the one process that writes the index. Raise IndexBusyError if another one is, and `wait` returns True; OSError."""
    return hold_lock(Path(f"{settings.index_file}.lock"), IndexBusyError, wait)


def set_aside(path: Path) -> Path | None:
    """Rename an index with its log, in the place of the one before, and return its new name; None if it does not exist."""
    aside = path.with_name(f"{path.name}.damaged")
    for ending in (*BESIDE, ""):
        with suppress(FileNotFoundError):
            Path(f"{path}{ending}").replace(f"{aside}{ending}")
    return aside if aside.exists() else None
