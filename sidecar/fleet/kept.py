"""Records that were rejected where they were delivered, such as those above the size limit of the server.

Owns the folder: each record is in a file of its own, on disk before the checkpoint moves on, until it could be delivered.
"""

import os
from collections.abc import Iterator
from pathlib import Path

import msgspec

from sidecar.fleet.feed import Item
from sidecar.journal import make_directory, sync_directory


class Kept:
    """The records that are kept for one reader, in `directory`."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def __len__(self) -> int:
        return len(self._files())

    def add(self, item: Item) -> Path:
        """Keep a record; it is on disk on return. Raise OSError."""
        make_directory(self.directory)
        path = self._path(item)
        draft = path.with_suffix(".new")
        with draft.open("wb") as file:
            file.write(msgspec.json.encode((item.path, item.segment, item.line, item.type, item.created)) + b"\n" + item.text)
            file.flush()
            os.fsync(file.fileno())
        draft.rename(path)
        sync_directory(self.directory)
        return path

    def items(self) -> Iterator[Item]:
        """Yield what is kept. Raise OSError."""
        for file in self._files():
            head, _, text = file.read_bytes().partition(b"\n")
            path, segment, line, kind, created = msgspec.json.decode(head, type=tuple[str, str, int, str, int])
            yield Item(path=path, segment=segment, line=line, type=kind, created=created, text=text)

    def remove(self, item: Item) -> None:
        """Forget a record that was delivered. Raise OSError."""
        self._path(item).unlink(missing_ok=True)

    def _path(self, item: Item) -> Path:
        return self.directory / f"{item.segment.replace('/', '_')}-{item.line}.record"

    def _files(self) -> list[Path]:
        return sorted(self.directory.glob("*.record"))
