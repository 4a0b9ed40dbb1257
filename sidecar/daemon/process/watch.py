"""The files that settings came from: have they changed since?

Owns the comparison. Never reads a file.
"""

from collections.abc import Iterable
from pathlib import Path

from sidecar.config.files import stamp_of
from sidecar.core.settings.values import Source

# Looking costs a stat(2) a file. inotify would tell sooner, but not of files behind symbolic links and on network file systems.
LOOK_SECONDS = 2.0


class FileWatch:
    """Compares files with what they were when they were read."""

    def __init__(self, sources: Iterable[Source]) -> None:
        self.follow(sources)

    def follow(self, sources: Iterable[Source]) -> None:
        """From now on watch these, as they were when read."""
        self._read = {source.path: source.stamp for source in sources}
        self._seen = self._read

    def changed(self) -> list[Path]:
        """Look; give what has changed, once nothing is any more as between two looks: editors and copies write in steps."""
        now = {path: stamp_of(path) for path in self._read}
        before, self._seen = self._seen, now
        return [path for path, stamp in now.items() if stamp != self._read[path]] if now == before else []
