"""Reading back: every whole line, in order, and a word about each that is none."""

import io
import itertools
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from sidecar.journal import JournalError
from sidecar.journal.read import (
    STDIN,
    Follower,
    Line,
    Skipped,
    follow,
    line_at,
    lines,
    logs,
    passed_over,
    read,
    reader,
    stored_size,
)
from sidecar.journal.read.logs import find
from sidecar.journal.write import Journal
from tests.journal.conftest import segments, texts


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", []),
        (b'{"a":1}\n{"b":2}\n', [(1, b'{"a":1}'), (2, b'{"b":2}')]),
        (b'{"a":1}\n\n \n{"b":2}\n', [(1, b'{"a":1}'), (4, b'{"b":2}')]),
        (b'{"a":1}\r\n{"b":2}', [(1, b'{"a":1}'), (2, b'{"b":2}')]),
        (b'{"a":1}\n{"b":', [(1, b'{"a":1}'), (2, "the last line is not finished")]),
        (b"[" * 100_000, [(1, "the last line is not finished")]),
        (b"{}\n  ", [(1, b"{}")]),
        (b"{}\n\0\0\0\n{}\n", [(1, b"{}"), (2, "the line was damaged, as by a power cut"), (3, b"{}")]),
        (b"{}\n" + b"x" * 99 + b"\n{}\n", [(1, b"{}"), (2, "the line is too long for a record"), (3, b"{}")]),
        (b"{}\n" + b"x" * 99, [(1, b"{}"), (2, "the line is too long for a record")]),
        (b" " * 29 + b"{}\n{}\n", [(1, b"{}"), (2, b"{}")]),
    ],
)
def test_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes, expected: list[tuple[int, bytes | str]]) -> None:
    """Whole lines come with their number; what cannot be a record is named and passed over."""
    monkeypatch.setattr(lines, "LINE_LIMIT", 32 if b"[" not in content else lines.LINE_LIMIT)
    monkeypatch.setattr(lines, "_PIECE", 16)
    path = tmp_path / "records.jsonl"
    path.write_bytes(content)
    found = list(read(path))
    assert [(line.number, line.text if isinstance(line, Line) else line.why) for line in found] == expected
    assert all(line.file == path for line in found)
    assert all(line_at(path, line.offset) == line.text for line in found if isinstance(line, Line))


@pytest.mark.parametrize("packed", [False, True])
def test_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, packed: bool) -> None:
    """A line is found by its offset, also in a packed file, and also if it was read while the file was growing."""
    monkeypatch.setattr(reader, "_CHUNK", 100)
    monkeypatch.setattr(follow, "_CHUNK", 100)
    monkeypatch.setattr(lines, "_PIECE", 64)
    content = b"\n".join([b'{"a":%d}' % number for number in range(40)] + [b"", b'{"long":"' + b"x" * 500 + b'"}', b"{}", b""])
    stored = zstandard.compress(content) + zstandard.compress(content) if packed else content + content
    path = tmp_path / "20260101-000000.000000"
    follower, found = Follower(path), []
    for end in range(37, len(stored) + 37, 37):
        path.write_bytes(stored[:end])
        found += [line for file in follower.look() for line in file.lines()]
    follower.close()
    assert len(found) > 60
    for line in found:
        assert isinstance(line, Line)
        assert line_at(path, line.offset) == line.text
    assert line_at(path, 10**6) is None
    assert line_at(tmp_path / "missing", 0) is None


def test_directory(tmp_path: Path) -> None:
    """Segments are read from the oldest to the newest; other files in the directory are none of its business."""
    for name, text in (("20260102-000000.000000.jsonl", b"2"), ("20260101-000000.000000.jsonl", b"1"), ("x.jsonl", b"0")):
        (tmp_path / name).write_bytes(text + b"\n")
    assert texts(tmp_path) == [b"1", b"2"]


def test_segment_that_goes_away(tmp_path: Path) -> None:
    """An operator who removes old segments during a reading does not break it."""
    for day in (1, 2, 3):
        (tmp_path / f"2026010{day}-000000.000000.jsonl").write_bytes(b"%d\n" % day)
    lines = read(tmp_path)
    first = next(lines)
    (tmp_path / "20260102-000000.000000.jsonl").unlink()
    assert [line.text for line in (first, *lines) if isinstance(line, Line)] == [b"1", b"3"]


def test_unreadable(tmp_path: Path) -> None:
    """What cannot be read is an error that names it."""
    with pytest.raises(JournalError, match=r"/nothing: No such file or directory \(ENOENT\)"):
        list(read(tmp_path / "nothing"))


BREAKS_OFF = "the packed data breaks off: it is still being written, or a crash has cut it off"
DAMAGED = "the packed data is damaged, or of another kind, from here on"


def packed(content: bytes) -> bytes:
    return zstandard.ZstdCompressor().compress(content)


def unfinished(content: bytes) -> bytes:
    """Return a frame that was flushed, and that its writer has not finished."""
    frame = zstandard.ZstdCompressor().compressobj()
    return frame.compress(content) + frame.flush(zstandard.COMPRESSOBJ_FLUSH_BLOCK)


SKIPPABLE = b"\x53\x2a\x4d\x18\x03\0\0\0abc"


@pytest.mark.parametrize(
    ("stored", "expected"),
    [
        (packed(b"{}\n[]\n"), [b"{}", b"[]"]),
        (packed(b"{}\n") + packed(b"[]\n"), [b"{}", b"[]"]),
        (packed(b"{}\n[") + packed(b"]\n"), [b"{}", b"[]"]),
        (SKIPPABLE + packed(b"{}\n") + SKIPPABLE, [b"{}"]),
        (packed(b""), []),
        (packed(b"{}"), [b"{}"]),
        (packed(b'{"a'), ["the last line is not finished"]),
        (unfinished(b"{}\n[]\n"), [b"{}", b"[]", BREAKS_OFF]),
        (unfinished(b'{}\n{"a'), [b"{}", BREAKS_OFF]),
        (packed(b"{}\n") + unfinished(b"[]\n"), [b"{}", b"[]", BREAKS_OFF]),
        (packed(b"{}\n")[:6], [BREAKS_OFF]),
        (packed(b"{}\n") + b"{}\n", [b"{}", DAMAGED]),
        (packed(b"{}\n" * 99)[:-4] + b"\xff" * 9, [DAMAGED]),
        (b"\x28\xb5", ["the last line is not finished"]),
        (b"(\n{}\n", [b"(", b"{}"]),
        (b"1", [b"1"]),
        (b"\x1f\x8b\x08\0\0", ["the file is packed with gzip, which is not read here; unpack it first"]),
        (b"\x28\xb5\x2f\xfd\x00\xff" + b"x" * 99, [DAMAGED]),  # a window of 3.75 TB
    ],
)
@pytest.mark.parametrize("chunk", [1, 1000])
def test_packed(
    tmp_path: Path, stored: bytes, expected: list[bytes | str], chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is packed with zstd is unpacked, whatever its name; what cannot be is named, after all that could."""
    monkeypatch.setattr("sidecar.journal.read.reader._CHUNK", chunk)
    path = tmp_path / "records"
    path.write_bytes(stored)
    assert [line.text if isinstance(line, Line) else line.why for line in read(path)] == expected


def test_what_breaks_off_is_told_from_what_is_wrong(tmp_path: Path) -> None:
    """The end of a live segment may well be unfinished: that is no bad news."""
    path = tmp_path / "records"
    for content, ends in (
        (b"{}\n{", [True]),
        (unfinished(b"{}\n"), [True]),
        (b"\0\n{", [False, True]),
        (packed(b"")[:-1] + b"~", [False]),
    ):
        path.write_bytes(content)
        assert [line.unfinished for line in read(path) if isinstance(line, Skipped)] == ends


def test_a_bomb_costs_time_alone(tmp_path: Path) -> None:
    """A few kilobytes that unpack to gigabytes take no more memory than the longest record may."""
    block = zstandard.ZstdCompressor().compress(b"x" * (512 << 20)) + zstandard.ZstdCompressor().compress(b"\n" * (8 << 20))
    (tmp_path / "bomb").write_bytes(block + packed(b"\n{}\n"))
    script = (
        "import resource, sys\nfrom pathlib import Path\nfrom sidecar.journal.read import read\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "print([getattr(line, 'why', None) for line in read(Path(sys.argv[1]))])\n"
        "print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)\n"
    )
    done = subprocess.run([sys.executable, "-c", script, tmp_path / "bomb"], capture_output=True, text=True, check=True)
    found, megabytes = done.stdout.splitlines()
    assert found == "['the line is too long for a record', None]"
    assert int(megabytes) < 2 * lines.LINE_LIMIT / 2**20 + 40


def test_workers_do_not_load_what_they_never_use() -> None:
    """Only who reads a packed file pays for the library that unpacks it."""
    script = "import sys, sidecar.journal; sys.exit('zstandard' in sys.modules)"
    subprocess.run([sys.executable, "-c", script], check=True)


def test_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    """`-` is standard input, packed or not."""
    for content in (b"{}\n[]\n", packed(b"{}\n[]\n")):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))
        assert texts(STDIN) == [b"{}", b"[]"]
        assert stored_size(STDIN) is None
    monkeypatch.setattr(sys, "stdin", None)
    with pytest.raises(JournalError, match="standard input is closed"):
        list(read(STDIN))


def test_a_pipe_gives_lines_as_they_come(tmp_path: Path) -> None:
    """No line waits for a whole chunk."""
    os.mkfifo(path := tmp_path / "pipe")
    ends = os.open(path, os.O_RDWR)  # both, so that neither end waits for the other
    os.write(ends, b"{}\n[")
    assert next(read(path)) == Line(file=path, number=1, text=b"{}")
    assert stored_size(path) is None
    os.close(ends)


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (
            ["20260102-000000.000000.jsonl", "20260101-000000.000000.jsonl"],
            ["20260101-000000.000000.jsonl", "20260102-000000.000000.jsonl"],
        ),
        (["20260101-000000.5", "20260101-000000"], ["20260101-000000", "20260101-000000.5"]),
        (["20260101-000000.026490123_recv"], ["20260101-000000.026490123_recv"]),
        (
            ["2026/01/02/20260102-000000.1", "2026/01/01/20260101-000000.1.zst"],
            ["2026/01/01/20260101-000000.1.zst", "2026/01/02/20260102-000000.1"],
        ),
        (["20260101-000000.1.jsonl.zst", "20260101-000000.1.jsonl"], ["20260101-000000.1.jsonl"]),
        (["20260101-000000.1", "acct-20260101-000000.1", ".20260101-000000.1", "x.jsonl"], ["20260101-000000.1"]),
        (["20260101-000000.1", "20260101-000000-" + "a" * 32 + ".json"], ["20260101-000000.1"]),
        (
            ["20260101-000000.1", "1/2/3/4/20260101-000000.2", "1/2/3/4/5/20260101-000000.3"],
            ["20260101-000000.1", "1/2/3/4/20260101-000000.2"],
        ),
        ([".mark"], []),
        ([], []),
    ],
)
def test_which_files_are_segments(tmp_path: Path, names: list[str], expected: list[str]) -> None:
    """Ours and KumoMTA's, with any suffix, in folders of dates as well; the oldest first, and none twice."""
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"{}\n")
    found = list(read(tmp_path))
    assert [str(line.file.relative_to(tmp_path)) for line in found] == expected
    assert stored_size(tmp_path) == 3 * len(expected)


def test_pipes_and_devices_are_no_segments(tmp_path: Path) -> None:
    """Whatever their names, a pipe is not waited for and a device is not read without end; a link to a file is a segment."""
    (tmp_path / "log").write_bytes(b"{}\n")
    (tmp_path / "20260101-000000.1").symlink_to(tmp_path / "log")
    (tmp_path / "20260101-000000.2").symlink_to("/dev/zero")
    os.mkfifo(tmp_path / "20260101-000000.3")
    assert [segment.path.name for segment in find(tmp_path)] == ["20260101-000000.1"]


def test_a_folder_without_segments(tmp_path: Path) -> None:
    """Files that are no segments are no journal, and the error says how those are named."""
    (tmp_path / "mail.log").touch()
    with pytest.raises(JournalError, match=r"there are no segments in .*; name a folder with files such as 2026"):
        list(read(tmp_path))


def test_since(tmp_path: Path) -> None:
    """What was last written long before is left out; a clock that was set back an hour loses nothing."""
    for hour in range(5):
        path = tmp_path / f"20260101-{hour:02}0000.000000.jsonl"
        path.write_bytes(b"%d\n" % hour)
        os.utime(path, (3600 * hour, 3600 * hour))
    assert [line.text for line in read(tmp_path, since=3600 * 3) if isinstance(line, Line)] == [b"2", b"3", b"4"]
    assert stored_size(tmp_path, since=3600 * 3) == 6
    assert stored_size(tmp_path) == 10


def test_progress(tmp_path: Path) -> None:
    """Every stored byte is reported once."""
    (tmp_path / "20260101-000000.1").write_bytes(packed(b"{}\n" * 9))
    (tmp_path / "20260101-000000.2").write_bytes(b"{}\n" * 9)
    seen: list[int] = []
    assert len(list(read(tmp_path, progress=seen.append))) == 18
    assert sum(seen) == stored_size(tmp_path) == sum(path.stat().st_size for path in tmp_path.iterdir())


@settings(max_examples=100, deadline=None)
@given(content=st.binary(max_size=200), cuts=st.lists(st.integers(0, 200), max_size=5), frames=st.booleans())
def test_any_chunks(tmp_path_factory: pytest.TempPathFactory, content: bytes, cuts: list[int], frames: bool) -> None:
    """Where a chunk or a frame ends makes no difference to the lines."""
    folder = tmp_path_factory.mktemp("chunks")
    places = sorted({0, *cuts, len(content)})
    pieces = [content[start:end] for start, end in itertools.pairwise(places)]
    (folder / "plain").write_bytes(b"\n" + content)
    (folder / "packed").write_bytes(packed(b"\n") + (b"".join(map(packed, pieces)) if frames else packed(content)))
    plain, unpacked = (
        [(line.number, getattr(line, "text", None)) for line in read(folder / name)] for name in ("plain", "packed")
    )
    assert plain == unpacked


Writes = st.lists(
    st.one_of(
        st.lists(st.integers(0, 120), min_size=1, max_size=3),  # lines of these lengths
        st.just("close"),
        st.just("crash"),
    ),
    max_size=25,
)


@settings(max_examples=60, deadline=None)
@given(steps=Writes, limit=st.integers(1, 300))
def test_model(tmp_path_factory: pytest.TempPathFactory, steps: list[list[int] | str], limit: int) -> None:
    """Whatever is written, closed, torn and opened again: what is read back is what was acknowledged, in order."""
    folder = tmp_path_factory.mktemp("journal")
    now = [0.0]

    def begin() -> Journal:
        now[0] += 1
        return Journal(folder, segment_size=limit, segment_age=3600, clock=lambda: now[0])

    expected: list[bytes] = []
    journal = begin()
    for step in steps:
        if isinstance(step, list):
            lines = [b'{"n":%d,"pad":"%s"}' % (len(expected) + i, b"x" * length) for i, length in enumerate(step)]
            journal.write(b"".join(line + b"\n" for line in lines), durable=len(lines) == 3)
            expected += lines
        else:
            journal.close()
            if step == "crash":
                _tear(folder)
            journal = begin()
        assert texts(folder) == expected
    journal.close()
    assert not [line for line in read(folder) if isinstance(line, Skipped)]
    assert all(path.stat().st_size <= limit or _writes_in(path, steps) == 1 for path in segments(folder))


def _tear(folder: Path) -> None:
    """Leave the newest segment as a crash in the middle of a line would."""
    for path in segments(folder)[-1:]:
        path.chmod(0o640)
        with path.open("ab") as file:
            file.write(b'{"n":')


def _writes_in(path: Path, steps: list[list[int] | str]) -> int:
    """Count the writes of which a segment has lines."""
    owners = [index for index, step in enumerate(steps) if isinstance(step, list) for _ in step]
    return len({owners[int(text.split(b",")[0].removeprefix(b'{"n":'))] for text in texts(path)})


def _read(path: Path) -> list[Line | Skipped]:
    return list(read(path))


def _followed(path: Path) -> list[Line | Skipped]:
    return [line for file in Follower(path).look() for line in file.lines()]


@pytest.mark.parametrize("read_all", [_read, _followed])
def test_a_pipe_in_a_files_place_is_not_waited_for(
    tmp_path: Path, read_all: Callable[[Path], list[Line | Skipped]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A segment that is replaced with a pipe after it was listed is as one that was removed."""
    segment = tmp_path / "20260101-000000.000000.jsonl"
    segment.write_bytes(b"{}\n")
    found = logs.find(tmp_path)
    segment.unlink()
    os.mkfifo(segment)
    monkeypatch.setattr(logs.Folder, "look", lambda _folder: found)
    # Who opens a pipe in the usual way waits for a writer: an alarm ends that.
    before = signal.signal(signal.SIGALRM, _too_late)
    signal.alarm(5)
    try:
        assert read_all(tmp_path) == []
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def _too_late(_number: int, _frame: object) -> None:
    raise TimeoutError


def test_what_is_passed_over_is_known(tmp_path: Path) -> None:
    """Files beside segments are counted, and the first is named; what is hidden, and a file itself, is not."""
    (tmp_path / "20260101-000000.000000.jsonl").write_bytes(b"{}\n")
    (tmp_path / ".mark").touch()
    assert passed_over(tmp_path) is None
    (tmp_path / "below").mkdir()
    for name in ("plain.jsonl", "below/other.jsonl", "zzz"):
        (tmp_path / name).touch()
    assert passed_over(tmp_path) == (tmp_path / "below/other.jsonl", 3)
    assert passed_over(tmp_path / "zzz") is None
    assert texts(tmp_path) == [b"{}"]
