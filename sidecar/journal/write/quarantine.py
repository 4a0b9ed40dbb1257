"""The quarantine: unparsable reports, complete on disk, for an operator to read.

Owns the files in the quarantine directory: NAME.eml, the message, and NAME.json, its record. Never decides what is kept. It
removes messages older than the age in the settings, and the oldest messages of a network that has more than its share.

All workers share one directory, and together keep to its size: a small ledger beside the messages holds the bytes used, and
the process that locks it (flock) may change it. The kernel releases the lock however a process ends.
Another small file has the time of the last sweep: after the clock was set forward, no message is too old for a while.
"""

import errno
import os
import re
import secrets
import stat
import struct
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from hashlib import blake2b
from ipaddress import IPv4Address, IPv6Address
from itertools import chain
from pathlib import Path
from typing import BinaryIO

from msgspec import Struct

from sidecar import log
from sidecar.core.text import counted, in_units
from sidecar.journal import JournalError, make_directory, sync_directory, try_lock
from sidecar.journal.clock_guard import ClockGuard, clock_guard
from sidecar.journal.write.segment import write_all

# The time, the message's id, and the peer's network: 8 hex digits of an IPv4 address, 16 of an IPv6 /64, none in old names.
_NAME = re.compile(r"([0-9]{8}-[0-9]{6})-([0-9a-f]{32})(?:-([0-9a-f]{8}|[0-9a-f]{16}))?\.(?:eml|json)")
_TIME = "%Y%m%d-%H%M%S"
_IPV4_DIGITS = 8
NETWORK_SHARE = 4
"""One network may have a quarter of the quarantine: a flood of its reports leaves space for those of others."""
# To find a network's oldest messages takes up to 0.2 s, because all names are read: this part of its share is freed at once.
_FREED_SHARE = 16
_FILE_MODE = 0o640
# Each user who can open a file can lock it, and every message of the workers waits for this lock.
_LEDGER_MODE = 0o600
_NEW = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC
# A file needs whole blocks: counted by their bytes alone, a flood of small messages would fill a disk, or its inodes. Directory
# entries need 2 % more.
_BLOCK = 4096
_STAT_BLOCK = 512
# The ledger: the total in digits, a salt, and cells. Each network has one, by the hash of its name. Two networks can share a
# cell; with the salt a sender cannot choose to. The file has 32 kB, for any number of networks.
_LEDGER = ".bytes"
_LAST_SWEEP = ".sweep"
_DIGITS, _SALT, _CELLS = 20, 16, 4096
# A sweep keeps the lock for up to a second. An MTA waits at least 30 seconds for the answer to a message.
LOCK_WITHIN = 10.0
_LOOK_SECONDS = 0.005
_HEAD = _DIGITS + _SALT
_CELL = struct.Struct("<Q")

_LOG = log.get("quarantine")


class QuarantineFullError(Exception):
    """The quarantine has no space for the message."""


class KeptMessage(Struct, frozen=True, kw_only=True):
    """A message in the quarantine: `name` without suffix, the 32 hex digits of its id, and the time of its arrival."""

    name: str
    id: str
    arrived: datetime


class Quarantine:
    """Keeps messages in `directory`, `size` bytes at most in all; `sweep` removes those older than `age` seconds.

    A network that would have more than its share of the size loses its own oldest messages first.
    Build it after the fork. `clock` returns seconds since 1970.
    """

    def __init__(self, directory: Path, *, size: int, age: int, clock: Callable[[], float] = time.time) -> None:
        self._directory = directory.absolute()
        self._size = size
        self._age = age
        self._clock = clock
        self._logged_full = False
        self._logged_share = False

    def keep(self, name: str, *, message: bytes, record: bytes) -> None:
        """Put a message and its record on disk, both or none; on return the disk has them.

        `name` is `YYYYMMDD-HHMMSS-`, 32 hex digits, and `-` with the key of the network. Raise QuarantineFullError, and
        JournalError for any other reason.
        """
        try:
            make_directory(self._directory)
            self._reserve(_network(f"{name}.eml"), _blocks(len(message)) + _blocks(len(record)))
            self._write({self._directory / f"{name}.json": record, self._directory / f"{name}.eml": message})
        except OSError as error:
            fact, then = "a message could not be put into the quarantine in", "each new message tries again"
            raise JournalError.because(error, fact=fact, path=self._directory, then=then) from error

    def sweep(self) -> None:
        """Remove old messages, and count the others again: an operator may have moved messages away. Log a failure."""
        now = self._clock()
        try:
            if not self._directory.is_dir():
                return
            with clock_guard(self._directory / _LAST_SWEEP, now=now, keep_age=self._age) as guard:
                if guard is not None:  # no other worker sweeps
                    guard.due = now
                    self._sweep(now - self._age, guard)
        except OSError as error:
            _LOG.error("the quarantine could not be swept", directory=self._directory, error=error)

    def _sweep(self, oldest: float, guard: ClockGuard) -> None:
        with self._ledger() as ledger:
            old = [name for name, status in self._files() if status.st_mtime < oldest]
            for name in () if guard.paused else old:
                (self._directory / name).unlink(missing_ok=True)
            ledger.fill(self._sizes())
        self._logged_full = self._logged_full and ledger.total > self._size // 2
        self._logged_share = False
        if old and not guard.paused:
            _LOG.info("removed old messages from the quarantine", directory=self._directory, files=len(old))
        elif old and guard.began:
            text = guard.warning(counted(len(old), "file"), "limits.quarantine_age")
            _LOG.warning(text, directory=self._directory)

    def messages(self) -> list[KeptMessage]:
        """Return all messages, the oldest first. Raise OSError."""
        found = {}
        for file, _ in self._files():
            if (match := _NAME.fullmatch(file)) and file.endswith(".eml"):
                with suppress(ValueError):  # 99 is no month
                    arrived = datetime.strptime(match[1], _TIME).replace(tzinfo=UTC)
                    found[file] = KeptMessage(name=Path(file).stem, id=match[2], arrived=arrived)
        return [found[file] for file in sorted(found)]

    @contextmanager
    def opened(self, file: str) -> Iterator[BinaryIO]:
        """Open a file of a message. Raise OSError, also for what no worker writes there.

        Root reads what the user of the workers can replace: by a link, a pipe or a device.
        """
        path = self._directory / file
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise OSError(errno.EINVAL, "it is not a regular file", str(path))
            with os.fdopen(descriptor, "rb", closefd=False) as opened:
                yield opened
        finally:
            os.close(descriptor)

    def read(self, file: str, *, limit: int) -> bytes:
        """Return the bytes of a file of a message. Raise OSError, also for a file of more than `limit` bytes."""
        with self.opened(file) as opened:
            content = opened.read(limit + 1)
        if len(content) > limit:
            raise OSError(errno.EFBIG, f"it has more than {in_units(limit)}", str(self._directory / file))
        return content

    def remove(self, name: str) -> int:
        """Remove both files of a message, and count their bytes as free at once. Return the bytes. Raise OSError."""
        # A ledger that another user makes is useless to the workers. They count all files when they make one.
        if not os.path.lexists(self._directory / _LEDGER):
            return self._unlink(name)
        with self._ledger() as ledger:
            freed = self._unlink(name)
            if ledger.whole:
                ledger.add(_network(f"{name}.eml"), -freed)
        return freed

    def _unlink(self, name: str) -> int:
        freed = 0
        for path in (self._directory / f"{name}{suffix}" for suffix in (".json", ".eml")):
            with suppress(FileNotFoundError):  # an operator can move files away meanwhile
                size = _size_on_disk(path.lstat())
                path.unlink()
                freed += size
        return freed

    def _reserve(self, network: str, wanted: int) -> None:
        """Reserve the bytes before writing. The next sweep releases what was not written."""
        with self._ledger() as ledger:
            if not ledger.whole:
                ledger.fill(self._sizes())
            # One message can be bigger than the share.
            share = max(self._size // NETWORK_SHARE, wanted)
            if network and ledger.used(network) + wanted > share:
                ledger.add(network, -self._free(network, share - wanted))
            full = ledger.total + wanted > self._size
            if not full:
                ledger.add(network, wanted)
        if full:
            if not self._logged_full:
                self._logged_full = True
                _LOG.error(
                    "the quarantine is full: unparsable reports get 451 until it has space; "
                    "read its messages and move them away, or raise limits.quarantine_size",
                    directory=self._directory,
                )
            raise QuarantineFullError

    def _free(self, network: str, limit: int) -> int:
        """Remove a network's oldest messages until the others have at most `limit` bytes. Return the bytes freed."""
        own: defaultdict[str, list[tuple[int, str, int]]] = defaultdict(list)
        for name, status in self._files(network):
            own[Path(name).stem].append((status.st_mtime_ns, name, _size_on_disk(status)))
        used, freed = sum(size for files in own.values() for _, _, size in files), 0
        if used <= limit:
            return 0
        limit = max(0, limit - limit // _FREED_SHARE)
        # Both files of a message are removed together.
        for files in sorted(map(sorted, own.values())):
            if used - freed <= limit:
                break
            for _, name, size in files:
                (self._directory / name).unlink(missing_ok=True)
                freed += size
        if not self._logged_share:
            self._logged_share = True
            number = int(network, 16)
            _LOG.warning(
                "one network fills its share of the quarantine, a quarter: its oldest messages are removed for new ones; "
                "raise limits.quarantine_size to keep them",
                directory=self._directory,
                network=str(IPv4Address(number)) if len(network) == _IPV4_DIGITS else f"{IPv6Address(number << 64)}/64",
            )
        return freed

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

    def _sizes(self) -> dict[str, int]:
        """Return the bytes on disk of each network's files."""
        sizes: defaultdict[str, int] = defaultdict(int)
        for name, status in self._files():
            sizes[_network(name)] += _size_on_disk(status)
        return sizes

    def _files(self, network: str | None = None) -> Iterator[tuple[str, os.stat_result]]:
        """Yield the files of the quarantine, or only those of a network."""
        with os.scandir(self._directory) as entries:
            for entry in entries:
                found = _NAME.fullmatch(entry.name)
                if not found or network not in {None, found[3]} or not entry.is_file(follow_symlinks=False):
                    continue
                with suppress(FileNotFoundError):  # an operator can move files away meanwhile
                    yield entry.name, entry.stat(follow_symlinks=False)

    @contextmanager
    def _ledger(self) -> Iterator["_Ledger"]:
        """Yield the ledger, locked against every other thread and process. Raise OSError, also if it stays locked."""
        path = self._directory / _LEDGER
        flags = os.O_CREAT | os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        fix = "remove it, and the sidecar makes a new one"
        try:
            descriptor = os.open(path, flags, _LEDGER_MODE)
        except OSError as error:
            if error.errno == errno.ELOOP:
                raise OSError(errno.ELOOP, f"{_LEDGER} is a symbolic link: {fix}", str(path)) from error
            raise
        try:
            found = os.fstat(descriptor)
            # Root writes here, too.
            if not stat.S_ISREG(found.st_mode) or found.st_nlink > 1:
                raise OSError(errno.EINVAL, f"{_LEDGER} is no regular file, or has another name: {fix}", str(path))
            # An earlier version let the group open it.
            if stat.S_IMODE(found.st_mode) & ~_LEDGER_MODE:
                os.fchmod(descriptor, _LEDGER_MODE)
            _lock(descriptor, path)
            yield _Ledger(descriptor)
        finally:
            os.close(descriptor)


class _Ledger:
    """The bytes used in all, and by each network. If it is not `whole`, it is new or damaged: call `fill` first."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        head = os.pread(descriptor, _HEAD, 0)
        self.whole = head[:_DIGITS].isdigit() and os.fstat(descriptor).st_size == _HEAD + _CELLS * _CELL.size
        self.total = int(head[:_DIGITS]) if self.whole else 0
        self._salt = head[_DIGITS:]

    def used(self, network: str) -> int:
        """Return the bytes used by a network, and by those that share its cell. Raise OSError."""
        used: int = _CELL.unpack(os.pread(self._descriptor, _CELL.size, _HEAD + self._cell(network) * _CELL.size))[0]
        return used

    def add(self, network: str, size: int) -> None:
        """Add bytes to a network and to the total; a negative size removes them. Raise OSError."""
        self.total = max(0, self.total + size)
        os.pwrite(self._descriptor, b"%0*d" % (_DIGITS, self.total), 0)
        used = _CELL.pack(max(0, self.used(network) + size))
        os.pwrite(self._descriptor, used, _HEAD + self._cell(network) * _CELL.size)

    def fill(self, sizes: Mapping[str, int]) -> None:
        """Write the ledger again, from the bytes of each network. Raise OSError."""
        self._salt = secrets.token_bytes(_SALT)
        self.total = sum(sizes.values())
        cells = [0] * _CELLS
        for network, size in sizes.items():
            cells[self._cell(network)] += size
        parts = chain((b"%0*d" % (_DIGITS, self.total), self._salt), map(_CELL.pack, cells))
        # In one call: a ledger that a crash cut off is not whole.
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, b"".join(parts), 0)
        self.whole = True

    def _cell(self, network: str) -> int:
        return int.from_bytes(blake2b(network.encode(), key=self._salt, digest_size=8).digest(), "little") % _CELLS


def _lock(descriptor: int, path: Path) -> None:
    """Lock an open file. Raise TimeoutError: a process that hangs must not stop the workers, or an operator's command."""
    until = time.monotonic() + LOCK_WITHIN
    while not try_lock(descriptor):
        if time.monotonic() >= until:
            text = f"another process keeps {_LEDGER} locked, and `lsof {path}` shows which one"
            raise TimeoutError(errno.ETIMEDOUT, text, str(path))
        time.sleep(_LOOK_SECONDS)


def _blocks(size: int) -> int:
    return -(-size // _BLOCK) * _BLOCK


def _size_on_disk(status: os.stat_result) -> int:
    # Some file systems know the blocks of a new file only later.
    return max(_blocks(status.st_size), status.st_blocks * _STAT_BLOCK)


def _network(file: str) -> str:
    """Return the network in a file's name; "" if it has none."""
    found = _NAME.fullmatch(file)
    return "" if found is None else found[3] or ""
