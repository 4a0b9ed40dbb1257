"""The quarantine: messages that claim to be reports and cannot be read, whole on disk, for somebody to look at later.

Owns the files in the quarantine directory: NAME.eml, the message, and NAME.json, the record that says where it came from and
why it is there. Never decides what is kept, and never removes what is younger than the age it was given.

All workers share one directory, and together keep to its size: a small ledger beside the messages holds the bytes used, and
whoever locks it (flock) may change it. The kernel lets go of the lock however a process dies.
"""

import fcntl
import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from sidecar import log
from sidecar.journal.disk import make_directory, sync_directory, write_all
from sidecar.journal.error import JournalError

_NAME = re.compile(r"[0-9]{8}-[0-9]{6}-[0-9a-f]{32}\.(?:eml|json)")
_LEDGER = ".bytes"
_FILE_MODE = 0o640
_NEW = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC
# A file takes whole blocks: counted by their bytes alone, a flood of small messages would fill a disk, or its inodes.
_BLOCK = 4096

_LOG = log.get("quarantine")


class QuarantineFullError(Exception):
    """The message does not fit into the quarantine any more."""


class Quarantine:
    """Keeps messages in `directory`, `size` bytes at most in all; `sweep` removes those older than `age` seconds.

    Build it after the fork. `clock` gives seconds since 1970.
    """

    def __init__(self, directory: Path, *, size: int, age: int, clock: Callable[[], float] = time.time) -> None:
        self._directory = directory.absolute()
        self._size = size
        self._age = age
        self._clock = clock
        self._said_full = False

    def keep(self, name: str, *, message: bytes, record: bytes) -> None:
        """Put a message and its record on disk, both or none; on return the disk has them.

        `name` is `YYYYMMDD-HHMMSS-` and 32 hex digits. Raises QuarantineFullError, and JournalError for any other reason.
        """
        try:
            make_directory(self._directory)
            self._reserve(_blocks(len(message)) + _blocks(len(record)))
            self._write({self._directory / f"{name}.json": record, self._directory / f"{name}.eml": message})
        except OSError as error:
            raise JournalError.because(
                error,
                fact="a message could not be put into the quarantine in",
                path=self._directory,
                then="each new message tries again",
            ) from error

    def sweep(self) -> None:
        """Remove what is too old, and count anew what is left: an operator may have moved some of it away.

        What cannot be done is a line in the log.
        """
        try:
            if not self._directory.is_dir():
                return
            with self._ledger() as ledger:
                used, removed = self._sweep()
                _write_number(ledger, used)
        except OSError as error:
            _LOG.error("the quarantine could not be swept", directory=self._directory, error=error)
            return
        self._said_full = self._said_full and used > self._size // 2
        if removed:
            _LOG.info("removed from the quarantine what was too old", directory=self._directory, files=removed)

    def _reserve(self, wanted: int) -> None:
        """Take the room before writing; what then is not written is counted out again by the next sweep."""
        with self._ledger() as ledger:
            used = _read_number(ledger)
            if used is None:
                used = sum(_blocks(entry.stat(follow_symlinks=False).st_size) for entry in self._files())
            full = used + wanted > self._size
            _write_number(ledger, used if full else used + wanted)
        if full:
            self._say_full()
            raise QuarantineFullError

    def _say_full(self) -> None:
        if not self._said_full:
            self._said_full = True
            _LOG.error(
                "the quarantine is full: unreadable reports are answered 451 until there is room; "
                "look at its messages and move them away, or raise limits.quarantine_size",
                directory=self._directory,
            )

    def _write(self, files: dict[Path, bytes]) -> None:
        begun: list[Path] = []
        try:
            for path, content in files.items():
                descriptor = os.open(path, _NEW, _FILE_MODE)
                begun.append(path)
                try:
                    write_all(descriptor, content)
                    os.fsync(descriptor)
                finally:
                    os.close(descriptor)
            sync_directory(self._directory)
        except OSError:
            for path in begun:
                with suppress(OSError):
                    path.unlink()
            raise

    def _sweep(self) -> tuple[int, int]:
        """Give the bytes that are left, and the number of files removed."""
        used = removed = 0
        oldest = self._clock() - self._age
        for entry in self._files():
            status = entry.stat(follow_symlinks=False)
            if status.st_mtime < oldest:
                Path(entry).unlink(missing_ok=True)
                removed += 1
            else:
                used += _blocks(status.st_size)
        return used, removed

    def _files(self) -> Iterator[os.DirEntry[str]]:
        with os.scandir(self._directory) as entries:
            yield from (entry for entry in entries if _NAME.fullmatch(entry.name) and entry.is_file(follow_symlinks=False))

    @contextmanager
    def _ledger(self) -> Iterator[int]:
        """Give the ledger's descriptor, locked against every other thread and process."""
        flags = os.O_CREAT | os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(self._directory / _LEDGER, flags, _FILE_MODE)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield descriptor
        finally:
            os.close(descriptor)


def _blocks(size: int) -> int:
    return -(-size // _BLOCK) * _BLOCK


def _read_number(ledger: int) -> int | None:
    """Read the bytes used; None in a ledger that is new, or that something else has written."""
    text = os.pread(ledger, 32, 0)
    return int(text) if text.isdigit() else None


def _write_number(ledger: int, number: int) -> None:
    os.pwrite(ledger, b"%020d" % number, 0)
