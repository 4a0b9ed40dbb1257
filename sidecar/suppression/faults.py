"""What can be wrong with the database of the list, in sentences for the operator."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class StoreError(Exception):
    """The database cannot be used; the text is one plain sentence for the operator, without a full stop."""


class MissingError(StoreError):
    """There is no database yet."""


class DamagedError(StoreError):
    """The database is no database of ours any more."""


@contextmanager
def database_faults(path: Path) -> Iterator[None]:
    """Raise StoreError, or DamagedError, instead of the errors of SQLite."""
    try:
        yield
    except sqlite3.DatabaseError as error:
        raise _error(error, path) from error


def _error(error: sqlite3.DatabaseError, path: Path) -> StoreError:
    damaged = {"SQLITE_CORRUPT", "SQLITE_NOTADB"}
    if any(str(getattr(error, "sqlite_errorname", "")).startswith(name) for name in damaged):
        return DamagedError(f"{path} is damaged ({error})")
    return StoreError(f"{path} cannot be used: {error}")
