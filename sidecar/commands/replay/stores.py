"""Stored mail: which files have it, cut into tasks of one size, and the messages of a task one by one.

Owns opening, and how much of a message is read.
"""

import os
import stat
from collections.abc import Iterable, Iterator
from contextlib import suppress
from itertools import pairwise

from msgspec import Struct

from sidecar.commands.replay import mbox

STDIN = "-"

# In bytes, the part of an mbox that is one task: some 300 bounces, a tenth of a second of work.
RANGE_SIZE = 1024 * 1024
# Files in one task, and bytes of their names: tasks wait in a pipe to the workers.
_FILES_LIMIT = 64
_NAMES_LIMIT = 16 * 1024

_MAILDIR = ("cur", "new")
# A file that has become a FIFO since it was listed must not block.
_FLAGS = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC


class Piece(Struct, frozen=True, kw_only=True, array_like=True):
    """A file, or the messages of an mbox that begin in `start` to `end` (bytes). Without `end`, to the end of the file."""

    path: str
    start: int = 0
    end: int | None = None


Task = tuple[Piece, ...]


class Stored(Struct, frozen=True, kw_only=True, gc=False):
    """A stored message. `size` is its size in the store, in bytes; `content` is cut off at a limit.

    `offset` is its place in its mbox, and `mbox_sender` the sender in the mbox line; None if it has its own file.
    """

    offset: int | None = None
    mbox_sender: bytes | None = None
    size: int
    content: bytes


def tasks(paths: Iterable[str]) -> Iterator[Task]:
    """Return everything in `paths`, in their order, and inside folders in the order of the file system.

    Files that cannot be read are included: opening them shows why.
    """
    gathered: list[Piece] = []
    free = _NAMES_LIMIT
    for piece in _pieces(paths):
        free -= len(piece.path)
        if gathered and (len(gathered) == _FILES_LIMIT or free < 0 or piece.end is not None):
            yield tuple(gathered)
            gathered, free = [], _NAMES_LIMIT - len(piece.path)
        gathered.append(piece)
    if gathered:
        yield tuple(gathered)


def total_size(paths: Iterable[str]) -> int:
    """Return the size of all files in bytes, as far as it is known."""
    total = 0
    for piece in _pieces(paths):
        if piece.end is not None:
            total += piece.end - piece.start
            continue
        with suppress(OSError, ValueError):
            total += os.stat(piece.path).st_size  # noqa: PTH116 - a Path for each of a million files costs more than the call
    return total


# --- finding files


def _pieces(paths: Iterable[str]) -> Iterator[Piece]:
    for path in paths:
        if os.path.isdir(path):  # noqa: PTH112 - as above
            yield from _in_folder(path)
        elif path == STDIN:
            yield Piece(path=path)
        else:
            yield from _in_file(path)


def _in_folder(top: str) -> Iterator[Piece]:
    """Walk a folder, without recursion. Links to folders are not followed, so there is no circle."""
    waiting = [(top, False)]
    while waiting:
        folder, in_maildir = waiting.pop()
        is_maildir = _is_maildir(folder)
        if is_maildir:
            for name in _MAILDIR:
                yield from _listed(os.path.join(folder, name), with_files=True)  # noqa: PTH118 - as above
        below: list[str] = []
        yield from _listed(folder, below, with_files=not (is_maildir or in_maildir))
        if is_maildir:
            below = [path for path in below if os.path.basename(path) not in {*_MAILDIR, "tmp"}]  # noqa: PTH119 - as above
        waiting.extend((path, in_maildir or is_maildir) for path in sorted(below, reverse=True))


def _listed(folder: str, below: list[str] | None = None, *, with_files: bool) -> Iterator[Piece]:
    """Return the files of one folder, and add its folders to `below`. Without `below` each file is a message of a Maildir.

    Hidden files are not mail (indexes, lock files, lists of subscriptions); hidden folders can be those of a Maildir (`.Sent`).
    """
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                hidden = entry.name.startswith(".")
                if entry.is_dir(follow_symlinks=False):
                    if below is not None and (not hidden or _is_maildir(entry.path)):
                        below.append(entry.path)
                elif with_files and not hidden and entry.is_file():
                    if below is None:
                        yield Piece(path=entry.path)
                    else:
                        yield from _in_file(entry.path)
    except OSError:
        yield Piece(path=folder)


def _is_maildir(folder: str) -> bool:
    return all(os.path.isdir(os.path.join(folder, name)) for name in _MAILDIR)  # noqa: PTH112, PTH118 - as above


def _in_file(path: str) -> Iterator[Piece]:
    """Return a file, a large mbox in ranges."""
    size = 0
    with suppress(OSError, ValueError):
        found = os.stat(path)  # noqa: PTH116 - as above
        if stat.S_ISREG(found.st_mode) and found.st_size > RANGE_SIZE:
            with open(path, "rb") as file:  # noqa: PTH123 - as above
                size = found.st_size if mbox.from_line(file.read(mbox.LINE_LIMIT)) else 0
    if not size:
        yield Piece(path=path)
        return
    for start, end in pairwise((*range(0, size, RANGE_SIZE), size)):
        yield Piece(path=path, start=start, end=end)


# --- reading messages


def messages(piece: Piece, limit: int) -> Iterator[Stored]:
    """Return the first `limit` bytes of each message of a piece. Raises OSError, or ValueError if it is not a file."""
    if piece.path == STDIN:
        stored = _from_stdin(limit)
        _check_is_mail(stored.content)
        yield stored
        return
    descriptor = os.open(piece.path, _FLAGS)
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise ValueError("it is neither a file nor a folder")
        if piece.end is None:
            content = os.pread(descriptor, min(limit, found.st_size), 0)
            if not mbox.from_line(content):
                _check_is_mail(content)
                yield Stored(size=found.st_size, content=content)
                return
        for begin, end in mbox.places(descriptor, piece.start, found.st_size if piece.end is None else piece.end):
            raw = os.pread(descriptor, min(end - begin, limit), begin)
            mark = mbox.from_line(raw)
            if mark is None:
                raise ValueError("it was changed while it was read")
            content = mbox.unquoted(raw[mark.end() :])
            yield Stored(offset=begin, mbox_sender=mark[1].strip(), size=end - begin, content=content)
    finally:
        os.close(descriptor)


def _check_is_mail(content: bytes) -> None:
    """Raise ValueError for a log: JSON lines, or a compressed segment. No header section begins like these."""
    if content.startswith((b'{"', b"\x28\xb5\x2f\xfd")):
        raise ValueError("it is a log, not mail; `sidecar explain --record` reads records")


def _from_stdin(limit: int) -> Stored:
    """Read one message to its end, and keep its beginning."""
    content = bytearray()
    size = 0
    while block := os.read(0, mbox.BLOCK):
        size += len(block)
        content += block[: limit - len(content)]
    return Stored(size=size, content=bytes(content))
