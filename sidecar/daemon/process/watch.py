"""Which files of the settings have changed since they were read. Owns the comparison. Never reads a file."""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from sidecar.config.files import stamp_of
from sidecar.core.settings.values import Source, Stamp

# Of a folder's stat(2) only what decides about its rights: its times change with every file in it.
_RIGHTS: Final = slice(2, None)

Seen = dict[Path, tuple[Stamp | None, bool]]
"""For each path what stat(2) returns, and whether it can be read, if it could not be before."""


class FileWatch:
    """Compares files with what they were when they were read. `seen` is what the last look found."""

    def __init__(self, sources: Iterable[Source]) -> None:
        self.follow(sources)

    def follow(self, sources: Iterable[Source], folders: Iterable[Path] = ()) -> None:
        """Watch these files as they were when read, and the rights of these folders and of those above them."""
        sources = tuple(sources)
        # An access list or a security module can make a file unreadable, which stat(2) does not show.
        self._unread = {source.path for source in sources if source.digest is None}
        self._folders = {part for folder in folders for part in (folder.absolute(), *folder.absolute().parents)}
        self._read: Seen = {source.path: (source.stamp, self._is_readable(source.path)) for source in sources}
        self._read |= {folder: self._look(folder) for folder in self._folders}
        self.seen = self._read

    def changed(self) -> list[Path]:
        """Return the paths that have changed, if two looks in a row find the same: editors and copies write in steps."""
        now = {path: self._look(path) for path in self._read}
        before, self.seen = self.seen, now
        return [path for path, found in now.items() if found != self._read[path]] if now == before else []

    def _look(self, path: Path) -> tuple[Stamp | None, bool]:
        stamp = stamp_of(path)
        if path in self._folders:
            return stamp and stamp[_RIGHTS], os.access(path, os.W_OK)
        return stamp, self._is_readable(path)

    def _is_readable(self, path: Path) -> bool:
        return path in self._unread and os.access(path, os.R_OK)
