"""How far a reader has read the journal: a file for each reader that must miss no record, also while it is not running.

Owns these files. Never reads a segment.
"""

import os
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path

import msgspec
from msgspec import Struct

from sidecar.core.text import rfc3339
from sidecar.journal import make_directory, sync_directory

_ENDING = ".json"
_LIVE = ".live"


class SegmentMark(Struct, frozen=True, kw_only=True):
    """How far one segment was read: `lines` from its beginning; with `done` it was finished, and all of it was read."""

    lines: int
    done: bool = False


class Checkpoint(Struct, frozen=True, kw_only=True):
    """The segments that a reader has begun, by path. It has read nothing of a segment that is not here."""

    segments: dict[str, SegmentMark]


class ReaderState(Struct, frozen=True, kw_only=True):
    """What a reader says of itself.

    `oldest` is when the oldest record was made that it has not delivered, in seconds since 1970; 0 if there is none. `fault`
    is why it does not continue, in words. `kept` counts the records that were rejected where it delivers them.
    """

    oldest: int = 0
    fault: str = ""
    kept: int = 0


class _Live(ReaderState, frozen=True, kw_only=True):
    """The small part of a checkpoint, which is saved often: the segments that have not been read to their ends."""

    segments: dict[str, SegmentMark]


class KnownReader(ReaderState, frozen=True, kw_only=True):
    """A reader, when it saved its checkpoint last (RFC 3339), the file of the checkpoint, and what it says of itself."""

    name: str
    saved: str
    file: str

    def __str__(self) -> str:
        """Return a sentence without a full stop."""
        return f"reader {self.name} saved its checkpoint last at {self.saved}; if it is gone for good, remove {self.file}"


class Checkpoints:
    """The checkpoints of all readers, in `directory`; a reader exists from its first `save` until `remove`."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def readers(self) -> tuple[str, ...]:
        """Return the names of the readers. Raise OSError."""
        try:
            return tuple(sorted(path.stem for path in self._directory.iterdir() if path.suffix == _ENDING))
        except FileNotFoundError:
            return ()

    def load(self, reader: str) -> Checkpoint:
        """Return a reader's checkpoint; an empty one if it has none. Raise OSError, and ValueError for a damaged one."""
        try:
            whole = msgspec.json.decode(self._path(reader).read_bytes(), type=Checkpoint)
            later = {
                path: mark
                for path, mark in self._live(reader).segments.items()
                if (known := whole.segments.get(path)) is None or (known.lines < mark.lines and not known.done)
            }
            return Checkpoint(segments=whole.segments | later)
        except FileNotFoundError:
            return Checkpoint(segments={})
        except ValueError as error:
            path = self._path(reader)
            raise ValueError(f"{path} is damaged ({error}): remove it if its reader is gone for good") from error

    def known(self, reader: str) -> KnownReader:
        """Return what an operator can know about a reader. Raise OSError."""
        path = self._path(reader)
        live = self._path(reader, _LIVE)
        saved = max(one.stat().st_mtime for one in (path, live) if one is path or one.exists())
        state = self._live(reader)
        return KnownReader(
            name=reader,
            saved=rfc3339(int(saved)),
            file=str(path),
            oldest=state.oldest,
            fault=state.fault,
            kept=state.kept,
        )

    def save(self, reader: str, checkpoint: Checkpoint) -> None:
        """Replace a reader's checkpoint, as a whole; it is on disk on return. Raise OSError."""
        self._write(self._path(reader), msgspec.json.encode(checkpoint), sync=True)

    def save_live(self, reader: str, checkpoint: Checkpoint, state: ReaderState) -> None:
        """Save what has changed since the last `save`, and the state, beside the checkpoint, which must exist. Raise OSError.

        It is a small file, also if the checkpoint has thousands of segments. It is not on disk on return: an fsync would delay
        those of the journal, which MTAs wait for. After a power failure the reader can continue from its last `save`.
        """
        saved = _Live(segments=checkpoint.segments, oldest=state.oldest, fault=state.fault, kept=state.kept)
        self._write(self._path(reader, _LIVE), msgspec.json.encode(saved), sync=False)

    def all_known(self) -> list[KnownReader]:
        """Return all readers that can be seen; never raises."""
        found = []
        with suppress(OSError):
            for reader in self.readers():
                with suppress(OSError):  # removed meanwhile
                    found.append(self.known(reader))
        return found

    def remove(self, reader: str) -> None:
        """Forget a reader: from now on segments are not kept for it. Raise OSError."""
        self._path(reader).unlink(missing_ok=True)
        self._path(reader, _LIVE).unlink(missing_ok=True)

    def remove_all(self, name: str, *, but: Collection[str] = ()) -> None:
        """Forget the reader of this name, and all whose names begin with it and a dash, but for some. Raise OSError."""
        for reader in self.readers():
            if (reader == name or reader.startswith(f"{name}-")) and reader not in but:
                self.remove(reader)

    def _live(self, reader: str) -> _Live:
        """Return the small part; an empty one if there is none, or if a power failure left half of it."""
        with suppress(FileNotFoundError, ValueError):
            return msgspec.json.decode(self._path(reader, _LIVE).read_bytes(), type=_Live)
        return _Live(segments={})

    def _write(self, path: Path, content: bytes, *, sync: bool) -> None:
        make_directory(self._directory)
        draft = self._directory / f".{path.name}.new"
        with draft.open("wb") as file:
            file.write(content)
            file.flush()
            if sync:
                os.fsync(file.fileno())
        draft.rename(path)
        if sync:
            sync_directory(self._directory)

    def _path(self, reader: str, ending: str = _ENDING) -> Path:
        return self._directory / f"{reader}{ending}"
