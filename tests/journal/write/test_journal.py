"""Writing: what is promised when `write` returns, when segments roll, and how the journal recovers."""

import errno
import os
import re
import shutil
import stat
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sidecar.journal import JournalError
from sidecar.journal.write import Journal
from tests.journal.conftest import OpenJournal, is_finished, segments, texts


def test_names_and_modes(folder: Path, open_journal: OpenJournal) -> None:
    """A segment is named after the instant it began, in UTC; only owner and group can read it."""
    open_journal(folder, clock=lambda: 1_785_000_000.25).write(b"{}\n", durable=False)
    (segment,) = segments(folder)
    assert segment.name == "20260725-172000.250000.jsonl"
    assert stat.S_IMODE(segment.stat().st_mode) == 0o640
    assert stat.S_IMODE(folder.stat().st_mode) == 0o750
    assert stat.S_IMODE(folder.parent.stat().st_mode) == 0o750


def test_no_segment_before_the_first_line(folder: Path, open_journal: OpenJournal) -> None:
    """A journal that was never written to leaves nothing behind."""
    open_journal(folder).close()
    assert not folder.exists()


def test_taken_name(folder: Path, open_journal: OpenJournal) -> None:
    """Two journals that begin at the same instant get a segment each, and nothing is overwritten."""
    for text in (b"1\n", b"2\n", b"3\n"):
        open_journal(folder, clock=lambda: 0.0).write(text, durable=False)
    assert [path.name for path in segments(folder)] == [f"19700101-000000.00000{i}.jsonl" for i in range(3)]
    assert texts(folder) == [b"1", b"2", b"3"]


@pytest.mark.parametrize("lines", [b"", b"{}", b"{}\n{}"])
def test_half_lines_are_refused(folder: Path, open_journal: OpenJournal, lines: bytes) -> None:
    """What does not end a line is a slip of ours and is not written."""
    with pytest.raises(ValueError, match="whole lines"):
        open_journal(folder).write(lines, durable=False)
    assert not folder.exists()


def test_closed(folder: Path, open_journal: OpenJournal) -> None:
    """Closing finishes the segment; a write after that raises rather than going nowhere."""
    journal = open_journal(folder)
    journal.write(b"{}\n", durable=False)
    journal.close()
    journal.close()
    assert [is_finished(path) for path in segments(folder)] == [True]
    with pytest.raises(JournalError, match="is closed"):
        journal.write(b"{}\n", durable=False)


def test_finished_mode_keeps_the_umask(folder: Path, open_journal: OpenJournal) -> None:
    """An operator's stricter umask also holds for finished segments."""
    before = os.umask(0o077)
    try:
        journal = open_journal(folder)
        journal.write(b"{}\n", durable=False)
        journal.close()
    finally:
        os.umask(before)
    assert stat.S_IMODE(segments(folder)[0].stat().st_mode) == 0o400


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        ([10, 10, 10], [30]),
        ([10, 10, 10, 1], [30, 1]),
        ([29, 2, 28], [29, 30]),
        ([31], [31]),
        ([500, 1], [500, 1]),
        ([1, 500, 1], [1, 500, 1]),
    ],
)
def test_rolling_by_size(folder: Path, open_journal: OpenJournal, sizes: list[int], expected: list[int]) -> None:
    """A segment is finished before it would exceed its size; lines that alone exceed it get one of their own."""
    journal = open_journal(folder, segment_size=30)
    for size in sizes:
        journal.write(b"x" * (size - 1) + b"\n", durable=True)
    found = segments(folder)
    assert [path.stat().st_size for path in found] == expected
    assert [is_finished(path) for path in found] == [True] * (len(expected) - 1) + [False]


def test_who_does_not_wait_for_the_disk_leaves_a_full_segment_to_others(
    folder: Path, open_journal: OpenJournal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A thread that serves many connections writes so, and all of them would wait: for whatever is not on disk of 64 MB."""
    journal = open_journal(folder, segment_size=30)
    synced: list[bool] = []
    monkeypatch.setattr(os, "fsync", lambda descriptor: synced.append(stat.S_ISREG(os.fstat(descriptor).st_mode)))
    for _ in range(3):
        journal.write(b"x" * 29 + b"\n", durable=False)
    assert not any(synced)
    assert [is_finished(path) for path in segments(folder)] == [False, False, False]
    journal.roll()
    assert [is_finished(path) for path in segments(folder)] == [True, True, False]


def test_rolling_by_age(folder: Path, open_journal: OpenJournal, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first write `segment_age` seconds after a segment's beginning goes to a new one."""
    journal = open_journal(folder, segment_age=60)
    journal.write(b"1\n", durable=False)
    began = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: began + 59)
    journal.write(b"2\n", durable=False)
    monkeypatch.setattr(time, "monotonic", lambda: began + 61)
    journal.write(b"3\n", durable=False)
    assert [path.read_bytes() for path in segments(folder)] == [b"1\n2\n", b"3\n"]


def test_clock_set_back(folder: Path, open_journal: OpenJournal) -> None:
    """A clock that jumps neither rolls a segment nor keeps one open, and no name is used twice."""
    now = [1e9]
    journal = open_journal(folder, segment_size=4, clock=lambda: now[0])
    for offset in (0, -1e8, -1e8, 1e8, 0):
        now[0] = 1e9 + offset
        journal.write(b"1\n", durable=False)
        journal.write(b"2\n", durable=False)
    assert [path.read_bytes() for path in segments(folder)] == [b"1\n2\n"] * 5


def test_order_of_system_calls(folder: Path, open_journal: OpenJournal, monkeypatch: pytest.MonkeyPatch) -> None:
    """A durable write returns after its segment's bytes and its name have been put on disk, new directories included."""
    calls: list[str] = []

    def note(name: str, call: Callable[..., object]) -> None:
        def noting(descriptor: int, *rest: object) -> object:
            path = Path(f"/proc/self/fd/{descriptor}").readlink()
            calls.append(f"{name} {'segment' if path.suffix else path.name}")
            return call(descriptor, *rest)

        monkeypatch.setattr(os, name, noting)

    note("write", os.write)
    note("fsync", os.fsync)
    journal = open_journal(folder)
    journal.write(b"1\n2\n", durable=True)
    journal.write(b"3\n", durable=False)
    monkeypatch.undo()
    assert calls == [
        f"fsync {folder.parent.parent.name}",
        "fsync spool",
        "fsync journal",
        "write segment",
        "fsync segment",
        "write segment",
    ]


def test_full_disk(small_disk: Path, open_journal: OpenJournal) -> None:
    """On a full disk every write that cannot be kept raises, no reader meets a half line, and room heals it."""
    ballast = small_disk / "ballast"
    ballast.write_bytes(b"\0" * 40_000)
    journal = open_journal(small_disk / "journal")
    line = b"x" * 1500 + b"\n"
    kept = 0
    while _succeeds(journal, line):
        kept += 1
    assert 0 < kept < 30
    with pytest.raises(JournalError, match=r"No space left on device \(ENOSPC\)"):
        journal.write(line * 3, durable=False)
    assert segments(small_disk / "journal")[0].stat().st_size == kept * len(line)
    ballast.unlink()
    journal.write(b"{}\n", durable=True)
    journal.close()
    assert texts(small_disk / "journal") == [line[:-1]] * kept + [b"{}"]
    assert len(segments(small_disk / "journal")) == 1


def test_disk_full_from_the_start(small_disk: Path, open_journal: OpenJournal) -> None:
    """However often a write fails, at most one empty file stands about, and none after the end."""
    folder = small_disk / "journal"
    folder.mkdir()
    with pytest.raises(OSError, match="No space"):
        (small_disk / "ballast").write_bytes(b"\0" * 100_000)
    journal = open_journal(folder)
    for _ in range(5):
        with pytest.raises(JournalError, match="ENOSPC"):
            journal.write(b"x" * 100 + b"\n", durable=False)
    assert len(segments(folder)) <= 1
    journal.close()
    assert segments(folder) == []


def test_short_write_that_cannot_be_cut_off(folder: Path, open_journal: OpenJournal, monkeypatch: pytest.MonkeyPatch) -> None:
    """A half line that cannot be taken back stays the last of its segment: nothing is ever written behind it."""
    journal = open_journal(folder)
    journal.write(b'{"n":1}\n', durable=False)
    whole_write = os.write
    answers: Iterator[Callable[[int, memoryview], int]] = iter(
        [lambda descriptor, data: whole_write(descriptor, data[:4]), _failing(errno.ENOSPC)]
    )

    def write(descriptor: int, data: memoryview) -> int:
        return next(answers)(descriptor, data)

    monkeypatch.setattr(os, "write", write)
    monkeypatch.setattr(os, "ftruncate", _failing(errno.EIO))
    with pytest.raises(JournalError, match="ENOSPC"):
        journal.write(b'{"n":2}\n', durable=False)
    monkeypatch.undo()
    journal.write(b'{"n":3}\n', durable=False)
    assert [path.read_bytes() for path in segments(folder)] == [b'{"n":1}\n{"n"', b'{"n":3}\n']
    assert texts(folder) == [b'{"n":1}', b'{"n":3}']
    # The next start repairs the abandoned one, and leaves the live one alone.
    journal.roll()
    open_journal(folder)
    assert [path.read_bytes() for path in segments(folder)] == [b'{"n":1}\n', b'{"n":3}\n']
    assert [is_finished(path) for path in segments(folder)] == [True, False]


def test_write_that_takes_nothing(folder: Path, open_journal: OpenJournal, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file system that takes no byte and names no error is an error, not an endless loop."""
    journal = open_journal(folder)
    monkeypatch.setattr(os, "write", lambda _fd, _data: 0)
    with pytest.raises(JournalError, match="EIO"):
        journal.write(b"{}\n", durable=False)
    monkeypatch.undo()
    journal.write(b"{}\n", durable=False)
    assert texts(folder) == [b"{}"]


def test_read_only_directory(read_only: Path, open_journal: OpenJournal) -> None:
    """A directory that cannot be written to raises at each write, until it can be written to again."""
    journal = open_journal(read_only)
    for _ in range(2):
        with pytest.raises(JournalError, match=re.escape(f"in {read_only}: Read-only file system (EROFS)")):
            journal.write(b"{}\n", durable=False)
    subprocess.run(["mount", "-o", "remount,bind,rw", read_only], check=True)
    journal.write(b"{}\n", durable=True)
    assert texts(read_only) == [b"{}"]
    journal.close()


@pytest.mark.parametrize("remove", [shutil.rmtree, lambda folder: segments(folder)[0].unlink()])
def test_removed_underfoot(folder: Path, open_journal: OpenJournal, remove: Callable[[Path], object]) -> None:
    """With a segment or directory that is removed, its lines are lost, and no other line."""
    journal = open_journal(folder)
    journal.write(b"1\n", durable=False)
    remove(folder)
    journal.write(b"2\n", durable=False)
    assert texts(folder) == [b"2"]


def test_directory_that_is_a_file(tmp_path: Path, open_journal: OpenJournal) -> None:
    """A file in the directory's place is named in the error; the journal works once it is gone."""
    (tmp_path / "journal").write_text("a file")
    journal = open_journal(tmp_path / "journal")
    with pytest.raises(JournalError, match="ENOTDIR"):
        journal.write(b"{}\n", durable=False)
    (tmp_path / "journal").unlink()
    journal.write(b"{}\n", durable=False)
    assert texts(tmp_path / "journal") == [b"{}"]


def test_name_that_cannot_be_made_durable(folder: Path, open_journal: OpenJournal, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the directory cannot be put on disk, each write raises, and no empty files pile up."""
    folder.mkdir(parents=True)
    journal = open_journal(folder)
    monkeypatch.setattr(os, "fsync", _failing(errno.EIO))
    for _ in range(3):
        with pytest.raises(JournalError, match="EIO"):
            journal.write(b"{}\n", durable=False)
    assert segments(folder) == []
    monkeypatch.undo()
    journal.write(b"{}\n", durable=True)
    assert texts(folder) == [b"{}"]


def test_roll_that_fails(folder: Path, open_journal: OpenJournal, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no new segment can be had, the old one is kept whole, and the next write rolls."""
    journal = open_journal(folder, segment_size=2)
    journal.write(b"1\n", durable=False)
    monkeypatch.setattr(os, "open", _failing(errno.EACCES))
    with pytest.raises(JournalError, match="EACCES"):
        journal.write(b"2\n", durable=False)
    monkeypatch.undo()
    journal.write(b"3\n", durable=False)
    assert [path.read_bytes() for path in segments(folder)] == [b"1\n", b"3\n"]


def test_no_descriptor_is_leaked(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rolling, failing and closing give every descriptor back."""
    before = len(list(Path("/proc/self/fd").iterdir()))
    journal = Journal(folder, segment_size=2, segment_age=3600)
    for _ in range(3):
        journal.write(b"1\n", durable=True)
    for failing in ("fsync", "write"):
        with monkeypatch.context() as patch:
            patch.setattr(os, failing, _failing(errno.EIO))
            with pytest.raises(JournalError):
                journal.write(b"1\n", durable=True)
    journal.close()
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def _succeeds(journal: Journal, line: bytes) -> bool:
    try:
        journal.write(line, durable=True)
    except JournalError:
        return False
    return True


def _failing(code: int) -> Callable[..., int]:
    def fail(*_arguments: object, **_named: object) -> int:
        raise OSError(code, os.strerror(code))

    return fail
