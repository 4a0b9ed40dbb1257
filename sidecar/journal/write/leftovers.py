"""Segments that a crash left open are finished when the next process starts.

Owns that repair. Never changes a segment that a running process has locked, nor one that is finished.
"""

import errno
import os
import re
from pathlib import Path

from sidecar import log
from sidecar.journal import END_OF_FRAME, MAGIC, WINDOW_LIMIT, is_finished, own_names
from sidecar.journal.write.segment import make_read_only, try_lock_segment, write_all

_LOG = log.get("journal")

# A block of the search for the last line end. A record of a report with its original message can have megabytes, a usual one
# has 1 kB: with 64 kB one read is nearly always enough.
_BLOCK = 64 * 1024

# Of a zstd frame, in bytes (RFC 8878 section 3.1.1).
_FRAME_HEADER_LIMIT = 18
_HAS_CHECKSUM = 0b100
_BLOCK_HEADER = 3
_RLE = 1


def finish_leftovers(directory: Path, suffix: str = "") -> None:
    """Finish every segment of `directory` that is ours, writable and not locked: those with `suffix` or a default one.

    The log names each one, and what could not be finished: the process starts in any case, since all whole lines can be read.
    """
    for path in _writable(directory, own_names([suffix])):
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                # Workers start together: another one may have finished it since it was listed.
                if try_lock_segment(descriptor) and not is_finished(os.fstat(descriptor)):
                    _finish(path, descriptor)
            finally:
                os.close(descriptor)
        except OSError as error:
            _LOG.warning("a segment that a crash left open could not be finished", segment=path, error=error)


def _writable(directory: Path, name: re.Pattern[str]) -> list[Path]:
    try:
        with os.scandir(directory) as entries:
            return sorted(
                Path(entry)
                for entry in entries
                if name.fullmatch(entry.name)
                and entry.is_file(follow_symlinks=False)
                and not is_finished(entry.stat(follow_symlinks=False))
            )
    except OSError:
        return []  # without a directory there are no leftovers; the first write reports what is wrong with it


def _finish(path: Path, descriptor: int) -> None:
    size = os.fstat(descriptor).st_size
    packed = os.pread(descriptor, len(MAGIC), 0) == MAGIC
    whole, ended = _whole_blocks(descriptor) if packed else (_end_of_last_line(descriptor, size), True)
    if whole == 0:
        path.unlink()
    else:
        if whole < size:
            os.ftruncate(descriptor, whole)
        if not ended:
            os.lseek(descriptor, 0, os.SEEK_END)
            write_all(descriptor, END_OF_FRAME)
        os.fsync(descriptor)
        make_read_only(descriptor)
    # A torn line was never acknowledged: its writer ended before the MTA got an answer, and the sender retries.
    _LOG.info("finished a segment that a crash had left open", segment=path, bytes_kept=whole, bytes_cut=size - whole)


def _end_of_last_line(descriptor: int, size: int) -> int:
    """Return the offset after the last line end, or 0; searched backwards, block by block."""
    while size > 0:
        start = max(0, size - _BLOCK)
        found = os.pread(descriptor, size - start, start).rfind(b"\n")
        if found >= 0:
            return start + found + 1
        size = start
    return 0


def _whole_blocks(descriptor: int) -> tuple[int, bool]:
    """Return the offset after the last block that ends a line, or 0, and whether the frame ends there.

    One block at a time is in memory. Raise OSError, also for a frame of another program.
    """
    import zstandard  # noqa: PLC0415 - only needed after a crash

    header = os.pread(descriptor, _FRAME_HEADER_LIMIT, 0)
    # With a checksum, only its writer can end the frame.
    if header[4:5] and header[4] & _HAS_CHECKSUM:
        raise OSError(errno.EINVAL, "another program has packed it")
    whole, ended, ends_line = 0, False, False
    try:
        at = zstandard.frame_header_size(header)
        unpacker = zstandard.ZstdDecompressor(max_window_size=WINDOW_LIMIT).decompressobj()
        unpacker.decompress(header[:at])
        while not ended and (block := _block(descriptor, at)):
            data = unpacker.decompress(block)
            at += len(block)
            is_last = bool(block[0] & 1)
            # Zeros that a power cut has left are blocks without content; of ours, only the last has none.
            if not data and not is_last:
                break
            ends_line = data.endswith(b"\n") if data else ends_line
            if ends_line:
                whole, ended = at, is_last
            elif is_last:
                break
    except zstandard.ZstdError:
        pass  # torn from here on
    return whole, ended


def _block(descriptor: int, at: int) -> bytes:
    """Read a block with its header; return nothing if the file does not have all of it."""
    header = os.pread(descriptor, _BLOCK_HEADER, at)
    number = int.from_bytes(header, "little")
    size = _BLOCK_HEADER + (1 if number >> 1 & 3 == _RLE else number >> 3)
    block = os.pread(descriptor, size, at) if len(header) == _BLOCK_HEADER else b""
    return block if len(block) == size else b""
