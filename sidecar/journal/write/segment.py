"""One segment: a file of record lines that one process appends to, until it is finished and read-only.

Owns names, modes, locks and the promise that a segment ends on a whole line. Never decides when to begin a new one.

A live segment is writable and locked (flock) by the process that writes it; a finished one is read-only; one that is
writable and not locked was left behind by a crash. The kernel lets go of the lock however a process dies.
"""

import fcntl
import os
import stat
from contextlib import suppress
from datetime import datetime, timedelta
from pathlib import Path
from time import monotonic
from typing import Self

from sidecar.journal.layout import WRITE_BITS
from sidecar.journal.write.commit import GroupCommit
from sidecar.journal.write.disk import make_directory, sync_directory, write_all
from sidecar.journal.write.packing import Packer

_FLAGS = os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_WRONLY | os.O_CLOEXEC
_FILE_MODE = 0o640


class Segment:
    """A live segment. One thread at a time may append; any number may wait in `reach` meanwhile.

    `size` counts the bytes of whole lines handed to the kernel, before packing; `born` is on the monotonic clock, in seconds.
    """

    def __init__(self, path: Path, descriptor: int, packer: Packer) -> None:
        self.path = path
        self.size = 0
        self.born = monotonic()
        self._descriptor = descriptor
        self._packer = packer
        self._stored = 0
        self._torn = False
        self._broken_off = False
        self._commit = GroupCommit(fsync=lambda: os.fsync(descriptor), written=lambda: self._stored)

    @classmethod
    def create(cls, directory: Path, instant: datetime, *, suffix: str, packer: Packer) -> Self:
        """Begin a segment, and its directory where there is none; both names are on disk on return. Raises OSError.

        It is named `YYYYMMDD-HHMMSS.ffffff` and the suffix, after the instant (UTC): names sort as time does.
        """
        make_directory(directory)
        path, descriptor = _create_file(directory, instant, suffix)
        try:
            # An fsync of the file keeps its bytes, not its name (fsync(2)): that takes one of the directory.
            sync_directory(directory)
        except OSError:
            # Every later write tries anew; without this each try would leave an empty file behind.
            _remove(path)
            os.close(descriptor)
            raise
        return cls(path, descriptor, packer)

    def usable(self) -> bool:
        """Whether lines appended now can be trusted to be kept.

        Not after a failed fsync, not behind half a line, and not once somebody has removed the file: the kernel would
        go on taking lines that nobody can ever read.
        """
        spoilt = self._torn or self._broken_off or self._commit.failed
        return not (spoilt or os.fstat(self._descriptor).st_nlink == 0)

    def append(self, lines: bytes) -> int:
        """Hand all of `lines` to the kernel, or none; give what `reach` wants for them. Raises OSError."""
        stored = self._packer.pack(lines)
        try:
            write_all(self._descriptor, stored)
        except OSError:
            self._cut()
            raise
        self.size += len(lines)
        self._stored += len(stored)
        return self._stored

    def _cut(self) -> None:
        """Take back what a failed write left, lest the next line be glued to half of this one."""
        try:
            os.ftruncate(self._descriptor, self._stored)
        except OSError:
            self._torn = True
        # What is packed next may refer to what has just been lost. A second frame could follow, but a reader that was quick
        # has half of the lost block by now, and would take the new bytes for the rest of it.
        self._broken_off = self._packer.chained and self._stored > 0
        self._packer.restart()

    def reach(self, end: int) -> None:
        """Return once what is stored up to `end` is on disk; raises OSError."""
        self._commit.reach(end)

    def finish(self) -> None:
        """Put everything on disk, make the file read-only and let go of it. Nobody may append any more.

        An empty segment is removed. A torn one, or one whose fsync failed, stays writable: the next start finds it,
        cuts half a line off and tries once more. Raises OSError when lines may have been lost.
        """
        # Closing is safe while others are still in `reach`: once this reach is back, either all bytes are durable or
        # the failure is final, and in both cases nobody uses the descriptor again.
        try:
            self._end()
            self._commit.reach(self._stored)
            if self._stored == 0:
                _remove(self.path)
            elif not self._torn:
                with suppress(OSError):  # a mark for the next start, nothing that keeps a line
                    make_read_only(self._descriptor)
        finally:
            os.close(self._descriptor)

    def _end(self) -> None:
        """End the frame of a packed segment; where that fails the next start does it, and no line is missing meanwhile."""
        end = self._packer.end
        if not end or not self._stored or self._torn:
            return
        try:
            write_all(self._descriptor, end)
        except OSError:
            self._torn = True
        else:
            self._stored += len(end)


def claim(descriptor: int) -> bool:
    """Lock the segment for this process; False when another has it, or has just removed it. Raises OSError."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return os.fstat(descriptor).st_nlink > 0


def make_read_only(descriptor: int) -> None:
    """Mark a segment as finished. Raises OSError."""
    # No fsync follows: should a power cut undo the mode, the next start finishes the segment again.
    os.fchmod(descriptor, stat.S_IMODE(os.fstat(descriptor).st_mode) & ~WRITE_BITS)


def _create_file(directory: Path, instant: datetime, suffix: str) -> tuple[Path, int]:
    """Create a file no other process has, under the first name that is free from `instant` on."""
    while True:
        path = directory / f"{instant:%Y%m%d-%H%M%S.%f}{suffix}"
        # The umask stays in force: an operator may want less than the mode says, never more.
        with suppress(FileExistsError):
            descriptor = os.open(path, _FLAGS, _FILE_MODE)
            # Between open and lock another process that starts up may take the file for one a crash left, and remove
            # it as empty; then the next name is as good.
            if _claim_or_close(descriptor):
                return path, descriptor
        instant += timedelta(microseconds=1)


def _claim_or_close(descriptor: int) -> bool:
    claimed = False
    try:
        claimed = claim(descriptor)
    finally:
        if not claimed:
            os.close(descriptor)
    return claimed


def _remove(path: Path) -> None:
    """Remove an empty file; one that stays is removed by the next start."""
    with suppress(OSError):
        path.unlink()
