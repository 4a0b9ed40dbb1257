"""Records for `explain --record`: from a log, a folder of segments, a pipe, or pasted from a ticket.

What is pasted may be JSON over several lines, an array, several objects, or a fragment without its braces.
"""

import json
import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from io import BufferedReader
from pathlib import Path

import click
from msgspec.structs import replace

from sidecar.core.evaluate.recorded.follow_up import Entry
from sidecar.core.records import Logged, decode
from sidecar.core.settings.fleet import FleetSettings
from sidecar.core.text import in_units
from sidecar.fleet import is_stream, open_stream
from sidecar.journal import is_finished
from sidecar.journal import read as journal
from sidecar.journal.read import Followed, Line, Skipped
from sidecar.journal.read.order import merged

# Enough to see whether the first line is a record; a pipe has no more at once.
_BEGINNING = 8192
# Pasted text comes from an editor, and is a few records; a log has one record on each line, and no limit. This many bytes of
# tiny objects take some seconds.
_PASTED_LIMIT = 4 * 1024 * 1024

_DECODER = json.JSONDecoder()
_BLANK = b"\xef\xbb\xbf\r\n\t "
_BEGIN = re.compile(r"[^\s,]")


def entries_of(
    path: Path, progress: Callable[[int], object] | None = None, *, fleet: FleetSettings | None = None
) -> Iterator[Entry]:
    """Return every record with its place, and every other line with its fault.

    `fleet` has the servers of a stream. Raises JournalError, FleetError and click's errors.
    """
    if is_stream(path):
        with open_stream(path, fleet) as stream:
            yield from map(_entry, stream.lines())
        return
    if is_pasted(_beginning(path)):
        yield from _pasted_entries(path)
        return
    is_folder = path.is_dir()
    for line in journal.read(path, progress=progress):
        if not (is_folder and _is_being_written(line)):
            yield _entry(line)


def new_entries(files: Sequence[Followed]) -> Iterator[Entry]:
    """Return what is new in the files of a log, by time: a log may have a file for each type of record. Raises JournalError."""
    for found in merged(files):
        if not _is_being_written(found.line):
            yield _entry_of(found.line, found.record, found.why)


def _is_being_written(line: Line | Skipped) -> bool:
    """Return True for the end of a segment that is still written."""
    if not (isinstance(line, Skipped) and line.unfinished):
        return False
    try:
        return not is_finished(line.file.stat())
    except FileNotFoundError:
        return False


def _entry(line: Line | Skipped) -> Entry:
    if isinstance(line, Skipped):
        return _entry_of(line, None, line.why)
    try:
        return _entry_of(line, decode(line.text))
    except ValueError as error:
        return _entry_of(line, None, str(error))


def _entry_of(line: Line | Skipped, record: Logged | None, fault: str = "") -> Entry:
    """Return the entry, without large fields that are not used: many records wait for their follow-ups."""
    slim = None if record is None else replace(record, feedback_report=None, headers={})
    size = 0 if isinstance(line, Skipped) else len(line.text)
    # JSON cannot contain the other bytes of a file's name.
    file = os.fsencode(line.file).decode("utf-8", "replace")
    return Entry(file=file, line=line.number, size=size, record=slim, fault=fault)


def _beginning(path: Path) -> bytes:
    """Return the first bytes; none if reading them would consume them."""
    if path == journal.STDIN:
        stdin = sys.stdin and sys.stdin.buffer
        return stdin.peek(_BEGINNING) if isinstance(stdin, BufferedReader) else b""
    if not path.is_file():
        return b""
    with path.open("rb") as file:
        return file.read(_BEGINNING)


def _pasted_entries(path: Path) -> Iterator[Entry]:
    with click.open_file(str(path), "rb") as file:
        text = file.read(_PASTED_LIMIT + 1)
    if len(text) > _PASTED_LIMIT:
        fault = f"{path} has more than {in_units(_PASTED_LIMIT)} and not one record on each line"
        raise click.ClickException(f"{fault}: write one on each line, as a log has.")
    try:
        for line, record in pasted(text):
            yield _entry(Line(file=path, number=line, text=record))
    except ValueError as error:
        yield _entry(Skipped(file=path, number=1, why=str(error)))


def is_pasted(beginning: bytes) -> bool:
    """Return True if the first bytes of a file are pasted text; False for one record on each line, or packed data."""
    text = beginning.lstrip(_BLANK)
    if text.startswith(b"["):
        return True
    first, newline, rest = text.partition(b"\n")
    if text.startswith(b'"'):
        return not _has_record(rest)
    # A complete first line is a log's; without its end it is a long record.
    if not text.startswith(b"{") or not newline or _is_json(json.loads, first):
        return False
    return _is_json(_DECODER.raw_decode, text) or not _has_record(rest)


def pasted(text: bytes) -> Iterator[tuple[int, bytes]]:
    """Return each object of a text, with the line on which it begins. Raises ValueError with what is wrong."""
    whole = text.decode("utf-8-sig", "replace")
    if whole.lstrip().startswith('"'):
        whole = f"{{{whole.strip().rstrip(',')}}}"
    position, line = 0, 1
    while (found := _BEGIN.search(whole, position)) is not None:
        start = found.start()
        line += whole.count("\n", position, start)
        try:
            value, position = _DECODER.raw_decode(whole, start)
        except json.JSONDecodeError as error:
            # Some of its messages end with a preposition, for a place that follows.
            what = error.msg.removesuffix(" at").removesuffix(" starting")
            raise ValueError(f"line {error.lineno} is not JSON: {what}") from error
        except RecursionError:
            raise ValueError("it is nested too deeply for a record") from None
        if isinstance(value, list):
            yield from ((line, json.dumps(record).encode()) for record in value)
        else:
            yield line, whole[start:position].encode()
        line += whole.count("\n", start, position)


def _has_record(lines: bytes) -> bool:
    """Return True if one of the lines is a record, as in a log with a broken first line; inside an object it is indented."""
    return any(line.startswith(b"{") and b'"type"' in line and _is_json(json.loads, line) for line in lines.split(b"\n"))


def _is_json(parse: Callable[[str], object], text: bytes) -> bool:
    try:
        parse(text.decode("utf-8", "replace"))
    except (ValueError, RecursionError):
        return False
    return True
