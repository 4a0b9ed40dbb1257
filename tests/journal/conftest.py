"""What these tests share: journals that are closed again, and file systems of their own."""

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from sidecar.journal.read import Line, read
from sidecar.journal.write import Journal

OpenJournal = Callable[..., Journal]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A journal directory that does not exist yet."""
    return tmp_path / "spool" / "journal"


@pytest.fixture
def open_journal() -> Iterator[OpenJournal]:
    """Open journals with limits that no test meets by chance; they are closed after the test."""
    opened: list[Journal] = []

    def open_one(directory: Path, *, segment_size: int = 1 << 20, segment_age: int = 3600, **others: Any) -> Journal:
        opened.append(Journal(directory, segment_size=segment_size, segment_age=segment_age, **others))
        return opened[-1]

    yield open_one
    for journal in opened:
        journal.close()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 kB."""
    where = tmp_path / "small"
    where.mkdir()
    _mount("-t", "tmpfs", "-o", "size=64k", "tmpfs", str(where))
    yield where
    subprocess.run(["umount", "--lazy", where], check=True)


@pytest.fixture
def read_only(tmp_path: Path) -> Iterator[Path]:
    """A directory mounted read-only; `mount -o remount,bind,rw` gives the right to write back."""
    where = tmp_path / "read_only"
    where.mkdir()
    _mount("--bind", str(where), str(where))
    _mount("-o", "remount,bind,ro", str(where))
    yield where
    subprocess.run(["umount", "--lazy", where], check=True)


def _mount(*arguments: str) -> None:
    done = subprocess.run(["mount", *arguments], check=False, capture_output=True, text=True)
    if done.returncode != 0:
        pytest.skip(f"this test mounts a file system, which is not permitted here: {done.stderr.strip()}")


def texts(path: Path) -> list[bytes]:
    """Return the whole lines of a journal directory or file."""
    return [line.text for line in read(path) if isinstance(line, Line)]


def segments(directory: Path) -> list[Path]:
    """Return the segments, the oldest first."""
    return sorted(directory.glob("*.jsonl"))


def is_finished(segment: Path) -> bool:
    """Return True if a segment is read-only."""
    return segment.stat().st_mode & 0o222 == 0
