"""SQLite databases that are made of the journal: their faults in sentences, and files that are damaged or replaced.

Owns what is true of all of them. Never knows a table.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from sidecar.core.text import OperatorError

# The file format of SQLite, section 1.3.
_BEGIN: Final = b"SQLite format 3\0"
_DAMAGED: Final = ("SQLITE_CORRUPT", "SQLITE_NOTADB")
BESIDE: Final = ("-wal", "-shm")
"""What the names of the files beside a database end with: its log, and memory of its readers."""


class StoreError(OperatorError):
    """The database cannot be used."""


class DamagedError(StoreError):
    """The database is no database of ours any more."""


class ReplacedError(Exception):
    """Another file has taken the place of the database, or it was removed."""


@contextmanager
def database_faults(path: Path) -> Iterator[None]:
    """Raise StoreError, or DamagedError, instead of the errors of SQLite and of the system."""
    try:
        yield
    except OSError as error:
        raise StoreError(f"{error.filename or path} cannot be used: {error.strerror or error}") from error
    except sqlite3.Error as error:
        if str(getattr(error, "sqlite_errorname", "")).startswith(_DAMAGED):
            raise DamagedError(f"{path} is damaged ({error})") from error
        raise StoreError(f"{path} cannot be used: {error}") from error


@contextmanager
def transaction(database: sqlite3.Connection, path: Path) -> Iterator[None]:
    """Make all changes of the block, or none. Raise StoreError."""
    with database_faults(path):
        database.execute("BEGIN IMMEDIATE")
        try:
            yield
            database.execute("COMMIT")
        except BaseException:
            with suppress(sqlite3.DatabaseError):  # SQLite itself rolls back after some errors
                database.execute("ROLLBACK")
            raise


def prepare_writing(database: sqlite3.Connection) -> None:
    """Set how the process that writes a database does so."""
    database.execute("PRAGMA journal_mode = WAL")
    # What is deleted is overwritten: it is personal data.
    database.execute("PRAGMA secure_delete = ON")
    # A power cut can lose the newest transactions, never half of one: the checkpoint is in it, so they are read again.
    database.execute("PRAGMA synchronous = NORMAL")


def uri_of(path: Path, mode: str) -> str:
    """Return the URI of a database file for SQLite; `mode` is "ro" or "rwc"."""
    return f"file:{str(path.absolute()).replace('%', '%25').replace('?', '%3f').replace('#', '%23')}?mode={mode}"


def file_of(path: Path) -> tuple[int, int] | None:
    """Return the identity of a file: another one of the same name has another; None if there is none. Raise OSError."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino


def require_same(path: Path, file: tuple[int, int] | None) -> None:
    """Raise ReplacedError if a path has another file than this one, and DamagedError if that does not begin as a database.

    The writer of the database has pages in memory, and may notice neither. Raise OSError.
    """
    if file_of(path) != file:
        raise ReplacedError
    with suppress(OSError), path.open("rb") as opened:
        if opened.read(len(_BEGIN)) != _BEGIN:
            raise DamagedError(f"{path} is damaged (file is not a database)")


def remove_log(path: Path) -> None:
    """Remove the log of a database that does not exist any more: it must not be read into another one."""
    for ending in BESIDE:
        Path(f"{path}{ending}").unlink(missing_ok=True)
