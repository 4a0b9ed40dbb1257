"""What the files of this package have in common: a directory, its names on disk, all the bytes or an error.

Owns these few steps. Never decides what is written.
"""

import errno
import os
from contextlib import suppress
from pathlib import Path

_DIRECTORY_MODE = 0o750


def make_directory(directory: Path) -> None:
    """Create a directory, and those above it, with their names on disk on return. Raises OSError."""
    missing = [folder for folder in (directory, *directory.parents) if not folder.exists()]
    for folder in reversed(missing):
        with suppress(FileExistsError):  # another worker was quicker
            folder.mkdir(mode=_DIRECTORY_MODE)
        sync_directory(folder.parent)


def sync_directory(directory: Path) -> None:
    """Put a directory's names on disk. Raises OSError."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_all(descriptor: int, content: bytes) -> None:
    """Write in one call, as a rule: a disk that fills up takes a part, and only the next call says why. Raises OSError."""
    rest = memoryview(content)
    while rest:
        count = os.write(descriptor, rest)
        if count == 0:
            raise OSError(errno.EIO, "the file system took nothing and gave no reason")
        rest = rest[count:]
