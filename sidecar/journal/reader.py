"""Reading records back: the lines of one file, or of all segments of a journal, live ones included.

Owns finding and cutting lines. Never decodes a record, and never changes a file.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import msgspec
from msgspec import Struct

from sidecar.journal.error import JournalError
from sidecar.journal.segment import NAME

# A record carries at most one original message; JSON writes a control character in six bytes, so the default limit of
# 10 MiB for a report can make 60 MiB of record. Longer lines are no records of ours.
LINE_LIMIT = 64 * 1024 * 1024


class Line(Struct, frozen=True, kw_only=True, gc=False):
    """One whole line, without its end; `number` counts the lines of `file` from 1."""

    file: Path
    number: int
    text: bytes


class Skipped(Struct, frozen=True, kw_only=True, gc=False):
    """A line that cannot be a record; `why` is one short phrase."""

    file: Path
    number: int
    why: str


def read(path: Path) -> Iterator[Line | Skipped]:
    """Give the lines of a file, or of a directory's segments from the oldest to the newest.

    Blank lines are passed over. Raises JournalError where something cannot be read.
    """
    try:
        if not path.is_dir():
            yield from _read_file(path)
            return
        for segment in sorted(entry for entry in path.iterdir() if NAME.fullmatch(entry.name)):
            try:
                yield from _read_file(segment)
            except FileNotFoundError:
                continue  # an operator's clean-up, or an empty segment that was removed, since the listing
    except OSError as error:
        raise JournalError.because(
            error, fact="records could not be read from", path=path, then="name a file or a journal directory that can"
        ) from error


def _read_file(path: Path) -> Iterator[Line | Skipped]:
    with path.open("rb") as file:
        number = 0
        while text := file.readline(LINE_LIMIT):
            number += 1
            if why := _fault(text, file):
                yield Skipped(file=path, number=number, why=why)
            elif stripped := text.strip():
                yield Line(file=path, number=number, text=stripped)


def _fault(text: bytes, file: BinaryIO) -> str | None:
    """Say why `text`, just read, cannot be a record; what is left of a line that is too long is passed over."""
    if len(text) == LINE_LIMIT and not text.endswith(b"\n"):
        while (more := file.readline(LINE_LIMIT)) and not more.endswith(b"\n"):
            pass
        return "the line is too long for a record"
    # No JSON has a NUL: a power cut may leave blocks that were never written as zeros.
    if b"\0" in text:
        return "the line was damaged, as by a power cut"
    # Half an object is never a whole one (RFC 8259), so a last line that decodes lacks nothing but its end: a file that
    # somebody cut and pasted.
    if not text.endswith(b"\n") and text.strip() and not _is_json(text):
        return "the last line is not finished"
    return None


def _is_json(text: bytes) -> bool:
    try:
        msgspec.json.decode(text)
    except (ValueError, RecursionError):
        return False
    return True
