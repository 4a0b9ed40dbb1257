"""Which files of a folder are segments: ours, and KumoMTA's with any suffix that its operator chose.

Owns their names and their order. Never opens a file.
"""

import os
import re
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from msgspec import Struct

from sidecar.journal import JournalError

# KumoMTA names a segment by the instant at which it began: `YYYYMMDD-HHMMSS`, an optional fraction of up to nine digits, and an
# optional suffix that the operator chose. Ours are such names too. A message in the quarantine has a similar one.
_NAME = re.compile(r"(\d{8}-\d{6}(?:\.\d{1,9})?)(?!-[0-9a-f]{32}(?:-[0-9a-f]{8,16})?\.).*", re.ASCII)

# KumoMTA's log directory can be a pattern of dates (`%Y/%m/%d/%H`), and each type of record can have its own directory.
DEPTH_LIMIT = 5

# Times of files have steps of 4 ms or, on some disks, 2 s: a directory that changed shortly before it was listed can change
# again without a change of its time.
_STEP_NS = 2_000_000_000

_PACKED = (".zst", ".gz", ".xz", ".bz2")


class Found(Struct, frozen=True, kw_only=True, gc=False):
    """A segment. `began` is the instant in its name: text that sorts as time does. A later namesake has another `inode`."""

    began: str
    path: Path
    inode: int

    @property
    def key(self) -> str:
        """The name of a segment without the suffix of a packer."""
        return key_of(self.path)


class _Directory(Struct, frozen=True, kw_only=True):
    """What one directory had at `changed`, its own time of change; with `stable`, any later change changes that time."""

    changed: int
    stable: bool
    segments: list[Found]
    below: list[Path]
    others: int
    other: str | None


class Folder:
    """A folder, and those below it, which can be listed again and again: only what has changed is listed again."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._known: dict[Path, _Directory] = {}

    def look(self) -> tuple[Found, ...] | None:
        """Return the segments, the oldest first; None if they are the same as the last time. Raise OSError.

        If a segment exists packed and unpacked, the unpacked file is returned: a program is packing it. An empty folder is a
        journal without records yet. Raise JournalError if the folder has files and no segments at the first call.
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
        """Return one of the files that are not segments, and their number; None if all are segments. Raise OSError.

        If no file is a segment, `look` reports it.
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
                continue  # removed meanwhile, or not readable
            yield path, directory
            if depth < DEPTH_LIMIT:
                paths += [(below, depth + 1) for below in directory.below]

    def _directory(self, path: Path) -> _Directory:
        changed = path.stat().st_mtime_ns
        known = self._known.get(path)
        if known is not None and known.stable and known.changed == changed:
            return known
        return _listed(path, changed)


def named(path: Path) -> Found:
    """Return one file, whether it is named as a segment or not. Raise OSError."""
    name = _NAME.fullmatch(path.name)
    return Found(began=name[1] if name else "", path=path, inode=path.stat().st_ino)


def key_of(path: Path) -> str:
    """Return the path of a segment without the suffix of a packer."""
    key = str(path)
    for ending in _PACKED:
        key = key.removesuffix(ending)
    return key


def stored_paths(key: str) -> Iterator[Path]:
    """Yield the paths at which a segment with this key can be: as it was written, or packed since."""
    yield from (Path(f"{key}{ending}") for ending in ("", *_PACKED))


def find(path: Path) -> tuple[Found, ...]:
    """Return the segments in a folder and in those below it, as `Folder.look` does. Raise OSError and JournalError."""
    return Folder(path).look() or ()


def _listed(path: Path, changed: int) -> _Directory:
    stable = changed < time.time_ns() - _STEP_NS
    segments: list[Found] = []
    below: list[Path] = []
    others, other = 0, None
    with os.scandir(path) as entries:
        for entry in entries:
            # Other programs keep hidden files here, such as the marks of KumoMTA's tailer.
            if entry.name.startswith("."):
                continue
            if entry.is_dir(follow_symlinks=False):
                below.append(Path(entry))
            elif (name := _NAME.fullmatch(entry.name)) and _is_file(entry):
                segments.append(Found(began=name[1], path=Path(entry), inode=entry.inode()))
            else:
                others += 1
                other = entry.name if other is None else min(other, entry.name)
    return _Directory(changed=changed, stable=stable, segments=segments, below=below, others=others, other=other)


def _is_file(entry: os.DirEntry[str]) -> bool:
    """Return False for a pipe or a device: reading it might never end."""
    try:
        return entry.is_file()
    except OSError:
        return True  # a loop of links, or not accessible: opening it reports why


def _in_order(directories: Iterable[_Directory]) -> tuple[Found, ...]:
    found = [segment for directory in directories for segment in directory.segments]
    plain = {str(segment.path) for segment in found}
    once = (segment for segment in found if (key := segment.key) == str(segment.path) or key not in plain)
    return tuple(sorted(once, key=lambda segment: (segment.began, segment.path)))
