"""An open database for the reads of one process that lasts, in which another file can take its place at any time.

The caller handles faults with `database_faults`. Never writes.
"""

from contextlib import ExitStack
from pathlib import Path

from sidecar.core.settings.suppression import SuppressionSettings
from sidecar.journal.database import file_of
from sidecar.suppression.filtering import filter_of
from sidecar.suppression.opening import ASKING_SECONDS, open_reader


class OpenedList:
    """The list of these settings, for one thread at a time. `filter` is the number of its filter. Raise StoreError."""

    def __init__(self, settings: SuppressionSettings) -> None:
        self.settings = settings
        with ExitStack() as stack:
            self._files = _files_of(settings)
            self.database = stack.enter_context(open_reader(settings, wait=ASKING_SECONDS))
            self.filter = filter_of(self.database)
            stack.pop_all()

    def is_current(self) -> bool:
        """Return False if another file has taken the place of this database, or of its log."""
        return _files_of(self.settings) == self._files

    def renew_filter(self) -> None:
        """Read the number of the filter again: there can be a new one."""
        self.filter = filter_of(self.database)

    def close(self) -> None:
        """Close the database."""
        self.database.close()


def _files_of(settings: SuppressionSettings) -> tuple[tuple[int, int] | None, ...]:
    return file_of(settings.database), file_of(Path(f"{settings.database}-wal"))
