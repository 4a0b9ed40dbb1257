"""Stored bytes, plain or packed with zstd, become lines, piece by piece.

Owns unpacking with its limit on memory, where a line ends, and which lines cannot be records. Never decodes a record, and never
reads a file.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from sidecar.journal import MAGIC, WINDOW_LIMIT

# A record has at most one original message; JSON writes a control character in six bytes, so the default limit of 10 MiB for a
# report can become 60 MiB of record. Longer lines are no records of ours.
LINE_LIMIT = 64 * 1024 * 1024

# Bytes that are split at once: a list of many short lines needs ten times the memory of their bytes.
_PIECE = 256 * 1024

# Four bytes of a frame can stand for a block of 128 KiB (RFC 8878 section 3.1.1.2): so many bytes unpack to 8 MiB at most, and
# KumoMTA's own, at 30 to 1, to 8 KiB. Bigger pieces are no faster.
_SLICE = 256

_SKIPPABLE = b"\x2a\x4d\x18"  # after a byte from 0x50 to 0x5f (RFC 8878 section 3.1.2)
_OTHERS = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zX": "xz"}
_MAGIC_LENGTH = 4


class Line(Struct, frozen=True, kw_only=True, gc=False):
    """One whole line, without its end; `number` counts the lines of `file` (unpacked) from 1.

    `offset` is the number of bytes before it, of the unpacked file; 0 if it is of no file.
    """

    file: Path
    number: int
    text: bytes
    offset: int = 0


class Skipped(Struct, frozen=True, kw_only=True, gc=False):
    """A line that cannot be a record; `why` is one short phrase.

    `unfinished` means that the file breaks off here: it is still being written, or a crash has cut it off.
    """

    file: Path
    number: int
    why: str
    unfinished: bool = False


class LineSplitter:
    """Splits one file into lines. Blank lines are counted and skipped."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._number = 0
        # Where the line begins that has not ended yet.
        self._offset = 0
        self._held: list[bytes] = []
        self._size = 0

    def feed(self, data: bytes) -> Iterator[Line | Skipped]:
        """Yield the lines that end in `data`, the next bytes of the file; the bytes after the last end are kept."""
        for start in range(0, len(data), _PIECE):
            yield from self._cut(data[start : start + _PIECE])

    def forget(self) -> int:
        """Forget the beginning of a line that has not ended yet. Return how many bytes it had."""
        self._held, size = [], self._size
        self._size = 0
        return size

    def end(self) -> Line | Skipped | None:
        """Return the rest at the end of the file: a line that lacks only its end, or the beginning of one."""
        text = self._release(b"")
        self._number += 1
        if (skipped := self._fault(text)) is not None:
            return skipped
        if not (text := text.strip()):
            return None
        # Half an object never decodes (RFC 8259), so a last line that does lacks only its end: a file that was cut and pasted.
        try:
            msgspec.json.decode(text)
        except (ValueError, RecursionError):
            return self.unfinished("the last line is not finished")
        return Line(file=self._file, number=self._number, text=text, offset=self._offset)

    def unfinished(self, why: str) -> Skipped:
        """Return a note that the file breaks off in the line that was read last."""
        return Skipped(file=self._file, number=self._number, why=why, unfinished=True)

    def broken(self, why: str) -> Skipped:
        """Return a note that nothing more can be read, from the next line on."""
        return Skipped(file=self._file, number=self._number + 1, why=why)

    def _cut(self, piece: bytes) -> Iterator[Line | Skipped]:
        *texts, rest = piece.split(b"\n")
        if texts:
            offset, self._offset = self._offset, self._offset + self._size + len(piece) - len(rest)
            dropped = self._size + len(texts[0])
            texts[0] = self._release(texts[0])
            dropped -= len(texts[0])
            # One search for many lines: faults are rare.
            suspect = len(texts[0]) > LINE_LIMIT or b"\0" in piece or b"\0" in texts[0]
            file, number = self._file, self._number
            for text in texts:
                number += 1
                self._number, begin = number, offset
                offset += len(text) + dropped + 1
                dropped = 0
                if suspect and (skipped := self._fault(text)) is not None:
                    yield skipped
                elif stripped := text.strip():
                    yield Line(file=file, number=number, text=stripped, offset=begin)
        self._size += len(rest)
        # Of a line that is too long, enough is kept to see that.
        if self._size <= LINE_LIMIT + _PIECE and rest:
            self._held.append(rest)

    def _release(self, last: bytes) -> bytes:
        """Return the line that ends with `last`."""
        if not self._held:
            return last
        self._held.append(last)
        text = b"".join(self._held)
        self._held, self._size = [], 0
        return text

    def _fault(self, text: bytes) -> Skipped | None:
        if len(text) > LINE_LIMIT:
            why = "the line is too long for a record"
        # No JSON has a NUL: after a power cut, blocks that were never written can be zeros.
        elif b"\0" in text:
            why = "the line was damaged, as by a power cut"
        else:
            return None
        return Skipped(file=self._file, number=self._number, why=why)


class UnpackingError(Exception):
    """The rest cannot be unpacked; the text is a short phrase."""


class Unpacker:
    """Unpacks one file, which may grow. After an UnpackingError it returns nothing more.

    The first bytes show how a file is packed, not its name.
    """

    def __init__(self) -> None:
        self._begin: bytes | None = b""
        self._frames: _Frames | None = None

    def feed(self, stored: bytes) -> Iterator[bytes]:
        """Yield what is known from `stored`, the next bytes of the file. Raise UnpackingError."""
        if self._begin is not None:
            stored = self._begin + stored
            if len(stored) < _MAGIC_LENGTH and _may_be_packed(stored):
                self._begin = stored
                return
            self._begin = None
            self._frames = _frames(stored)
        if self._frames is None:
            yield stored
        else:
            yield from self._frames.unpack(stored)

    def rest(self) -> bytes:
        """Return what was kept because the file is too short to see how it is packed."""
        held, self._begin = self._begin or b"", None
        return held

    @property
    def plain(self) -> bool:
        """Whether the bytes of the file are those of its lines."""
        return self._frames is None and self._begin is None

    @property
    def finished(self) -> bool:
        """Whether the file may end here; a packed one must end with a frame."""
        return self._frames is None or self._frames.frame is None


class _Frames:
    """One zstd frame after another; `frame` is the one that has not ended yet."""

    def __init__(self) -> None:
        # Imported late: the milter's workers do not need it.
        import zstandard  # noqa: PLC0415

        self._zstd = zstandard
        self.frame: Any = None

    def unpack(self, stored: bytes) -> Iterator[bytes]:
        for start in range(0, len(stored), _SLICE):
            piece = stored[start : start + _SLICE]
            while piece:
                if self.frame is None:
                    # A new decompressor for each: a finished one keeps the memory of its window.
                    self.frame = self._zstd.ZstdDecompressor(max_window_size=WINDOW_LIMIT).decompressobj()
                try:
                    yield self.frame.decompress(piece)
                except self._zstd.ZstdError as error:
                    raise UnpackingError("the packed data is damaged, or of another kind, from here on") from error
                piece = self.frame.unused_data
                if self.frame.eof:
                    self.frame = None


def _may_be_packed(begin: bytes) -> bool:
    return any(magic.startswith(begin) for magic in (MAGIC, *_OTHERS)) or _SKIPPABLE.startswith(begin[1:])


def _frames(begin: bytes) -> _Frames | None:
    """Return None for a plain file. Raise UnpackingError for one that is packed in another way."""
    for magic, kind in _OTHERS.items():
        if begin.startswith(magic):
            raise UnpackingError(f"the file is packed with {kind}, which is not read here; unpack it first")
    skippable = 0x50 <= begin[0] <= 0x5F and begin[1:4] == _SKIPPABLE  # noqa: PLR2004 - named at _SKIPPABLE
    return _Frames() if begin.startswith(MAGIC) or skippable else None
