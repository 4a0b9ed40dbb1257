"""The quarantine: messages that claim to be reports and cannot be read, whole on disk, for somebody to look at later.

Owns the files in the quarantine directory: NAME.eml, the message, and NAME.json, the record that says where it came from and
why it is there. Never decides what is kept. It removes what is older than the age it was given, and the oldest messages of a
network that has more than its share.

All workers share one directory, and together keep to its size: a small ledger beside the messages holds the bytes used, and
the process that locks it (flock) may change it. The kernel releases the lock however a process dies.
"""

import fcntl
import os
import re
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

from sidecar import log
from sidecar.journal.error import JournalError
from sidecar.journal.write.ledger import Ledger
from sidecar.journal.write.segment import make_directory, sync_directory, write_all

# When, the message's id, and the network it came from: 8 hex digits of an IPv4 address, 16 of an IPv6 /64, none in old names.
_NAME = re.compile(r"[0-9]{8}-[0-9]{6}-[0-9a-f]{32}(?:-([0-9a-f]{8}|[0-9a-f]{16}))?\.(?:eml|json)")
_IPV4_DIGITS = 8
_LEDGER = ".bytes"
NETWORK_SHARE = 4
"""One network may have a quarter of the quarantine: the others, and their unreadable reports, find room beside a flood."""
# Finding a network's oldest messages takes a look at all names, up to 0.2 s: so much of its share is freed at once.
_FREED_SHARE = 16
_FILE_MODE = 0o640
_NEW = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC
# A file takes whole blocks: counted by their bytes alone, a flood of small messages would fill a disk, or its inodes. Directory
# entries take 2 % more.
_BLOCK = 4096
_STAT_BLOCK = 512

_LOG = log.get("quarantine")


class QuarantineFullError(Exception):
    """The message does not fit into the quarantine any more."""


class Quarantine:
    """Keeps messages in `directory`, `size` bytes at most in all; `sweep` removes those older than `age` seconds.

    A network that would have more than its share of the size loses its own oldest messages first.
    Build it after the fork. `clock` gives seconds since 1970.
    """

    def __init__(self, directory: Path, *, size: int, age: int, clock: Callable[[], float] = time.time) -> None:
        self._directory = directory.absolute()
        self._size = size
        self._age = age
        self._clock = clock
        self._said_full = False
        self._said_over = False

    def keep(self, name: str, *, message: bytes, record: bytes) -> None:
        """Put a message and its record on disk, both or none; on return the disk has them.

        `name` is `YYYYMMDD-HHMMSS-`, 32 hex digits, and `-` with the key of the network. Raises QuarantineFullError, and
        JournalError for any other reason.
        """
        try:
            make_directory(self._directory)
            self._reserve(_network(f"{name}.eml"), _blocks(len(message)) + _blocks(len(record)))
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
                removed = self._sweep()
                ledger.fill(self._sizes())
        except OSError as error:
            _LOG.error("the quarantine could not be swept", directory=self._directory, error=error)
            return
        self._said_full = self._said_full and ledger.total > self._size // 2
        self._said_over = False
        if removed:
            _LOG.info("removed from the quarantine what was too old", directory=self._directory, files=removed)

    def _reserve(self, network: str, wanted: int) -> None:
        """Reserve the room before writing. What then is not written is counted out again by the next sweep."""
        with self._ledger() as ledger:
            if not ledger.whole:
                ledger.fill(self._sizes())
            # One message may be bigger than the share.
            share = max(self._size // NETWORK_SHARE, wanted)
            if network and ledger.used(network) + wanted > share:
                ledger.add(network, -self._free(network, share - wanted))
            full = ledger.total + wanted > self._size
            if not full:
                ledger.add(network, wanted)
        if full:
            self._say_full()
            raise QuarantineFullError

    def _free(self, network: str, room: int) -> int:
        """Remove a network's oldest messages until it has less than `room`. Return the bytes freed."""
        own: defaultdict[str, list[tuple[int, str, int]]] = defaultdict(list)
        for name, status in self._files(network):
            own[Path(name).stem].append((status.st_mtime_ns, name, _taken(status)))
        used, freed = sum(size for files in own.values() for _, _, size in files), 0
        if used <= room:
            return 0
        room = max(0, room - room // _FREED_SHARE)
        # Both files of a message go together.
        for files in sorted(map(sorted, own.values())):
            if used - freed <= room:
                break
            for _, name, size in files:
                (self._directory / name).unlink(missing_ok=True)
                freed += size
        if not self._said_over:
            self._said_over = True
            _LOG.warning(
                "one network fills its share of the quarantine, a quarter: its oldest messages are removed for new ones; "
                "raise limits.quarantine_size to keep them",
                directory=self._directory,
                network=_shown(network),
            )
        return freed

    def _say_full(self) -> None:
        if not self._said_full:
            self._said_full = True
            _LOG.error(
                "the quarantine is full: unreadable reports get 451 until there is room; "
                "read its messages and move them away, or raise limits.quarantine_size",
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

    def _sweep(self) -> int:
        """Remove what is too old. Return the number of files removed."""
        removed = 0
        oldest = self._clock() - self._age
        for name, status in self._files():
            if status.st_mtime < oldest:
                (self._directory / name).unlink(missing_ok=True)
                removed += 1
        return removed

    def _sizes(self) -> dict[str, int]:
        """Return the bytes that each network's files take."""
        sizes: defaultdict[str, int] = defaultdict(int)
        for name, status in self._files():
            sizes[_network(name)] += _taken(status)
        return sizes

    def _files(self, network: str | None = None) -> Iterator[tuple[str, os.stat_result]]:
        """Return the files of the quarantine, or only those of a network."""
        with os.scandir(self._directory) as entries:
            for entry in entries:
                found = _NAME.fullmatch(entry.name)
                if not found or network not in {None, found[1]} or not entry.is_file(follow_symlinks=False):
                    continue
                with suppress(FileNotFoundError):  # an operator may move files away meanwhile
                    yield entry.name, entry.stat(follow_symlinks=False)

    @contextmanager
    def _ledger(self) -> Iterator[Ledger]:
        """Return the ledger, locked against every other thread and process."""
        flags = os.O_CREAT | os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(self._directory / _LEDGER, flags, _FILE_MODE)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield Ledger(descriptor)
        finally:
            os.close(descriptor)


def _blocks(size: int) -> int:
    return -(-size // _BLOCK) * _BLOCK


def _shown(network: str) -> str:
    """Return a network as operators write it."""
    number = int(network, 16)
    return str(IPv4Address(number)) if len(network) == _IPV4_DIGITS else f"{IPv6Address(number << 64)}/64"


def _taken(status: os.stat_result) -> int:
    """Return the bytes that a file takes; some file systems know the blocks of a new file only later."""
    return max(_blocks(status.st_size), status.st_blocks * _STAT_BLOCK)


def _network(file: str) -> str:
    """Return the network in a file's name; "" if it has none."""
    found = _NAME.fullmatch(file)
    return "" if found is None else found[1] or ""
