"""One segment: a file of record lines that one process appends to, until it is finished and read-only.

Owns names, modes, locks, packing, and the promise that a segment ends on a whole line. Never decides when to begin a new one.

A live segment is writable and locked (flock) by the process that writes it. A finished one is read-only. One that is writable
and not locked was left open by a crash: the kernel releases the lock however a process ends.
"""

import errno
import os
import stat
from contextlib import suppress
from datetime import datetime, timedelta
from pathlib import Path
from time import monotonic
from typing import Any, Self

from sidecar.journal import END_OF_FRAME, WRITE_BITS, make_directory, sync_directory, try_lock

_FLAGS = os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_WRONLY | os.O_CLOEXEC
_FILE_MODE = 0o640


class Segment:
    """A live segment. One thread at a time appends; another one can sync it meanwhile.

    `size` counts the bytes of whole lines passed to the kernel, before packing; `born` is on the monotonic clock, in seconds.
    With a `level` of compression the lines are packed.
    """

    def __init__(self, path: Path, descriptor: int, level: int | None) -> None:
        self.path = path
        self.size = 0
        self.born = monotonic()
        self._descriptor = descriptor
        self._packer = None if level is None else _Packer(level)
        self._stored = 0
        self._synced = 0
        self._torn = False
        self._broken_off = False
        self._failure: OSError | None = None

    @classmethod
    def create(cls, directory: Path, instant: datetime, *, suffix: str, level: int | None) -> Self:
        """Begin a segment, and its directory if there is none; both names are on disk on return. Raise OSError.

        It is named `YYYYMMDD-HHMMSS.ffffff` and the suffix, after the instant (UTC): names sort as time does.
        """
        make_directory(directory)
        path, descriptor = _create_file(directory, instant, suffix)
        try:
            # An fsync of the file puts its bytes on disk; its name needs one of the directory (fsync(2)).
            sync_directory(directory)
        except OSError:
            # Every later write tries again: each try would leave an empty file behind.
            _remove(path)
            os.close(descriptor)
            raise
        return cls(path, descriptor, level)

    def usable(self) -> bool:
        """Return True if lines appended now will be kept.

        They are not kept after a failed fsync, behind half a line, or in a removed file: the kernel would accept lines
        that cannot be read.
        """
        damaged = self._torn or self._broken_off or self._failure is not None
        return not (damaged or os.fstat(self._descriptor).st_nlink == 0)

    def append(self, lines: bytes) -> None:
        """Pass all of `lines` to the kernel, or none. Raise OSError."""
        stored = lines if self._packer is None else self._packer.pack(lines)
        try:
            write_all(self._descriptor, stored)
        except OSError:
            self._cut()
            raise
        self.size += len(lines)
        self._stored += len(stored)

    def _cut(self) -> None:
        """Remove what a failed write left: no line may follow half a line."""
        try:
            os.ftruncate(self._descriptor, self._stored)
        except OSError:
            self._torn = True
        if self._packer is not None:
            # The next block could refer to the lost one. A second frame in this file would confuse a reader that already has
            # half of the lost block.
            self._broken_off = self._stored > 0
            self._packer.restart()

    def sync(self) -> None:
        """Put all lines on disk. Raise OSError, also if an earlier sync failed."""
        # After a failed fsync a second one can succeed without the lost bytes: Linux reports a failed write-back once
        # ("fsyncgate", PostgreSQL 2018). So the first failure is final.
        if self._failure is not None:
            raise OSError(self._failure.errno, self._failure.strerror)
        # Read before the call: it is not certain that what is appended meanwhile is on disk after it.
        target = self._stored
        if target > self._synced:
            try:
                os.fsync(self._descriptor)
            except OSError as error:
                self._failure = error
                raise
            self._synced = target

    def finish(self) -> None:
        """Put all lines on disk, make the file read-only and close it. Raise OSError if lines may be lost.

        An empty segment is removed. A torn one, or one whose fsync failed, stays writable: the next start cuts half a line off
        and tries again.
        """
        try:
            self._end_frame()
            self.sync()
            if self._stored == 0:
                _remove(self.path)
            elif not self._torn:
                with suppress(OSError):  # without the mode, the next start finishes it
                    make_read_only(self._descriptor)
        finally:
            os.close(self._descriptor)

    def _end_frame(self) -> None:
        """End the frame of a packed segment; if that fails the next start does it, and all lines can be read meanwhile."""
        if self._packer is None or not self._stored or self._torn:
            return
        try:
            write_all(self._descriptor, END_OF_FRAME)
        except OSError:
            self._torn = True
        else:
            self._stored += len(END_OF_FRAME)


class _Packer:
    """Packs lines into one zstd frame. `level` is KumoMTA's `compression_level`: 0 is zstd's own choice, else from 1 to 21."""

    def __init__(self, level: int) -> None:
        # Imported late: a worker that writes plain lines does not need it.
        import zstandard  # noqa: PLC0415

        self._flush = zstandard.COMPRESSOBJ_FLUSH_BLOCK
        self._compressor = zstandard.ZstdCompressor(level=level, write_checksum=False, write_content_size=False)
        self._frame: Any = None

    def pack(self, lines: bytes) -> bytes:
        """Return whole blocks: with those before them they unpack to all lines.

        Lines of an answered message must not wait in a buffer. One by one, records of bounces shrink to a ninth, all at once to
        a twelfth.
        """
        if self._frame is None:
            self._frame = self._compressor.compressobj()
        packed: bytes = self._frame.compress(lines) + self._frame.flush(self._flush)
        return packed

    def restart(self) -> None:
        """Begin a new frame with the next lines."""
        self._frame = None


def try_lock_segment(descriptor: int) -> bool:
    """Lock the segment for this process; False if another process has it, or has just removed it. Raise OSError."""
    return try_lock(descriptor) and os.fstat(descriptor).st_nlink > 0


def make_read_only(descriptor: int) -> None:
    """Mark a segment as finished. Raise OSError."""
    # No fsync follows: if a power cut undoes the mode, the next start finishes the segment again.
    os.fchmod(descriptor, stat.S_IMODE(os.fstat(descriptor).st_mode) & ~WRITE_BITS)


def write_all(descriptor: int, content: bytes) -> None:
    """Write all bytes, usually in one call. Raise OSError.

    A disk that fills up accepts a part, and only the next call reports the error.
    """
    rest = memoryview(content)
    while rest:
        count = os.write(descriptor, rest)
        if count == 0:
            raise OSError(errno.EIO, "the file system wrote nothing and gave no reason")
        rest = rest[count:]


def _create_file(directory: Path, instant: datetime, suffix: str) -> tuple[Path, int]:
    """Create a file that no other process has, under the first name that is free from `instant` on."""
    while True:
        path = directory / f"{instant:%Y%m%d-%H%M%S.%f}{suffix}"
        # The umask stays in force: an operator can want less than the mode says, never more.
        with suppress(FileExistsError):
            descriptor = os.open(path, _FLAGS, _FILE_MODE)
            # Between open and lock another process that starts can take it for an empty leftover and remove it. Then the next
            # name is used.
            locked = False
            try:
                locked = try_lock_segment(descriptor)
            finally:
                if not locked:
                    os.close(descriptor)
            if locked:
                return path, descriptor
        instant += timedelta(microseconds=1)


def _remove(path: Path) -> None:
    """Remove an empty file; one that stays is removed by the next start."""
    with suppress(OSError):
        path.unlink()
