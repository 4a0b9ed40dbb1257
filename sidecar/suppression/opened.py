"""An open database for the reads of one process that lasts, in which another file can take its place at any time.

Owns which faults of a database are those of the operator's machine: look-ups raise `StoreError` only. Never writes.
"""

from contextlib import ExitStack
from pathlib import Path

from sidecar.core.settings.suppression import SuppressionSettings
from sidecar.journal.database import database_faults, file_of
from sidecar.suppression.filtering import filter_of
from sidecar.suppression.opening import ASKING_SECONDS, open_reader
from sidecar.suppression.rules import ListEntry


class OpenedList:
    """The list of these settings, for one thread at a time. Raise StoreError. `filter` is the number of its filter."""

    def __init__(self, settings: SuppressionSettings) -> None:
        self.settings = settings
        with database_faults(settings.database), ExitStack() as stack:
            self._files = _files_of(settings)
            self.database = stack.enter_context(open_reader(settings, wait=ASKING_SECONDS))
            self.filter = filter_of(self.database)
            stack.pop_all()

    def find(self, address: str, now: int) -> ListEntry | None:
        """Return the entry of an address in normal form."""
        with database_faults(self.settings.database):
            return self.database.find(address, now)

    def is_current(self) -> bool:
        """Return False if another file has taken the place of this database, or of its log."""
        with database_faults(self.settings.database):
            return _files_of(self.settings) == self._files

    def renew_filter(self) -> None:
        """Read the number of the filter again: there can be a new one."""
        with database_faults(self.settings.database):
            self.filter = filter_of(self.database)

    def close(self) -> None:
        """Close the database."""
        self.database.close()


def _files_of(settings: SuppressionSettings) -> tuple[tuple[int, int] | None, ...]:
    return file_of(settings.database), file_of(Path(f"{settings.database}-wal"))
