"""Which files of a folder are segments: ours, and KumoMTA's with whatever suffix its operator chose.

Owns their names and their order. Never opens a file.
"""

import os
import re
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from msgspec import Struct

from sidecar.journal.error import JournalError

# KumoMTA names a segment by the instant at which it began: `YYYYMMDD-HHMMSS`, a fraction of up to nine digits where there is
# one, and the suffix, if any, that the operator chose; ours are such names too. A message in the quarantine is named alike.
_NAME = re.compile(r"(\d{8}-\d{6}(?:\.\d{1,9})?)(?!-[0-9a-f]{32}(?:-[0-9a-f]{8,16})?\.).*", re.ASCII)

# KumoMTA's log directory may be a pattern of dates (`%Y/%m/%d/%H`), and each type of record may have a directory of its own.
DEPTH_LIMIT = 5

# The clock that stamps files goes in steps, of 4 ms or, on some disks, 2 s: a directory that changed so short a time before it
# was looked at may have changed once more since, and tell the same time.
_STEP_NS = 2_000_000_000

_PACKED = (".zst", ".gz", ".xz", ".bz2")


class Found(Struct, frozen=True, kw_only=True, gc=False):
    """A segment. `began` is the instant in its name: text that sorts as time does. `inode` tells it from a later namesake."""

    began: str
    path: Path
    inode: int

    @property
    def key(self) -> str:
        """One segment's name before and after somebody packed it."""
        path = str(self.path)
        for ending in _PACKED:
            path = path.removesuffix(ending)
        return path


class _Directory(Struct, frozen=True, kw_only=True):
    """What one directory held at `changed`, its own time of change; `settled`, if that time will tell of any later change."""

    changed: int
    settled: bool
    segments: list[Found]
    below: list[Path]
    others: int
    other: str | None


class Folder:
    """A folder, and those below it, which can be looked at again and again: only what has changed is read anew."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._known: dict[Path, _Directory] = {}

    def look(self) -> tuple[Found, ...] | None:
        """Give the segments, the oldest first; None, if they are the same as the last time. Raises OSError.

        Of a segment that is there both packed and not, the latter: somebody is just packing it. An empty folder is a journal
        in which nothing has been written yet; one that, the first time, has files and no segments raises JournalError.
        """
        before, self._known = self._known, dict(self._walk())
        if before and before == self._known:
            return None
        segments = _in_order(self._known.values())
        if not before and not segments and any(directory.others for directory in self._known.values()):
            raise JournalError(
                f"there are no segments in {self._path}; name a folder with files such as 20261122-093000.123456.jsonl"
            )
        return segments

    def passed_over(self) -> tuple[Path, int] | None:
        """Give one of the files that are no segments, and how many stand beside those that are; None if none does.

        Where there are no segments at all, `look` says so. Raises OSError.
        """
        directories = dict(self._walk())
        found = [path / directory.other for path, directory in directories.items() if directory.other is not None]
        if not found or not any(directory.segments for directory in directories.values()):
            return None
        return min(found), sum(directory.others for directory in directories.values())

    def _walk(self) -> Iterator[tuple[Path, _Directory]]:
        paths = [(self._path, 1)]
        while paths:
            path, depth = paths.pop()
            try:
                directory = self._directory(path)
            except OSError:
                if path == self._path:
                    raise
                continue  # removed meanwhile, or none of the reader's business
            yield path, directory
            if depth < DEPTH_LIMIT:
                paths += [(below, depth + 1) for below in directory.below]

    def _directory(self, path: Path) -> _Directory:
        changed = path.stat().st_mtime_ns
        known = self._known.get(path)
        if known is not None and known.settled and known.changed == changed:
            return known
        return _listed(path, changed)


def named(path: Path) -> Found:
    """Give one file by its name, be it that of a segment or not. Raises OSError."""
    name = _NAME.fullmatch(path.name)
    return Found(began=name[1] if name else "", path=path, inode=path.stat().st_ino)


def find(path: Path) -> tuple[Found, ...]:
    """Give the segments in a folder and in those below it, as `Folder.look` does. Raises OSError and JournalError."""
    return Folder(path).look() or ()


def _listed(path: Path, changed: int) -> _Directory:
    settled = changed < time.time_ns() - _STEP_NS
    segments: list[Found] = []
    below: list[Path] = []
    others, other = 0, None
    with os.scandir(path) as entries:
        for entry in entries:
            # A dot hides what others keep here, such as the marks of KumoMTA's tailer.
            if entry.name.startswith("."):
                continue
            if entry.is_dir(follow_symlinks=False):
                below.append(Path(entry))
            elif (name := _NAME.fullmatch(entry.name)) and _is_file(entry):
                segments.append(Found(began=name[1], path=Path(entry), inode=entry.inode()))
            else:
                others += 1
                other = entry.name if other is None else min(other, entry.name)
    return _Directory(changed=changed, settled=settled, segments=segments, below=below, others=others, other=other)


def _is_file(entry: os.DirEntry[str]) -> bool:
    """Tell a file from a pipe or a device, which would be waited for, or read, for ever."""
    try:
        return entry.is_file()
    except OSError:
        return True  # a link in a circle, or nothing to be seen: whoever opens it will say why


def _in_order(directories: Iterable[_Directory]) -> tuple[Found, ...]:
    found = [segment for directory in directories for segment in directory.segments]
    plain = {str(segment.path) for segment in found}
    once = (segment for segment in found if (key := segment.key) == str(segment.path) or key not in plain)
    return tuple(sorted(once, key=lambda segment: (segment.began, segment.path)))
