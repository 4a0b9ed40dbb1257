"""Reading records: the lines of a file, of all segments in a folder, live ones included, or of standard input.

Owns the order in which files are read, and which are left out. Never decodes a record, and never changes a file.
"""

import errno
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from stat import S_ISDIR, S_ISREG
from typing import BinaryIO, Literal

from sidecar.journal import JournalError
from sidecar.journal.read import logs
from sidecar.journal.read.lines import Line, LineSplitter, Skipped, Unpacker, UnpackingError

STDIN = Path("-")

_BREAKS_OFF = "the packed data breaks off: it is still being written, or a crash has cut it off"
_CHUNK = 256 * 1024
# A clock may have been set back by so many seconds between a record's time and its segment's last write.
_SLACK = 3600.0


def read(
    path: Path, *, since: float | None = None, progress: Callable[[int], object] | None = None
) -> Iterator[Line | Skipped]:
    """Yield the lines of a file, of a folder's segments from the oldest to the newest, or of standard input (`-`).

    Plain or packed with zstd. Blank lines are skipped. With `since`, in seconds since 1970, files that were last written before
    it are left out; the others can have older records. `progress` is called with the number of stored bytes read since its last
    call. Raise JournalError if something cannot be read.
    """
    progress = progress or (lambda _: None)
    try:
        if path == STDIN:
            if sys.stdin is None:
                raise JournalError("standard input is closed; give it the records, or name a file or a journal directory")
            yield from _lines(path, sys.stdin.buffer, progress)
        elif path.is_dir():
            yield from _read_folder(path, since, progress)
        else:
            with path.open("rb", buffering=0) as file:
                yield from _lines(path, file, progress)
    except OSError as error:
        raise unreadable(error, path) from error


def stored_size(path: Path, *, since: float | None = None) -> int | None:
    """Return how many bytes `read` will report; None if that is unknown, as of a pipe. Raise JournalError."""
    try:
        if path == STDIN:
            return None
        if not path.is_dir():
            return path.stat().st_size if path.is_file() else None
        return sum(_size(segment.path) for segment in logs.find(path) if not _is_older(segment.path, since))
    except OSError as error:
        raise unreadable(error, path) from error


def passed_over(path: Path) -> tuple[Path, int] | None:
    """Return one of the files that `read` leaves out of a folder, and their number: their names are not those of segments.

    None if there are none, or if `path` is no folder. Raise JournalError.
    """
    try:
        return logs.Folder(path).passed_over() if path != STDIN and path.is_dir() else None
    except OSError as error:
        raise unreadable(error, path) from error


def kind_of(path: Path) -> Literal["files", "stream", "nothing"]:
    """Return what `path` is: "files" can be read again, a "stream" cannot, and "nothing" is missing. Raise JournalError."""
    try:
        if path == STDIN:
            return "stream"
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return "nothing"
    except OSError as error:
        raise unreadable(error, path) from error
    return "files" if S_ISREG(mode) or S_ISDIR(mode) else "stream"


def _read_folder(folder: Path, since: float | None, progress: Callable[[int], object]) -> Iterator[Line | Skipped]:
    for segment in logs.find(folder):
        try:
            if not _is_older(segment.path, since):
                with os.fdopen(open_file(segment.path), "rb", buffering=0) as file:
                    yield from _lines(segment.path, file, progress)
        except FileNotFoundError:
            continue  # removed since the listing, by an operator or because it was empty


def open_file(path: Path) -> int:
    """Open what was a file when it was listed, and return its descriptor. Raise OSError, FileNotFoundError if it is none now.

    A pipe in its place would wait for a writer.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    if S_ISREG(os.fstat(descriptor).st_mode):
        return descriptor
    os.close(descriptor)
    raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))


def _lines(path: Path, file: BinaryIO, progress: Callable[[int], object]) -> Iterator[Line | Skipped]:
    unpacker, splitter = Unpacker(), LineSplitter(path)
    read_some = getattr(file, "read1", file.read)  # `read` would wait until a pipe has sent a whole chunk
    try:
        while stored := read_some(_CHUNK):
            for data in unpacker.feed(stored):
                yield from splitter.feed(data)
            progress(len(stored))
    except UnpackingError as error:
        yield splitter.broken(str(error))
        return
    yield from last_lines(unpacker, splitter)


def last_lines(unpacker: Unpacker, splitter: LineSplitter) -> Iterator[Line | Skipped]:
    """Yield the rest at the end of a file: a line without its line feed, and a note if packed data breaks off.

    A whole object without a line feed is a record, in a packed file as in a plain one: the packer may have lost only its end.
    """
    yield from splitter.feed(unpacker.rest())
    last = splitter.end()
    if last is not None and (unpacker.finished or isinstance(last, Line)):
        yield last
    if not unpacker.finished:
        yield splitter.unfinished(_BREAKS_OFF)


def line_at(path: Path, offset: int) -> bytes | None:
    """Return the line of a file that begins after so many bytes (unpacked); None without such a line. Raise JournalError."""
    try:
        with os.fdopen(open_file(path), "rb", buffering=0) as file:
            for line in _lines_from(path, file, offset):
                return line.text if isinstance(line, Line) else None
    except FileNotFoundError:
        return None
    except OSError as error:
        raise unreadable(error, path) from error
    return None


def _lines_from(path: Path, file: BinaryIO, offset: int) -> Iterator[Line | Skipped]:
    unpacker, splitter, at = Unpacker(), LineSplitter(path), 0
    try:
        while stored := file.read(_CHUNK):
            for data in unpacker.feed(stored):
                yield from splitter.feed(data[max(0, offset - at) :])
                at += len(data)
            if unpacker.plain and at < offset:
                at = file.seek(offset)
    except UnpackingError:
        return
    yield from last_lines(unpacker, splitter)


def _is_older(path: Path, since: float | None) -> bool:
    return since is not None and path.stat().st_mtime < since - _SLACK


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def unreadable(error: OSError, path: Path) -> JournalError:
    """Return the error for a path that cannot be read."""
    fact, then = "records could not be read from", "name a file or a journal directory that can"
    return JournalError.because(error, fact=fact, path=path, then=then)
