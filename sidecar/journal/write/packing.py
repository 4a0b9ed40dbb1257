"""How lines are stored in a segment: as they are, or packed with zstd as KumoMTA's tools expect.

Owns the bytes. Never writes a file.
"""

from typing import Any, Protocol

from sidecar.journal.layout import END_OF_FRAME


class Packer(Protocol):
    """Packs the lines of one segment. `chained`: what it gives can only be unpacked after all it has given before."""

    chained: bool
    end: bytes

    def pack(self, lines: bytes) -> bytes:
        """Give the bytes to store; with those before them they give back all lines up to here."""

    def restart(self) -> None:
        """Forget everything: nothing is stored."""


class Plain:
    """Stores lines as they are."""

    chained = False
    end = b""

    def pack(self, lines: bytes) -> bytes:
        """Give the lines themselves."""
        return lines

    def restart(self) -> None:
        """Do nothing: there is nothing to forget."""


class Zstd:
    """Stores one frame. `level` is KumoMTA's `compression_level`: 0 is zstd's own choice, else from 1 to 21."""

    chained = True
    end = END_OF_FRAME

    def __init__(self, level: int) -> None:
        # Imported late: a worker that writes plain lines has no use for it.
        import zstandard  # noqa: PLC0415

        self._flush = zstandard.COMPRESSOBJ_FLUSH_BLOCK
        self._compressor = zstandard.ZstdCompressor(level=level, write_checksum=False, write_content_size=False)
        self._frame: Any = None

    def pack(self, lines: bytes) -> bytes:
        """Give whole blocks, flushed: KumoMTA flushes when its buffer is full; here nothing answered may wait in one.

        That costs some size: records of bounces shrink to a ninth one by one, and to a twelfth all at once.
        """
        if self._frame is None:
            self._frame = self._compressor.compressobj()
        packed: bytes = self._frame.compress(lines) + self._frame.flush(self._flush)
        return packed

    def restart(self) -> None:
        """Begin a new frame with the next lines."""
        self._frame = None


def packer(level: int | None) -> Packer:
    """Make the packer of one segment; None is plain lines."""
    return Plain() if level is None else Zstd(level)
