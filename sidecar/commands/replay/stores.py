"""Where stored mail is: files, mboxes, Maildirs, folders of all of these, as tasks of a size that workers can share.

Owns which files hold mail. Never reads a message: of a big file no more than the beginning, to tell whether it is an mbox.
"""

import os
import stat
from collections.abc import Iterable, Iterator
from contextlib import suppress
from itertools import pairwise

from msgspec import Struct

from sidecar.commands.replay import mbox

STDIN = "-"

# Of an mbox, how much is one task: some 300 bounces, a tenth of a second's work.
RANGE_SIZE = 1024 * 1024
# Files, and bytes of their names, in one task. Two tasks wait at each worker's socket, and must fit into its buffer (208 kB by
# default on Linux) while the worker is busy: so neither side ever waits for the other to read.
_FILES_LIMIT = 64
_NAMES_LIMIT = 16 * 1024

_MAILDIR = ("cur", "new")


class Piece(Struct, frozen=True, kw_only=True, array_like=True):
    """A file, or of an mbox the messages that begin in `start` to `end` (bytes); without an `end` the whole file."""

    path: str
    start: int = 0
    end: int | None = None


Task = tuple[Piece, ...]


def tasks(paths: Iterable[str]) -> Iterator[Task]:
    """Give everything that `paths` name, in their order, and inside folders in the file system's own.

    What cannot be read is among it: whoever opens it will see why.
    """
    gathered: list[Piece] = []
    room = _NAMES_LIMIT
    for piece in _pieces(paths):
        room -= len(piece.path)
        if gathered and (len(gathered) == _FILES_LIMIT or room < 0 or piece.end is not None):
            yield tuple(gathered)
            gathered, room = [], _NAMES_LIMIT - len(piece.path)
        gathered.append(piece)
    if gathered:
        yield tuple(gathered)


def weigh(paths: Iterable[str]) -> int:
    """Give the size of it all in bytes, as far as it can be seen."""
    total = 0
    for piece in _pieces(paths):
        if piece.end is not None:
            total += piece.end - piece.start
            continue
        with suppress(OSError, ValueError):
            total += os.stat(piece.path).st_size  # noqa: PTH116 - a Path for each of a million files costs more than the call
    return total


def _pieces(paths: Iterable[str]) -> Iterator[Piece]:
    for path in paths:
        if os.path.isdir(path):  # noqa: PTH112 - as above
            yield from _in_folder(path)
        elif path == STDIN:
            yield Piece(path=path)
        else:
            yield from _of_file(path)


def _in_folder(top: str) -> Iterator[Piece]:
    """Walk a folder, without recursion. Links to folders are not followed, so there is no way in a circle."""
    waiting = [(top, False)]
    while waiting:
        folder, in_maildir = waiting.pop()
        is_maildir = _is_maildir(folder)
        if is_maildir:
            for name in _MAILDIR:
                yield from _mails(os.path.join(folder, name))  # noqa: PTH118 - as above
        below: list[str] = []
        yield from _listed(folder, below, with_files=not (is_maildir or in_maildir))
        if is_maildir:
            below = [path for path in below if os.path.basename(path) not in {*_MAILDIR, "tmp"}]  # noqa: PTH119 - as above
        waiting.extend((path, in_maildir or is_maildir) for path in sorted(below, reverse=True))


def _listed(folder: str, below: list[str], *, with_files: bool) -> Iterator[Piece]:
    """Give the files of one folder, and add the folders in it to `below`.

    What is hidden is no mail, but for the folders of a Maildir (`.Sent`): indexes, lock files, lists of subscriptions.
    """
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                hidden = entry.name.startswith(".")
                if entry.is_dir(follow_symlinks=False):
                    if not hidden or _is_maildir(entry.path):
                        below.append(entry.path)
                elif with_files and not hidden and entry.is_file():
                    yield from _of_file(entry.path)
    except OSError:
        yield Piece(path=folder)


def _mails(folder: str) -> Iterator[Piece]:
    """Give the messages of a Maildir's `cur` or `new`."""
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if not entry.name.startswith(".") and entry.is_file():
                    yield Piece(path=entry.path)
    except OSError:
        yield Piece(path=folder)


def _is_maildir(folder: str) -> bool:
    return all(os.path.isdir(os.path.join(folder, name)) for name in _MAILDIR)  # noqa: PTH112, PTH118 - as above


def _of_file(path: str) -> Iterator[Piece]:
    """Give a file, a big mbox in ranges."""
    size = _mbox_size(path)
    if size <= RANGE_SIZE:
        yield Piece(path=path)
        return
    for start, end in pairwise((*range(0, size, RANGE_SIZE), size)):
        yield Piece(path=path, start=start, end=end)


def _mbox_size(path: str) -> int:
    """Give the size of an mbox that is worth cutting up; 0 for all other files."""
    try:
        found = os.stat(path)  # noqa: PTH116 - as above
        if not stat.S_ISREG(found.st_mode) or found.st_size <= RANGE_SIZE:
            return 0
        with open(path, "rb") as file:  # noqa: PTH123 - as above
            return found.st_size if mbox.postmark(file.read(mbox.LINE_LIMIT)) else 0
    except (OSError, ValueError):
        return 0
