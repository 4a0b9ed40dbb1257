"""A zstd frame that breaks off: how far its whole lines reach.

Owns the walk from block to block (RFC 8878 section 3.1.1). Never changes a file, and holds one block at a time.
"""

import errno
import os
from typing import NamedTuple

from sidecar.journal.layout import WINDOW_LIMIT

_HEADER_LIMIT = 18  # of a frame, in bytes
_HAS_CHECKSUM = 0b100
_BLOCK_HEADER = 3
_RLE = 1


class Whole(NamedTuple):
    """The file's first `size` bytes hold whole lines and nothing else; `ended`: the frame ends there."""

    size: int
    ended: bool


def whole_lines(descriptor: int) -> Whole:
    """Find the last block that ends a line; `size` is 0 where there is none.

    Raises OSError, also for a frame that no process of ours has written.
    """
    import zstandard  # noqa: PLC0415 - only wanted after a crash

    whole, ends_line = Whole(0, ended=False), False
    try:
        header = _frame_header(descriptor)
        at = zstandard.frame_header_size(header)
        unpacker = zstandard.ZstdDecompressor(max_window_size=WINDOW_LIMIT).decompressobj()
        unpacker.decompress(header[:at])
        while block := _block(descriptor, at):
            data = unpacker.decompress(block)
            at += len(block)
            is_last = bool(block[0] & 1)
            # Zeros that a power cut has left are blocks without content; of ours, only the last has none.
            if not data and not is_last:
                break
            ends_line = data.endswith(b"\n") if data else ends_line
            if ends_line:
                whole = Whole(at, ended=is_last)
            if is_last:
                break
    except zstandard.ZstdError:
        pass  # from here on it is torn
    return whole


def _frame_header(descriptor: int) -> bytes:
    header = os.pread(descriptor, _HEADER_LIMIT, 0)
    # With a checksum nobody but its writer can end the frame: it is somebody else's.
    if header[4:5] and header[4] & _HAS_CHECKSUM:
        raise OSError(errno.EINVAL, "another program has packed it")
    return header


def _block(descriptor: int, at: int) -> bytes:
    """Read a block with its header; nothing where the file does not have all of it."""
    header = os.pread(descriptor, _BLOCK_HEADER, at)
    number = int.from_bytes(header, "little")
    size = _BLOCK_HEADER + (1 if number >> 1 & 3 == _RLE else number >> 3)
    block = os.pread(descriptor, size, at) if len(header) == _BLOCK_HEADER else b""
    return block if len(block) == size else b""
