"""An mbox as places in a file, found while it is read: never more than a block is in memory.

Owns where a message begins and how its lines are quoted. The standard library's `mailbox` reads the complete file first, and
starts a message at every line that begins with `From `.
"""

import os
import re
from collections.abc import Iterator

BLOCK = 1024 * 1024
# In bytes, of the line that begins a message: an address has up to 256 (RFC 5321 section 4.5.3.1.3), some are longer.
LINE_LIMIT = 1200

_BEGIN = b"\nFrom "
# RFC 4155 says only `From `, but some writers do not quote, and text has such lines. MTAs write a date as asctime(3) does; mail
# programs add a zone.
_FROM_LINE = re.compile(rb"From ([^\n]{0,1024}?)\b(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun)\b[^\n]{0,40}?\d\d:\d\d[^\n]*+\n?")
_QUOTED = re.compile(rb"^>(>*+From )", re.MULTILINE)
_EMPTY_LINE_AT_END = re.compile(rb"(?:\A|(?<=\n))\r?\n\Z")


def from_line(message: bytes) -> re.Match[bytes] | None:
    """Match the line that begins a message in an mbox, if `message` begins with one; group 1 is the sender, and space."""
    return _FROM_LINE.match(message[:LINE_LIMIT])


def places(descriptor: int, start: int, end: int) -> Iterator[tuple[int, int]]:
    """Return begin and end of each message whose first line begins in `start` to `end`, in bytes. Raises OSError.

    Wherever a file is cut into ranges, they have each message once.
    """
    begun: int | None = None
    for begin in _begins(descriptor, start, end):
        if begun is not None:
            yield begun, begin
        begun = begin
        if begin >= end:
            return
    if begun is not None:
        yield begun, os.fstat(descriptor).st_size


def unquoted(content: bytes) -> bytes:
    """Return a message without the changes of the mbox: `>` before `From `, and the empty line at its end.

    One `>` of `>>From ` is removed (mboxrd). MTAs quote only `From ` (mboxo), which both forms read alike.
    """
    plain = _QUOTED.sub(rb"\1", content) if b">From " in content else content
    end = _EMPTY_LINE_AT_END.search(plain, max(len(plain) - 2, 0))
    return plain if end is None else plain[: end.start()]


def _begins(descriptor: int, start: int, end: int) -> Iterator[int]:
    """Return where messages begin, from `start` on. If none begins before `end`, nothing after it is read."""
    begun = start == 0 and from_line(os.pread(descriptor, LINE_LIMIT, 0)) is not None
    if begun:
        yield 0
    # The line end before a message at `start` is in the previous range.
    at = max(start - 1, 0)
    while (begun or at < end) and len(block := os.pread(descriptor, BLOCK, at)) >= len(_BEGIN):
        found = block.find(_BEGIN)
        while found >= 0:
            begin = found + 1
            whole = begin + LINE_LIMIT <= len(block)
            line = block[begin : begin + LINE_LIMIT] if whole else os.pread(descriptor, LINE_LIMIT, at + begin)
            if from_line(line):
                begun = True
                yield at + begin
            found = block.find(_BEGIN, begin)
        at += len(block) - len(_BEGIN) + 1
