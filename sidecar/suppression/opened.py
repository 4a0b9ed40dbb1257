"""An open database for the look-ups of one process.

Owns which faults of a database are those of the operator's machine: callers see `StoreError` only. Never writes.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

from sidecar.core.settings.suppression import SuppressionSettings
from sidecar.suppression.filtering import filter_of, form_of
from sidecar.suppression.hashing import AddressHash
from sidecar.suppression.rules import ListEntry
from sidecar.suppression.store import StoreError, open_reader

# The kernel's cache is shared by all workers. A database that is mapped and cut off would end the process (SIGBUS).
_PRAGMAS: Final = ("PRAGMA mmap_size = 0", "PRAGMA cache_size = -256")


class OpenedList:
    """The list of these settings, for one thread at a time. Raise StoreError. `filter` is the number of its filter.

    A database that was made with another `store`, or with another key, is not used: it would have none of the addresses.
    """

    def __init__(self, settings: SuppressionSettings) -> None:
        self.settings = settings
        with _faults(settings), ExitStack() as stack:
            key = Path(f"{settings.database}.key")
            if settings.store == "hashed" and settings.database.exists() and not key.exists():
                raise ValueError(f"its key, {key}, is missing")
            self._files = _files_of(settings)
            self._database = stack.enter_context(open_reader(settings, any_thread=True))
            self._hash = AddressHash.of(settings) if settings.store == "hashed" else None
            for pragma in _PRAGMAS:
                self._database._database.execute(pragma)  # noqa: SLF001 - of this connection only
            if form_of(self._database) != ("plain" if self._hash is None else f"hashed {self._hash('')}"):
                raise ValueError("it was made with another `store` or another key")
            self.filter = filter_of(self._database)
            stack.pop_all()

    def key(self, address: str) -> str:
        """Return an address in normal form as the database has it."""
        return address if self._hash is None else self._hash(address)

    def find(self, address: str, now: int) -> ListEntry | None:
        """Return the entry of an address in normal form."""
        with _faults(self.settings):
            return self._database.find(address, now)

    def is_current(self) -> bool:
        """Return False if another file has taken the place of this database, or of its log."""
        with _faults(self.settings):
            return _files_of(self.settings) == self._files

    def renew_filter(self) -> None:
        """Read the number of the filter again: there can be a new one."""
        with _faults(self.settings):
            self.filter = filter_of(self._database)

    def close(self) -> None:
        """Close the database."""
        self._database.close()


def file_of(path: Path) -> tuple[int, int] | None:
    """Return the identity of a file: another one of the same name has another; None if there is none. Raise OSError."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino


def _files_of(settings: SuppressionSettings) -> tuple[tuple[int, int] | None, ...]:
    return file_of(settings.database), file_of(Path(f"{settings.database}-wal"))


@contextmanager
def _faults(settings: SuppressionSettings) -> Iterator[None]:
    try:
        yield
    except (OSError, sqlite3.Error, ValueError) as error:
        text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise StoreError(f"{settings.database} cannot be read: {text}") from error
