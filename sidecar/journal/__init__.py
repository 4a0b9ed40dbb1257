"""What is kept on disk: the journal, whose segments hold one record a line, and the quarantine of unparsable reports.

`write` and `read` share the layout of the files: the names of our segments, how a packed segment begins and ends, and the mode
of a finished one. Both know only records, and nothing else of mail.
"""

import errno
import fcntl
import os
import re
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Self

from sidecar.core.text import OperatorError

MAGIC = b"\x28\xb5\x2f\xfd"
"""The first bytes of a zstd frame (RFC 8878 section 3.1.1)."""

WINDOW_LIMIT = 64 * 1024 * 1024
"""Bytes of memory that unpacking can need: the window of level 21, the highest of KumoMTA's `compression_level`."""

END_OF_FRAME = b"\x01\x00\x00"
"""A last block without content (RFC 8878 section 3.1.1.2). Our frames have no checksum, so any program can end one with it."""

WRITE_BITS = 0o222
"""The mode bits that a finished segment does not have."""

_DIRECTORY_MODE = 0o750
_LOCK_MODE = 0o640
_LOCK_SECONDS = 0.25
# KumoMTA's names have nine digits after the point, and it locks no segment. If it writes to our directory, its segments must
# stay unchanged.
_INSTANT = r"\d{8}-\d{6}\.\d{6}"
# The suffixes of settings without a suffix: an earlier start may have used them.
_DEFAULT_SUFFIXES = (".jsonl", "")


class JournalError(OperatorError):
    """Records cannot be written or read."""

    @classmethod
    def because(cls, error: OSError, *, fact: str, path: Path, then: str) -> Self:
        """Return an error with the `fact` about `path`, the system's reason, and `then` what follows or what to do."""
        code = errno.errorcode.get(error.errno or 0, "no code")
        return cls(f"{fact} {path}: {error.strerror or error} ({code}); {then}")


def own_names(suffixes: Iterable[str]) -> re.Pattern[str]:
    """Return a pattern for the whole names of our segments: those with one of these suffixes, or a default one."""
    endings = "|".join(map(re.escape, sorted({*suffixes, *_DEFAULT_SUFFIXES})))
    return re.compile(f"{_INSTANT}(?:{endings})", re.ASCII)


def is_finished(state: os.stat_result) -> bool:
    """Return True if a segment is finished, by its mode: the sidecar's and KumoMTA's are read-only then."""
    # Not by access(2), which always permits root.
    return not state.st_mode & WRITE_BITS


def make_directory(directory: Path) -> None:
    """Create a directory and its parents, with their names on disk on return. Raise OSError."""
    missing = [folder for folder in (directory, *directory.parents) if not folder.exists()]
    for folder in reversed(missing):
        with suppress(FileExistsError):  # another worker was faster
            folder.mkdir(mode=_DIRECTORY_MODE)
        sync_directory(folder.parent)


def create_file(path: Path, content: bytes) -> None:
    """Write a whole file of mode 0600 or none, with its name on disk. Leave one that exists by now. Raise OSError."""
    with tempfile.NamedTemporaryFile(dir=path.parent) as draft:
        draft.write(content)
        draft.flush()
        os.fsync(draft.fileno())
        with suppress(FileExistsError):  # another process was faster
            os.link(draft.name, path)
    sync_directory(path.parent)


@contextmanager
def hold_lock(path: Path, busy: type[Exception], wait: Callable[[float], bool] = lambda _: True) -> Iterator[None]:
    """Hold a lock file, which is created with its directory: one process at a time does.

    Raise `busy` if another process holds it, and `wait`, which gets seconds, returns True; raise OSError.
    """
    make_directory(path.parent)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, _LOCK_MODE)
    try:
        while not try_lock(descriptor):
            if wait(_LOCK_SECONDS):
                raise busy
        yield
    finally:
        os.close(descriptor)


def try_lock(descriptor: int) -> bool:
    """Lock a file until its descriptor is closed. Return False if another process has locked it. Raise OSError."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def sync_directory(directory: Path) -> None:
    """Put a directory's names on disk. Raise OSError."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
