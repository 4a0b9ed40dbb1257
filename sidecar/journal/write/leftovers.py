"""Segments that a crash left open are finished when the next process starts.

Owns that repair. Never touches a segment that a living process has locked, nor one that is finished.
"""

import os
import re
from pathlib import Path

from sidecar import log
from sidecar.journal.layout import END_OF_FRAME, MAGIC, is_finished
from sidecar.journal.write.frames import Whole, whole_lines
from sidecar.journal.write.segment import claim, make_read_only, write_all

_LOG = log.get("journal")

# A block of the search for the last line end. A record of a report with its original message may take megabytes, an
# ordinary one about 1 kB: 64 kB finds the end in one read nearly always.
_BLOCK = 64 * 1024

# KumoMTA names its segments alike, with nine digits after the point, and locks none. Should somebody let it write to our
# directory, its own must not be taken for leftovers.
_INSTANT = r"\d{8}-\d{6}\.\d{6}"
# Of settings without a suffix of their own, which may have been in force before.
_DEFAULT_SUFFIXES = (".jsonl", "")


def finish_leftovers(directory: Path, suffix: str = "") -> None:
    """Finish every segment of `directory` that is ours, writable and not locked: those with `suffix` or a default one.

    The log tells of each one, and of what could not be finished: that is no reason not to start, since all whole lines
    can be read as they are.
    """
    suffixes = "|".join(map(re.escape, {suffix, *_DEFAULT_SUFFIXES}))
    for path in _writable(directory, re.compile(f"{_INSTANT}(?:{suffixes})", re.ASCII)):
        try:
            _finish(path)
        except OSError as error:
            _LOG.warning("a segment that a crash left open could not be finished", segment=path, error=error)


def _writable(directory: Path, name: re.Pattern[str]) -> list[Path]:
    try:
        with os.scandir(directory) as entries:
            found = [
                Path(entry)
                for entry in entries
                if name.fullmatch(entry.name)
                and entry.is_file(follow_symlinks=False)
                and not is_finished(entry.stat(follow_symlinks=False))
            ]
    except OSError:
        return []  # no directory, nothing left over; the first write says what is wrong with it
    return sorted(found)


def _finish(path: Path) -> None:
    descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        # Workers start together: another may have finished it since it was listed.
        if claim(descriptor) and not is_finished(os.fstat(descriptor)):
            _close_frame(path, descriptor)
    finally:
        os.close(descriptor)


def _close_frame(path: Path, descriptor: int) -> None:
    size = os.fstat(descriptor).st_size
    packed = os.pread(descriptor, len(MAGIC), 0) == MAGIC
    whole, ended = whole_lines(descriptor) if packed else Whole(_end_of_last_line(descriptor, size), ended=True)
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
    # A torn line was never acknowledged: whoever wrote it died before the MTA heard of it, and the peer tries again.
    _LOG.info("finished a segment that a crash had left open", segment=path, bytes_kept=whole, bytes_cut=size - whole)


def _end_of_last_line(descriptor: int, size: int) -> int:
    """Give the offset behind the last line end, 0 where there is none; searched backwards, block by block."""
    while size > 0:
        start = max(0, size - _BLOCK)
        found = os.pread(descriptor, size - start, start).rfind(b"\n")
        if found >= 0:
            return start + found + 1
        size = start
    return 0
