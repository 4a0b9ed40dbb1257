"""The files that settings came from: have they changed since?

Owns the comparison. Never reads a file.
"""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from sidecar.config.files import stamp_of
from sidecar.core.settings.values import Source, Stamp

# Looking costs a stat(2) a file. inotify would tell sooner, but not of files behind symbolic links and on network file systems.
LOOK_SECONDS = 2.0

Seen = dict[Path, tuple[Stamp | None, bool]]
"""For each path what stat(2) says, and whether it can be read, where that was the trouble."""

# Of a folder only what decides about its rights: its time changes with every file in it.
_RIGHTS: Final = slice(2, None)


class FileWatch:
    """Compares files with what they were when they were read. `seen` is what the last look found."""

    def __init__(self, sources: Iterable[Source]) -> None:
        self.follow(sources)

    def follow(self, sources: Iterable[Source], folders: Iterable[Path] = ()) -> None:
        """From now on watch these files as they were when read, and the rights of these folders and of those above them."""
        sources = tuple(sources)
        # An access list or a security module can keep a file from being read, and stat(2) tells neither.
        self._unread = {source.path for source in sources if source.digest is None}
        self._folders = {part for folder in folders for part in (folder.absolute(), *folder.absolute().parents)}
        self._read: Seen = {source.path: (source.stamp, self._is_readable(source.path)) for source in sources}
        self._read |= {folder: self._look(folder) for folder in self._folders}
        self.seen = self._read

    def changed(self) -> list[Path]:
        """Look; give what has changed, once nothing is any more as between two looks: editors and copies write in steps."""
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
