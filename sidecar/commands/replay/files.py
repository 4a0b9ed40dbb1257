"""The messages of a piece, read one by one: a message file, an mbox or a range of one, standard input.

Owns opening, and how much of a message is read. Never judges one.
"""

import os
import stat
from collections.abc import Iterator

from msgspec import Struct

from sidecar.commands.replay import mbox
from sidecar.commands.replay.stores import STDIN, Piece

# A file that became a FIFO since it was listed must not keep us waiting.
_FLAGS = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC


class Stored(Struct, frozen=True, kw_only=True, gc=False):
    """A stored message. `size` is in bytes as it is stored, `content` no more of it than was asked for.

    `offset` is where it begins in its mbox, and `postmark` the sender that its line there names; None in a file of its own.
    """

    offset: int | None = None
    postmark: bytes | None = None
    size: int
    content: bytes


def messages(piece: Piece, limit: int) -> Iterator[Stored]:
    """Give the messages of a piece, and of each the first `limit` bytes. Raises OSError, or ValueError for what is no file."""
    if piece.path == STDIN:
        yield _from_pipe(0, limit)
        return
    descriptor = os.open(piece.path, _FLAGS)
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise ValueError("it is neither a file nor a folder")
        if piece.end is None:
            content = os.pread(descriptor, min(limit, found.st_size), 0)
            if not mbox.postmark(content):
                yield Stored(size=found.st_size, content=content)
                return
        for begin, end in mbox.places(descriptor, piece.start, found.st_size if piece.end is None else piece.end):
            yield _from_mbox(descriptor, begin, end, limit)
    finally:
        os.close(descriptor)


def _from_mbox(descriptor: int, begin: int, end: int, limit: int) -> Stored:
    raw = os.pread(descriptor, min(end - begin, limit), begin)
    mark = mbox.postmark(raw)
    if mark is None:
        raise ValueError("it was changed while it was read")
    content = mbox.unquoted(raw[mark.end() :])
    return Stored(offset=begin, postmark=mark[1].strip(), size=end - begin, content=content)


def _from_pipe(descriptor: int, limit: int) -> Stored:
    """Read one message to its end, and keep its beginning."""
    content = bytearray()
    size = 0
    while piece := os.read(descriptor, mbox.BLOCK):
        size += len(piece)
        content += piece[: limit - len(content)]
    return Stored(size=size, content=bytes(content))
