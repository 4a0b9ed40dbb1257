"""Opens the database of the list: creates it, converts an older one, and sets a damaged one aside.

Owns which database belongs to the settings, and what each reader and the writer wait for. Never decides what is on the list.
"""

import sqlite3
import time
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Final

from sidecar.core.settings.suppression import SuppressionSettings
from sidecar.journal import make_directory
from sidecar.suppression.faults import DamagedError, MissingError, StoreError, database_faults
from sidecar.suppression.hashing import AddressHash, form_of, make_key
from sidecar.suppression.schema import MIGRATIONS, VERSION
from sidecar.suppression.store import BUSY_SECONDS, Database, uri_of

# KiB of pages in a reader: the kernel's cache is shared. No process maps the file: one that is cut off would kill it (SIGBUS).
_READER_CACHE: Final = 256
# Each new address changes pages anywhere in the file: with a small cache each of them is read again.
_WRITER_CACHE: Final = 128 * 1024
ASKING_SECONDS: Final = 1.0
"""How long a reader waits for a lock of another program if someone waits for the answer: a sending host, or an HTTP client."""
_ANOTHER: Final = "stop the sidecar, and make a new list from the journal with `sidecar suppression rebuild --new`"
_WRITER_MODE: Final = 0o640
# The file format of SQLite, section 1.3.
_BEGIN: Final = b"SQLite format 3\0"


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
    return _open(settings, writes=False, wait=wait)


def open_store(settings: SuppressionSettings) -> Database:
    """Open the list to write it: create or migrate it. Raise StoreError, and DamagedError if it has to be rebuilt."""
    path = settings.database
    make_directory(path.parent)
    if not path.exists():
        make_key(settings)
    path.touch(mode=_WRITER_MODE)
    return _open(settings, writes=True)


def _open(settings: SuppressionSettings, *, writes: bool, wait: float = BUSY_SECONDS) -> Database:
    path, mode = settings.database, "rwc" if writes else "ro"
    try:
        address_hash = AddressHash.of(settings)
    except ValueError as error:
        raise StoreError(f"{path} cannot be read: {error}; if it was made with another `store`, {_ANOTHER}") from error
    with database_faults(path), ExitStack() as stack:
        uri = uri_of(path, mode)
        database = sqlite3.connect(uri, uri=True, timeout=wait, isolation_level=None, check_same_thread=writes)
        stack.callback(database.close)
        store = Database(database, path, address_hash)
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
    database.execute("PRAGMA journal_mode = WAL")
    # What is deleted is overwritten: it is personal data.
    database.execute("PRAGMA secure_delete = ON")
    # A power cut can lose the newest transactions, never half of one: the checkpoint is in it, so they are read again.
    database.execute("PRAGMA synchronous = NORMAL")
    for script in MIGRATIONS[version:]:
        version += 1
        database.executescript(f"BEGIN IMMEDIATE; {script} PRAGMA user_version = {version}; COMMIT;")
    database.execute("INSERT OR IGNORE INTO property VALUES ('store', ?)", (form,))


def require_database(path: Path) -> None:
    """Raise DamagedError if a file does not begin as a database. Its writer has pages in memory, and may not notice."""
    with suppress(OSError), path.open("rb") as file:
        if file.read(len(_BEGIN)) != _BEGIN:
            raise DamagedError(f"{path} is damaged (file is not a database)")


def set_aside(path: Path, why: str = "damaged") -> Path | None:
    """Rename a database with the files beside it, and return its new name; None if it does not exist."""
    aside = path.with_name(f"{path.name}.{why}-{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}")
    for ending in ("-wal", "-shm", ""):
        with suppress(FileNotFoundError):
            Path(f"{path}{ending}").rename(f"{aside}{ending}")
    return aside if aside.exists() else None
