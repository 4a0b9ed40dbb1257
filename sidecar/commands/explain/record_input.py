"""Records for `explain --record`, wherever they are: in a log, in a folder of segments, in a pipe, or pasted from a ticket.

Owns the way from a path to entries. Never judges a record.
"""

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from io import BufferedReader
from pathlib import Path

import click
from msgspec.structs import replace

from sidecar.commands.explain.follow_up import Entry
from sidecar.commands.explain.pasted import is_pasted, pasted
from sidecar.core.records import Logged, decode
from sidecar.journal import read as journal
from sidecar.journal.layout import is_finished
from sidecar.journal.read import Followed
from sidecar.journal.read.order import merged

# Enough to see whether the first line is a record; a pipe shows no more at once.
_BEGINNING = 8192
# What is pasted comes from an editor, and is a few records; a log has one record a line, and no limit. Made of nothing but
# tiny objects, this much takes some seconds.
_PASTED_LIMIT = 4 * 1024 * 1024


def entries_of(path: Path, progress: Callable[[int], object] | None = None) -> Iterator[Entry]:
    """Give every record with its place, and every line that is none with its fault. Raises JournalError and click's errors."""
    if is_pasted(_beginning(path)):
        yield from _pasted_entries(path)
        return
    is_folder = path.is_dir()
    for line in journal.read(path, progress=progress):
        if is_folder and _is_being_written(line):
            continue
        if isinstance(line, journal.Skipped):
            yield Entry(file=_name(line.file), line=line.number, size=0, fault=line.why)
        else:
            yield _entry(_name(line.file), line.number, line.text)


def new_entries(files: Sequence[Followed]) -> Iterator[Entry]:
    """Give what is new in the files of a log, by time: a log may have a file for each type of record. Raises JournalError."""
    for found in merged(files):
        if _is_being_written(found.line):
            continue
        file, number = _name(found.line.file), found.line.number
        if found.record is None or isinstance(found.line, journal.Skipped):
            yield Entry(file=file, line=number, size=0, fault=found.why)
        else:
            yield Entry(file=file, line=number, size=len(found.line.text), record=_slim(found.record))


def _is_being_written(line: journal.Line | journal.Skipped) -> bool:
    """Tell whether it is but the end of a segment that somebody writes."""
    if not (isinstance(line, journal.Skipped) and line.unfinished):
        return False
    try:
        return not is_finished(line.file.stat())
    except FileNotFoundError:
        return False


def _name(path: Path) -> str:
    """Write a file's name as text: one whose bytes are none could not stand in JSON."""
    return os.fsencode(path).decode("utf-8", "replace")


def _entry(file: str, number: int, text: bytes) -> Entry:
    try:
        record = decode(text)
    except ValueError as error:
        return Entry(file=file, line=number, size=0, fault=str(error))
    return Entry(file=file, line=number, size=len(text), record=_slim(record))


def _slim(record: Logged) -> Logged:
    """Let go of what may be big and is not asked for: records wait for what belongs to them."""
    return replace(record, feedback_report=None, headers={})


def _beginning(path: Path) -> bytes:
    """Look at the first bytes; of what cannot be looked at without taking it, there are none."""
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
        raise click.ClickException(
            f"{path} has more than {_PASTED_LIMIT} bytes and no record a line: write one a line, as a log has."
        )
    try:
        for line, record in pasted(text):
            yield _entry(_name(path), line, record)
    except ValueError as error:
        yield Entry(file=_name(path), line=1, size=0, fault=str(error))
