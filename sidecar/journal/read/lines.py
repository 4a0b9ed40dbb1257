"""Bytes become lines, as they come.

Owns where a line ends, and which lines cannot be records. Never decodes a record, and never reads a file.
"""

from collections.abc import Iterator
from pathlib import Path

import msgspec
from msgspec import Struct

# A record carries at most one original message; JSON writes a control character in six bytes, so the default limit of
# 10 MiB for a report can make 60 MiB of record. Longer lines are no records of ours.
LINE_LIMIT = 64 * 1024 * 1024

# What is cut at once: a list of many short lines takes ten times the memory of the bytes they stand in.
_PIECE = 256 * 1024


class Line(Struct, frozen=True, kw_only=True, gc=False):
    """One whole line, without its end; `number` counts the lines of `file` (unpacked) from 1."""

    file: Path
    number: int
    text: bytes


class Skipped(Struct, frozen=True, kw_only=True, gc=False):
    """A line that cannot be a record; `why` is one short phrase.

    `unfinished` is the end of a file that breaks off: it is still being written, or a crash has cut it off.
    """

    file: Path
    number: int
    why: str
    unfinished: bool = False


class Cutter:
    """Cuts one file into lines. Blank ones are counted and passed over."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._number = 0
        self._held: list[bytes] = []
        self._size = 0

    def feed(self, data: bytes) -> Iterator[Line | Skipped]:
        """Give the lines that end in `data`, the next bytes of the file; what comes after the last end is held back."""
        for start in range(0, len(data), _PIECE):
            yield from self._cut(data[start : start + _PIECE])

    def forget(self) -> int:
        """Take nothing for granted of the line that has not ended yet; gives how many of its bytes were held back."""
        self._held, size = [], self._size
        self._size = 0
        return size

    def end(self) -> Line | Skipped | None:
        """Give what is left at the end of the file: a line that lacks nothing but its end, or the beginning of one."""
        text = self._release(b"")
        self._number += 1
        if (skipped := self._fault(text)) is not None:
            return skipped
        if not (text := text.strip()):
            return None
        # Half an object is never a whole one (RFC 8259), so a last line that decodes lacks nothing but its end: a file that
        # somebody cut and pasted.
        if not _is_json(text):
            return self.unfinished("the last line is not finished")
        return Line(file=self._file, number=self._number, text=text)

    def unfinished(self, why: str) -> Skipped:
        """Say that the file breaks off in the line that was read last."""
        return Skipped(file=self._file, number=self._number, why=why, unfinished=True)

    def broken(self, why: str) -> Skipped:
        """Say that nothing more can be read, from the next line on."""
        return Skipped(file=self._file, number=self._number + 1, why=why)

    def _cut(self, piece: bytes) -> Iterator[Line | Skipped]:
        *texts, rest = piece.split(b"\n")
        if texts:
            texts[0] = self._release(texts[0])
            # Looked for once in many lines: nearly always there is nothing to find.
            suspect = len(texts[0]) > LINE_LIMIT or b"\0" in piece or b"\0" in texts[0]
            file, number = self._file, self._number
            for text in texts:
                number += 1
                self._number = number
                if suspect and (skipped := self._fault(text)) is not None:
                    yield skipped
                elif stripped := text.strip():
                    yield Line(file=file, number=number, text=stripped)
        self._hold(rest)

    def _hold(self, rest: bytes) -> None:
        self._size += len(rest)
        # Of a line that is too long only so much is kept that it shows.
        if self._size <= LINE_LIMIT + _PIECE and rest:
            self._held.append(rest)

    def _release(self, last: bytes) -> bytes:
        """Give the line of which `last` is the end."""
        if not self._held:
            return last
        self._held.append(last)
        text = b"".join(self._held)
        self._held, self._size = [], 0
        return text

    def _fault(self, text: bytes) -> Skipped | None:
        """Say why `text` cannot be a record."""
        if len(text) > LINE_LIMIT:
            why = "the line is too long for a record"
        # No JSON has a NUL: a power cut may leave blocks that were never written as zeros.
        elif b"\0" in text:
            why = "the line was damaged, as by a power cut"
        else:
            return None
        return Skipped(file=self._file, number=self._number, why=why)


def _is_json(text: bytes) -> bool:
    try:
        msgspec.json.decode(text)
    except (ValueError, RecursionError):
        return False
    return True
