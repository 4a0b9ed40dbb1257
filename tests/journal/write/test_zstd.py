"""Segments packed with zstd, as KumoMTA's tools expect them: the same promises as for plain ones, and one frame a segment."""

import errno
import os
import random
import re
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from sidecar.journal import JournalError
from sidecar.journal.read import Follower, Line, Skipped, read
from sidecar.journal.write import Journal, leftovers
from sidecar.journal.write.leftovers import finish_leftovers
from sidecar.journal.write.segment import try_lock_segment
from tests.journal.conftest import OpenJournal, is_finished

NAME = "20260101-000000.000000"

WRITER = """
import sys, threading
from pathlib import Path
from sidecar.journal.write import Journal

journal = Journal(Path(sys.argv[1]), segment_size=20000, segment_age=3600, suffix="", level=3)

def write(thread):
    number = 0
    while True:
        text = f"{sys.argv[2]}-{thread}-{number}"
        journal.write(('{"n":"' + text + '","pad":"' + "x" * (number % 300) + '"}\\n').encode(), durable=number % 10 == 0)
        sys.stdout.write(text + "\\n")
        sys.stdout.flush()
        number += 1

for thread in range(4):
    threading.Thread(target=write, args=(thread,)).start()
"""


def line(number: int, size: int = 0) -> bytes:
    """Make a record that compresses as little as its id."""
    return b'{"n":%d,"id":"%s"}\n' % (number, random.Random(number).randbytes(16 + size).hex().encode())  # noqa: S311 - no secret


def segments(directory: Path) -> list[Path]:
    return sorted(path for path in directory.iterdir() if re.match(r"\d{8}-\d{6}\.\d{6}", path.name))


def texts(path: Path) -> list[bytes]:
    return [found.text for found in read(path) if isinstance(found, Line)]


def zstdcat(path: Path) -> bytes:
    """Unpack with Debian's own program, which complains of whatever is not whole."""
    return subprocess.run(["zstdcat", path], check=True, capture_output=True).stdout


@pytest.fixture
def journal(folder: Path, open_journal: OpenJournal) -> Journal:
    """A journal with KumoMTA's names, and a segment size that no test meets by chance."""
    return open_journal(folder, suffix="", level=3)


def test_names_modes_and_the_frame(folder: Path, open_journal: OpenJournal) -> None:
    """A segment is named as KumoMTA's are, writable while it grows and read-only in the end, and zstdcat reads all of it."""
    packed = open_journal(folder, suffix="_recv", level=0, clock=lambda: 1_785_000_000.25)
    lines = [line(number) for number in range(100)]
    for one in lines:
        packed.write(one, durable=False)
    (segment,) = segments(folder)
    assert segment.name == "20260725-172000.250000_recv"
    assert not is_finished(segment)
    packed.close()
    assert is_finished(segment)
    assert zstdcat(segment) == b"".join(lines)


def test_whatever_was_written_can_be_read(folder: Path, journal: Journal) -> None:
    """After each write, durable or not, a reader has all lines, and one that follows has each once."""
    follower, followed = Follower(folder), []
    for number in range(20):
        journal.write(line(number), durable=number % 2 == 0)
        assert texts(folder) == [line(n).strip() for n in range(number + 1)]
        for file in follower.look():
            followed += [one.text for one in file.lines() if isinstance(one, Line)]
        assert followed == texts(folder)
    (broken_off,) = (one for one in read(folder) if isinstance(one, Skipped))
    assert broken_off.unfinished
    journal.close()
    assert not [one for one in read(folder) if isinstance(one, Skipped)]


def test_size_counts_what_is_packed(folder: Path, open_journal: OpenJournal) -> None:
    """As in KumoMTA, a segment rolls by the bytes of its lines, not by those that they are packed into."""
    journal = open_journal(folder, suffix="", level=3, segment_size=10_000)
    for _ in range(25):
        journal.write(b"x" * 999 + b"\n", durable=True)
    assert [len(texts(path)) for path in segments(folder)] == [10, 10, 5]
    assert [is_finished(path) for path in segments(folder)] == [True, True, False]
    assert all(path.stat().st_size < 1000 for path in segments(folder))


@pytest.mark.parametrize("level", [None, 3])
def test_an_old_segment_is_finished_without_a_write(
    folder: Path, open_journal: OpenJournal, monkeypatch: pytest.MonkeyPatch, level: int | None
) -> None:
    """KumoMTA's tailer reads a segment to its end before it reads another writer's: an idle one must not hold it up."""
    journal = open_journal(folder, segment_age=60, level=level)
    journal.write(line(1), durable=False)
    journal.roll()
    assert [is_finished(path) for path in segments(folder)] == [False]
    began = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: began + 61)
    journal.roll()
    journal.roll()
    assert [is_finished(path) for path in segments(folder)] == [True]
    journal.write(line(2), durable=False)
    assert texts(folder) == [line(1).strip(), line(2).strip()]


def test_every_torn_end(folder: Path) -> None:
    """Wherever a crash cuts a segment off, the next start keeps each line that was whole and ends the frame; none is half."""
    folder.mkdir(parents=True)
    journal = Journal(folder, segment_size=1 << 20, segment_age=3600, suffix="", level=3)
    ends: list[int] = []
    # The second write is of several blocks, most of which do not end with a line.
    for number, size in enumerate((0, 150_000, 10)):
        journal.write(line(number, size), durable=False)
        ends.append(segments(folder)[0].stat().st_size)
    whole = segments(folder)[0].read_bytes()
    journal.close()
    segments(folder)[0].unlink()
    cuts = [*range(ends[0] + 3), *range(ends[0] + 3, ends[1], 20_011), *range(ends[1] - 3, len(whole) + 1)]
    for cut in cuts:
        leftover = folder / NAME
        leftover.write_bytes(whole[:cut])
        finish_leftovers(folder)
        kept = sum(end <= cut for end in ends)
        if kept == 0:
            assert not leftover.exists()
            continue
        assert is_finished(leftover)
        assert zstdcat(leftover) == b"".join(line(n, s) for n, s in list(enumerate((0, 150_000, 10)))[:kept])
        leftover.unlink()


@pytest.mark.parametrize("tail", [b"\0" * 5000, b"\xff" * 5000, b"\x07\x00\x00", b"\x03\x00\x00x"])
def test_a_damaged_end(folder: Path, tail: bytes) -> None:
    """What a power cut leaves behind the last whole line is cut off, be it zeros or noise."""
    journal = Journal(folder, segment_size=1 << 20, segment_age=3600, suffix="", level=3)
    journal.write(line(1), durable=True)
    whole = segments(folder)[0].read_bytes()
    journal.close()
    (segment,) = segments(folder)
    segment.unlink()
    segment.write_bytes(whole + tail)
    finish_leftovers(folder)
    assert zstdcat(segment) == line(1)


def test_a_frame_that_was_ended_already(folder: Path) -> None:
    """A crash between the end of the frame and the mark that it is finished leaves only the mark to be made."""
    journal = Journal(folder, segment_size=1 << 20, segment_age=3600, suffix="", level=3)
    journal.write(line(1), durable=True)
    journal.close()
    (segment,) = segments(folder)
    before = segment.read_bytes()
    segment.chmod(0o640)
    finish_leftovers(folder)
    assert segment.read_bytes() == before
    assert is_finished(segment)


def test_two_that_start_together(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What another worker has finished between the listing and the lock is not repaired again."""
    folder.mkdir(parents=True)
    (folder / NAME).write_bytes(b"{}\n{")

    def other_was_quicker(descriptor: int) -> bool:
        monkeypatch.undo()
        finish_leftovers(folder)
        monkeypatch.delattr(leftovers, "_finish")
        return try_lock_segment(descriptor)

    monkeypatch.setattr(leftovers, "try_lock_segment", other_was_quicker)
    finish_leftovers(folder)
    assert is_finished(folder / NAME)


@pytest.mark.parametrize(
    "name", ["20260101-000000.000000123", "20260101-000000", f"{NAME}.zst", f"{NAME}.jsonl.zst", f"{NAME}.gz", "notes"]
)
def test_segments_of_others_are_left_alone(folder: Path, name: str) -> None:
    """KumoMTA's own segments, which no lock protects, and what an operator is packing, are not finished for them."""
    folder.mkdir(parents=True)
    other = folder / name
    other.write_bytes(b"\x28\xb5\x2f\xfd\0X")
    finish_leftovers(folder)
    assert other.read_bytes() == b"\x28\xb5\x2f\xfd\0X"
    assert not is_finished(other)


def test_what_another_program_packed(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A frame with a checksum is none of ours, whatever its name: it is logged, and stays as it is."""
    folder.mkdir(parents=True)
    packed = subprocess.run(["zstd", "--quiet", "--check"], input=line(1), check=True, capture_output=True).stdout
    (folder / NAME).write_bytes(packed)
    finish_leftovers(folder)
    assert (folder / NAME).read_bytes() == packed
    assert "could not be finished" in capsys.readouterr().err


def test_leftovers_of_another_format(folder: Path, open_journal: OpenJournal) -> None:
    """After a change of the format the next start finishes what was written before it."""
    folder.mkdir(parents=True)
    (folder / f"{NAME}.jsonl").write_bytes(b"{}\n{")
    open_journal(folder, suffix="", level=3)
    assert (folder / f"{NAME}.jsonl").read_bytes() == b"{}\n"
    assert is_finished(folder / f"{NAME}.jsonl")


def test_a_full_disk(small_disk: Path, open_journal: OpenJournal) -> None:
    """Every write that cannot be kept raises; no frame is damaged by it; and room heals the journal."""
    ballast = small_disk / "ballast"
    ballast.write_bytes(b"\0" * 40_000)
    folder = small_disk / "journal"
    journal = open_journal(folder, suffix="", level=3)
    kept: list[bytes] = []
    failures = 0
    for number in range(40):
        try:
            journal.write(line(number, 1500), durable=True)
            kept.append(line(number, 1500).strip())
        except JournalError:
            failures += 1
    assert kept
    assert failures
    assert texts(folder) == kept
    ballast.unlink()
    journal.write(line(99), durable=True)
    journal.close()
    assert texts(folder) == [*kept, line(99).strip()]
    assert len(segments(folder)) == 2
    finish_leftovers(folder)
    assert b"".join(map(zstdcat, segments(folder))).splitlines() == [*kept, line(99).strip()]
    assert all(map(is_finished, segments(folder)))


def test_nothing_is_chained_to_what_was_lost(folder: Path, open_journal: OpenJournal, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a write that failed half-way nothing is packed with reference to it, and the first of a segment may be repeated."""
    journal = open_journal(folder, suffix="", level=3)
    whole_write = os.write

    def half(descriptor: int, data: memoryview) -> int:
        if len(data) > 20:
            return whole_write(descriptor, data[:20])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    repeated = line(7, 500)
    expected: list[bytes] = []
    for _ in range(3):
        with monkeypatch.context() as patch:
            patch.setattr(os, "write", half)
            with pytest.raises(JournalError, match="ENOSPC"):
                journal.write(repeated, durable=True)
        journal.write(repeated, durable=True)
        expected.append(repeated.strip())
        assert texts(folder) == expected
    journal.close()
    assert len(segments(folder)) == 3
    assert b"".join(map(zstdcat, segments(folder))) == repeated * 3


def test_a_frame_that_cannot_be_ended(folder: Path, open_journal: OpenJournal, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that is full at the end leaves a segment whose lines can be read; the next start ends it."""
    journal = open_journal(folder, suffix="", level=3)
    journal.write(line(1), durable=True)

    def fail(_descriptor: int, _data: memoryview) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", fail)
        journal.close()
    (segment,) = segments(folder)
    assert not is_finished(segment)
    assert texts(folder) == [line(1).strip()]
    finish_leftovers(folder)
    assert is_finished(segment)
    assert zstdcat(segment) == line(1)


def test_threads_lose_nothing(folder: Path, open_journal: OpenJournal) -> None:
    """Many threads that write, wait and roll at once: no line is missing or written twice, and every frame is whole."""
    journal = open_journal(folder, suffix="", level=1, segment_size=2000)

    def write(thread: int) -> None:
        for number in range(25):
            journal.write(b"%d %d\n" % (thread, number), durable=number % 5 == 0)

    with ThreadPoolExecutor(20) as pool:
        list(pool.map(write, range(20)))
    journal.close()
    found = [tuple(map(int, one.split())) for path in segments(folder) for one in zstdcat(path).splitlines()]
    assert sorted(found) == [(thread, number) for thread in range(20) for number in range(25)]
    assert all(map(is_finished, segments(folder)))


def test_kill(folder: Path, open_journal: OpenJournal) -> None:
    """Killed at any moment, a process loses no line that it acknowledged, and the next start leaves whole frames."""
    chance = random.Random(8878)  # noqa: S311 - the same moments each time, as far as a scheduler allows
    acknowledged: set[bytes] = set()
    for tag in range(6):
        with subprocess.Popen([sys.executable, "-c", WRITER, folder, str(tag)], stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            acknowledged.update(process.stdout.readline().strip() for _ in range(chance.randrange(1, 600)))
            process.send_signal(signal.SIGKILL)
            rest = process.stdout.read().splitlines(keepends=True)
            acknowledged.update(one.strip() for one in rest if one.endswith(b"\n"))
        before = texts(folder)
        open_journal(folder, suffix="", level=3).close()
        assert texts(folder) == before
        assert b"".join(map(zstdcat, segments(folder))).splitlines() == before
        assert all(map(is_finished, segments(folder)))
        found = {one.split(b'"')[3] for one in before}
        assert acknowledged <= found
        assert len(found) == len(before)
    assert len(acknowledged) > 500


@pytest.mark.parametrize(
    "begin", [b"\x28\xb5\x2f\xfd", b"\x28\xb5\x2f\xfd\0", b"\x28\xb5\x2f\xfd\0X", b"\x28\xb5\x2f\xfd\xfb" * 9]
)
def test_no_line_at_all(folder: Path, begin: bytes) -> None:
    """A segment that ends before its first line is removed."""
    folder.mkdir(parents=True)
    (folder / NAME).write_bytes(begin)
    finish_leftovers(folder)
    assert segments(folder) == []
