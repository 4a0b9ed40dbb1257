"""Following a log while it is written: each whole line once, also if files are removed, replaced or packed.

Owns which files are followed, and how far each has been read. Never waits, and never decodes a record.

A segment that is read-only is finished, ours and KumoMTA's alike: once read to its end, it is not opened again. A file that was
truncated or replaced is read from its beginning.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path

from sidecar.journal import is_finished
from sidecar.journal.read.lines import Line, LineSplitter, Skipped, Unpacker, UnpackingError
from sidecar.journal.read.logs import Folder, Found, named
from sidecar.journal.read.reader import last_lines, open_file, unreadable

_CHUNK = 256 * 1024

# An open file can be read to its end after it was removed. Our writers and KumoMTA's have a few open at a time. If a folder has
# hundreds of files that are not read-only, such as a copy, none is kept open.
_HELD_LIMIT = 64


class Followed:
    """One file. `began` is the instant in its name, or `""`; `written` is in seconds since 1970, `size` in stored bytes."""

    def __init__(self, found: Found, *, growing: bool) -> None:
        self.path = found.path
        self.began = found.began
        self.inode = found.inode
        self.done = False
        self._growing = growing
        self.held = False
        self._descriptor: int | None = None
        self._marks: tuple[int, ...] | None = None
        self._restart()
        state = self._state()
        self.written, self.size = state.st_mtime, state.st_size
        self.finished = self._is_finished(state)

    def skip(self) -> None:
        """Skip what the file has now; a line that has not ended yet will be read."""
        try:
            self._skip = self._look().st_size
        except FileNotFoundError:
            self.done = True

    def changed(self) -> bool:
        """Return True if the file has changed since the last `lines` or `skip`."""
        if self.done:
            return False
        try:
            return _marks(self._state()) != self._marks
        except FileNotFoundError:
            return False

    def lines(self) -> Iterator[Line | Skipped]:
        """Yield the whole lines that are new; the caller must read all of them. Raise JournalError."""
        try:
            descriptor = self._open()
            size = self._look().st_size
            if size < self._position:
                self._restart()
            self._skip = min(self._skip, size)  # half a line that was skipped may have been cut off
            yield from self._new_lines(descriptor)
        except FileNotFoundError:
            self.done = True  # removed by an operator
        except UnpackingError as error:
            self.done = True
            yield self._splitter.broken(str(error))
        except OSError as error:
            raise unreadable(error, self.path) from error
        if self.done or not self.held:
            self.close()

    def hold(self, *, held: bool) -> None:
        """Keep the file open from now on, or do not. Raise OSError."""
        self.held = held
        if held:
            self._open()

    def leave(self) -> None:
        """Expect no more lines than the file has now."""
        self._growing = False
        self._marks = None

    def close(self) -> None:
        """Close the file."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _open(self) -> int:
        if self._descriptor is None:
            self._descriptor = open_file(self.path)
        return self._descriptor

    def _state(self) -> os.stat_result:
        return self.path.stat() if self._descriptor is None else os.fstat(self._descriptor)

    def _look(self) -> os.stat_result:
        # Before reading: a file that is finished now does not grow any more.
        state = self._state()
        self._marks = _marks(state)
        self.done = self._is_finished(state)
        return state

    def _is_finished(self, state: os.stat_result) -> bool:
        return not self._growing or (is_finished(state) and self.began != "")

    def _restart(self) -> None:
        self._position = 0
        self._skip = 0
        self._unpacker, self._splitter = Unpacker(), LineSplitter(self.path)

    def _new_lines(self, descriptor: int) -> Iterator[Line | Skipped]:
        while stored := os.pread(descriptor, self._next_size(), self._position):
            self._position += len(stored)
            # Skipped bytes are read too: to count their lines, and to unpack the rest.
            skipped = self._position <= self._skip
            for data in self._unpacker.feed(stored):
                for line in self._splitter.feed(data):
                    if not skipped:
                        yield line
        if self.done:
            yield from last_lines(self._unpacker, self._splitter)
        elif self._unpacker.plain:
            # A writer that fails cuts half a line off, and the next line is written in its place: read it again.
            self._position -= self._splitter.forget()

    def _next_size(self) -> int:
        return min(_CHUNK, self._skip - self._position) if self._position < self._skip else _CHUNK


class Follower:
    """Follows a file, or all segments of a folder and of those below it; they need not exist yet.

    Without `growing`, nothing is added to what exists now.
    """

    def __init__(self, path: Path, *, growing: bool = True) -> None:
        self._path = path
        self._growing = growing
        self._folder = Folder(path)
        self._files: dict[str, Followed] = {}
        self._leaving: list[Followed] = []
        self._read: dict[str, Found] = {}

    def look(self) -> list[Followed]:
        """Return the files that have changed, in the order in which they began; the first time, all. Raise JournalError.

        The caller must have read or skipped those of the last call.
        """
        try:
            self._drop()
            if (found := self._listed()) is not None:
                self._update(found)
            new = (*self._leaving, *(file for file in self._files.values() if file.changed()))
            return sorted(new, key=lambda file: (file.began, file.path))
        except OSError as error:
            raise unreadable(error, self._path) from error

    def close(self) -> None:
        """Close all files; nothing may be read after it."""
        for file in (*self._leaving, *self._files.values()):
            file.close()

    def _listed(self) -> Sequence[Found] | None:
        """Return the files to follow; None if they are the same as the last time."""
        try:
            return self._folder.look() if self._path.is_dir() else (named(self._path),)
        except FileNotFoundError:
            return ()

    def _drop(self) -> None:
        for file in self._leaving:
            file.close()
        self._leaving.clear()
        for key in [key for key, file in self._files.items() if file.done]:
            del self._files[key]

    def _update(self, found: Sequence[Found]) -> None:
        present = {segment.key: segment for segment in found}
        for key in self._files.keys() - present.keys():
            self._leave(key)
        self._read = {key: segment for key, segment in self._read.items() if key in present}
        for key, segment in present.items():
            known = self._read.get(key)
            self._read[key] = segment
            # Under another name it is the same segment, packed or unpacked since.
            if known is None or (known.path == segment.path and known.inode != segment.inode):
                self._leave(key)
                try:
                    self._files[key] = Followed(segment, growing=self._growing)
                except FileNotFoundError:
                    del self._read[key]  # removed since it was listed
            elif known.path != segment.path:
                self._leave(key)
        live = [file for file in self._files.values() if not file.finished]
        for file in live:
            with suppress(FileNotFoundError):
                file.hold(held=len(live) <= _HELD_LIMIT)

    def _leave(self, key: str) -> None:
        """Follow a file that was removed, replaced or packed only to its end."""
        file = self._files.pop(key, None)
        if file is not None and file.held:
            file.leave()
            self._leaving.append(file)


@contextmanager
def followers(directories: Sequence[Path]) -> Iterator[list[Follower]]:
    """Follow all these directories in the block; one that is below another has no Follower, because that reads it too."""
    resolved = {path.absolute(): path for path in directories}
    with ExitStack() as stack:
        yield [
            stack.enter_context(closing(Follower(path)))
            for full, path in resolved.items()
            if not any(other != full and full.is_relative_to(other) for other in resolved)
        ]


def _marks(state: os.stat_result) -> tuple[int, ...]:
    """Return what every relevant change of a file changes."""
    return (state.st_size, state.st_mtime_ns, state.st_mode)
