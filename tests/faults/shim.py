"""The shim at work: compiled, preloaded into the sidecar, and told what is to fail.

Owns the compiling and the file that tells it. Never knows why.
"""

import errno
import struct
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_SOURCE = Path(__file__).with_name("shim.c")
# `struct faults` of the source.
_FAULTS = struct.Struct("=iiq")


class Shim:
    """A shim for every process that is started with `environ`. Nothing fails until it is told to."""

    def __init__(self, directory: Path) -> None:
        self._told = directory / "faults"
        self._told.write_bytes(_FAULTS.pack(0, 0, 0))
        library = directory / "shim.so"
        subprocess.run(["gcc", "-shared", "-fPIC", "-O1", "-Wall", "-Wextra", "-Werror", "-o", library, _SOURCE], check=True)
        self.environ = {"LD_PRELOAD": str(library), "SIDECAR_FAULTS": str(self._told)}

    @contextmanager
    def failing_fsync(self) -> Iterator[None]:
        """Let every fsync fail with EIO for a while, as a dying disk does."""
        with self._tell(fsync_errno=errno.EIO):
            yield

    @contextmanager
    def slow_fsync(self, milliseconds: int) -> Iterator[None]:
        """Let every fsync take so long for a while."""
        with self._tell(fsync_milliseconds=milliseconds):
            yield

    @contextmanager
    def clock_moved(self, seconds: int) -> Iterator[None]:
        """Move the clock by so many seconds for a while, back if they are negative."""
        with self._tell(clock_seconds=seconds):
            yield

    @contextmanager
    def _tell(self, *, fsync_errno: int = 0, fsync_milliseconds: int = 0, clock_seconds: int = 0) -> Iterator[None]:
        self._write(_FAULTS.pack(fsync_errno, fsync_milliseconds, clock_seconds))
        try:
            yield
        finally:
            self._write(_FAULTS.pack(0, 0, 0))

    def _write(self, faults: bytes) -> None:
        # In place and at one length: the file is mapped by those who read it.
        with self._told.open("r+b") as file:
            file.write(faults)
