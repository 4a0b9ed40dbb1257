"""Bytes as they are stored, plain or packed with zstd, become the bytes of lines, piece by piece.

Owns telling the one from the other, by what a file begins with and not by its name, and how much memory unpacking may take.
Never reads a file. One that grows is handed over as it grows.
"""

from collections.abc import Iterator
from typing import Any

from sidecar.journal.layout import MAGIC, WINDOW_LIMIT

# Four bytes of a frame can stand for a block of 128 KiB (RFC 8878 section 3.1.1.2): so many bytes unpack to 8 MiB at most, and
# KumoMTA's own, at 30 to 1, to 8 KiB. Bigger pieces are no faster.
_SLICE = 256

_SKIPPABLE = b"\x2a\x4d\x18"  # after a byte from 0x50 to 0x5f (RFC 8878 section 3.1.2)
_OTHERS = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zX": "xz"}
_MAGIC_LENGTH = 4


class UnpackingError(Exception):
    """What follows cannot be unpacked; the text is a short phrase."""


class Unpacker:
    """Unpacks one file. After an UnpackingError nothing more can be had from it."""

    def __init__(self) -> None:
        self._begin: bytes | None = b""
        self._frames: _Frames | None = None

    def feed(self, stored: bytes) -> Iterator[bytes]:
        """Give what can be told from `stored`, the next bytes of the file. Raises UnpackingError."""
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
        """Give what was held back because the file is too short to tell how it is packed."""
        held, self._begin = self._begin or b"", None
        return held

    @property
    def plain(self) -> bool:
        """Whether the bytes of the file are those of its lines."""
        return self._frames is None and self._begin is None

    @property
    def finished(self) -> bool:
        """Whether the file may end here; a packed one must end with a frame."""
        return self._frames is None or self._frames.finished


class _Frames:
    """One zstd frame after another."""

    def __init__(self) -> None:
        # Imported late: the milter's workers have no use for it.
        import zstandard  # noqa: PLC0415

        self._zstd = zstandard
        self._frame: Any = None

    @property
    def finished(self) -> bool:
        return self._frame is None

    def unpack(self, stored: bytes) -> Iterator[bytes]:
        for start in range(0, len(stored), _SLICE):
            piece = stored[start : start + _SLICE]
            while piece:
                if self._frame is None:
                    self._frame = self._begin()
                try:
                    yield self._frame.decompress(piece)
                except self._zstd.ZstdError as error:
                    raise UnpackingError("the packed data is damaged, or of another kind, from here on") from error
                piece = self._frame.unused_data
                if self._frame.eof:
                    self._frame = None

    def _begin(self) -> Any:  # noqa: ANN401 - nothing of zstandard's is named outside of this class
        # A decompressor of its own for each frame: it takes the memory of its window with it, and a finished one has none.
        return self._zstd.ZstdDecompressor(max_window_size=WINDOW_LIMIT).decompressobj()


def _may_be_packed(begin: bytes) -> bool:
    return any(magic.startswith(begin) for magic in (MAGIC, *_OTHERS)) or _SKIPPABLE.startswith(begin[1:])


def _frames(begin: bytes) -> _Frames | None:
    """Tell by its first bytes how a file is packed: None, if it is plain. Raises UnpackingError."""
    for magic, kind in _OTHERS.items():
        if begin.startswith(magic):
            raise UnpackingError(f"the file is packed with {kind}, which is not read here; unpack it first")
    skippable = 0x50 <= begin[0] <= 0x5F and begin[1:4] == _SKIPPABLE  # noqa: PLR2004 - named at _SKIPPABLE
    return _Frames() if begin.startswith(MAGIC) or skippable else None
