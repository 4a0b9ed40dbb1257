"""Opens the database of the list: creates it, converts an older one, and sets a damaged one aside.

Owns which database belongs to the settings, and what each reader and the writer wait for. Never decides what is on the list.
"""

import os
import sqlite3
import time
from contextlib import ExitStack, suppress
from itertools import chain, count
from pathlib import Path
from typing import Final

from sidecar.core.settings.suppression import SuppressionSettings
from sidecar.journal import make_directory, sync_directory
from sidecar.journal.database import BESIDE, StoreError, database_faults, prepare_writing, uri_of
from sidecar.suppression.hashing import AddressHash, form_of, make_key
from sidecar.suppression.node_store import NodeStore
from sidecar.suppression.schema import MIGRATIONS, VERSION
from sidecar.suppression.store import BUSY_SECONDS, Database

# KiB of pages in a reader: the kernel's cache is shared. No process maps the file: one that is cut off would kill it (SIGBUS).
_READER_CACHE: Final = 256
# Each new address changes pages anywhere in the file: with a small cache each of them is read again.
_WRITER_CACHE: Final = 128 * 1024
ASKING_SECONDS: Final = 1.0
"""How long a reader waits for a lock of another program if someone waits for the answer: a sending host, or an HTTP client."""
_ANOTHER: Final = "stop the sidecar, and make a new list from the journal with `sidecar suppression rebuild --new`"
_WRITER_MODE: Final = 0o640


class MissingError(StoreError):
    """There is no database yet."""


def open_reader(settings: SuppressionSettings, *, wait: float = BUSY_SECONDS) -> Database:
    """Open the list to read it, in one thread at a time. Raise StoreError, also if it does not exist yet.

    It waits so many seconds for a lock of another program.
    """
    try:
        settings.database.stat()
    except FileNotFoundError:
        fix = "`sidecar run` with [suppression] makes it, or `sidecar suppression rebuild`"
        raise MissingError(f"{settings.database} does not exist yet; {fix}") from None
    except OSError as error:
        raise StoreError(f"{settings.database} cannot be read: {error.strerror}") from error
    return _open(settings, settings.database, writes=False, wait=wait)


def open_store(settings: SuppressionSettings) -> NodeStore:
    """Open the list to write it: create or migrate it. Raise StoreError, and DamagedError if it has to be rebuilt."""
    path = settings.database
    make_directory(path.parent)
    if not path.exists():
        make_key(settings)
    path.touch(mode=_WRITER_MODE)
    return _open(settings, path, writes=True)


def open_new(settings: SuppressionSettings) -> NodeStore:
    """Create an empty database beside the list, to `replace_with` it. Raise StoreError."""
    make_directory(settings.database.parent)
    make_key(settings)
    remove_unfinished(settings.database)
    path = _unfinished(settings.database)
    path.touch(mode=_WRITER_MODE)
    return _open(settings, path, writes=True)


def _open(settings: SuppressionSettings, path: Path, *, writes: bool, wait: float = BUSY_SECONDS) -> NodeStore:
    mode = "rwc" if writes else "ro"
    try:
        address_hash = AddressHash.of(settings)
    except ValueError as error:
        raise StoreError(f"{path} cannot be read: {error}; if it was made with another `store`, {_ANOTHER}") from error
    with database_faults(path), ExitStack() as stack:
        uri = uri_of(path, mode)
        database = sqlite3.connect(uri, uri=True, timeout=wait, isolation_level=None, check_same_thread=writes)
        stack.callback(database.close)
        store = NodeStore(database, path, address_hash)
        database.execute(f"PRAGMA cache_size = -{_WRITER_CACHE if writes else _READER_CACHE}")
        (version,) = database.execute("PRAGMA user_version").fetchone()
        if version > VERSION:
            raise StoreError(f"{path} is of a newer version of the sidecar ({version}); install that, or rebuild the list")
        if version < VERSION and not writes:
            raise StoreError(f"{path} is of an older version of the sidecar; `sidecar run` converts it")
        if version and store.get_property("store") not in {None, form_of(address_hash)}:
            # No address would be found.
            raise StoreError(f"{path} was made with another `store` or another key: restore that one, or {_ANOTHER}")
        if writes:
            _prepare(database, version, form_of(address_hash))
        stack.pop_all()
    return store


def _prepare(database: sqlite3.Connection, version: int, form: str) -> None:
    prepare_writing(database)
    for script in MIGRATIONS[version:]:
        version += 1
        database.executescript(f"BEGIN IMMEDIATE; {script} PRAGMA user_version = {version}; COMMIT;")
    database.execute("INSERT OR IGNORE INTO property VALUES ('store', ?)", (form,))


def replace_with(path: Path, why: str) -> Path | None:
    """Put the database that `open_new` made, and that is closed, in the place of the list. Return the new name of that.

    Raise OSError.
    """
    with _unfinished(path).open("rb") as file:
        os.fsync(file.fileno())
    _unfinished(path).rename(_finished(path))
    sync_directory(path.parent)
    return finish_replacement(path, why)


def finish_replacement(path: Path, why: str = "old") -> Path | None:
    """Put a finished database in the place of the list, if there is one; a crash between any two steps loses neither.

    Return the new name of the list before, which has `why`; None if there was none. Raise OSError.
    """
    if not _finished(path).exists():
        return None
    aside = _free_name(f"{path}.{why}") if path.exists() and path.stat().st_size else None
    if aside is not None:
        os.link(path, aside)
    # The log of one database must not be read into another one.
    for ending in BESIDE:
        with suppress(FileNotFoundError):
            beside = Path(f"{path}{ending}")
            beside.unlink() if aside is None else beside.rename(f"{aside}{ending}")
    _finished(path).rename(path)
    sync_directory(path.parent)
    return aside


def remove_unfinished(path: Path) -> None:
    """Remove what a crash left of a database that `open_new` made. Raise OSError."""
    for ending in ("", *BESIDE):
        Path(f"{_unfinished(path)}{ending}").unlink(missing_ok=True)


def _unfinished(path: Path) -> Path:
    return Path(f"{path}.new")


def _finished(path: Path) -> Path:
    return Path(f"{path}.built")


def _free_name(begin: str) -> Path:
    """Return a name with the time that no file has."""
    name = f"{begin}-{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}"
    names = chain([name], (f"{name}-{number}" for number in count(1)))
    return next(one for one in map(Path, names) if not one.exists())
