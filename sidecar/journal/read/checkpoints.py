"""How far a reader has read the journal: a file for each reader that must miss no record, also while it is not running.

Owns these files. Never reads a segment.
"""

import os
from contextlib import suppress
from pathlib import Path

import msgspec
from msgspec import Struct

from sidecar.core.text import rfc3339
from sidecar.journal import make_directory, sync_directory

_ENDING = ".json"


class SegmentMark(Struct, frozen=True, kw_only=True):
    """How far one segment was read: `lines` from its beginning; with `done` it was finished, and all of it was read."""

    lines: int
    done: bool = False


class Checkpoint(Struct, frozen=True, kw_only=True):
    """The segments that a reader has begun, by path. It has read nothing of a segment that is not here."""

    segments: dict[str, SegmentMark]


class KnownReader(Struct, frozen=True, kw_only=True):
    """A reader, when it saved its checkpoint last (RFC 3339), and the file of the checkpoint."""

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
            return msgspec.json.decode(self._path(reader).read_bytes(), type=Checkpoint)
        except FileNotFoundError:
            return Checkpoint(segments={})
        except ValueError as error:
            path = self._path(reader)
            raise ValueError(f"{path} is damaged ({error}): remove it if its reader is gone for good") from error

    def known(self, reader: str) -> KnownReader:
        """Return what an operator can know about a reader. Raise OSError."""
        path = self._path(reader)
        return KnownReader(name=reader, saved=rfc3339(int(path.stat().st_mtime)), file=str(path))

    def save(self, reader: str, checkpoint: Checkpoint) -> None:
        """Replace a reader's checkpoint, as a whole; it is on disk on return. Raise OSError."""
        make_directory(self._directory)
        path, draft = self._path(reader), self._directory / f".{reader}.new"
        with draft.open("wb") as file:
            file.write(msgspec.json.encode(checkpoint))
            file.flush()
            os.fsync(file.fileno())
        draft.rename(path)
        sync_directory(self._directory)

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

    def _path(self, reader: str) -> Path:
        return self._directory / f"{reader}{_ENDING}"
