"""Following: each whole line once, whatever becomes of the files."""

import itertools
import os
from pathlib import Path

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from sidecar.journal import JournalError
from sidecar.journal.read import Follower, Line, follow, followers, logs
from tests.journal.conftest import OpenJournal

FIRST = "20260101-000000.000000.jsonl"
SECOND = "20260102-000000.000000.jsonl"


def new(follower: Follower) -> list[str]:
    """Return what is new, with the reason in place of what is no record."""
    return [line.text.decode() if isinstance(line, Line) else line.why for file in follower.look() for line in file.lines()]


def append(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab") as file:
        file.write(content)


def open_files(folder: Path) -> int:
    """Return how many files of a folder this process has open."""
    return sum(os.path.realpath(entry).startswith(f"{folder}/") for entry in Path("/proc/self/fd").iterdir())


def finish(path: Path) -> None:
    path.chmod(0o440)


def test_a_line_comes_once_and_when_it_is_whole(tmp_path: Path) -> None:
    """Half a line is kept until its rest is written."""
    follower = Follower(tmp_path)
    append(tmp_path / FIRST, b"1\n2")
    assert new(follower) == ["1"]
    assert follower.look() == []
    append(tmp_path / FIRST, b"2")
    assert new(follower) == []
    append(tmp_path / FIRST, b"2\n3\n")
    assert new(follower) == ["222", "3"]
    assert new(follower) == []


def test_segments_come_and_go(tmp_path: Path) -> None:
    """Several are live at a time, new ones appear, finished ones are read to their end, and some are removed."""
    first, second, below = tmp_path / FIRST, tmp_path / SECOND, tmp_path / "2026" / "01" / "20260103-000000"
    follower = Follower(tmp_path)
    append(first, b"a1\n")
    append(second, b"b1\n")
    assert new(follower) == ["a1", "b1"]
    append(second, b"b2\n")
    append(first, b"a2\n")
    append(below, b"c1\n")
    assert new(follower) == ["a2", "b2", "c1"]
    append(first, b"a3\n{")
    finish(first)
    append(below, b"c2\n")
    below.unlink()
    assert sorted(new(follower)) == ["a3", "c2", "the last line is not finished"]
    first.unlink()
    append(second, b"b3\n")
    assert new(follower) == ["b3"]


def test_a_log_that_is_not_there_yet(tmp_path: Path) -> None:
    """It is waited for, be it a file or a folder, and also where it goes away and comes again."""
    follower = Follower(tmp_path / "journal")
    assert new(follower) == []
    append(tmp_path / "journal" / FIRST, b"1\n")
    assert new(follower) == ["1"]
    (tmp_path / "journal").rename(tmp_path / "away")
    assert new(follower) == []
    append(tmp_path / "journal" / SECOND, b"2\n")
    assert new(follower) == ["2"]


def test_a_single_file(tmp_path: Path) -> None:
    """A file of any name is followed, when it is truncated and when it is replaced; that it is read-only says nothing."""
    path = tmp_path / "log"
    follower = Follower(path)
    assert new(follower) == []
    append(path, b"1\n2\n")
    path.chmod(0o440)
    assert new(follower) == ["1", "2"]
    append(path, b"3\n")
    assert new(follower) == ["3"]
    path.write_bytes(b"4\n")
    assert new(follower) == ["4"]
    append(path, b"5\n")
    path.rename(tmp_path / "log.1")
    append(path, b"6\n")
    assert new(follower) == ["5", "6"]
    append(path, b"7\n")
    assert new(follower) == ["7"]


def test_a_segment_that_was_packed_is_not_read_again(tmp_path: Path) -> None:
    """While it is being packed there are two, later one of another name: it is the same segment."""
    first = tmp_path / FIRST
    follower = Follower(tmp_path)
    append(first, b"1\n")
    finish(first)
    assert new(follower) == ["1"]
    packed = tmp_path / f"{FIRST}.zst"
    packed.write_bytes(zstandard.ZstdCompressor().compress(b"1\n"))
    assert new(follower) == []
    first.unlink()
    assert new(follower) == []
    append(tmp_path / SECOND, b"2\n")
    assert new(follower) == ["2"]
    opened = open_files(tmp_path)
    append(tmp_path / SECOND, b"3\n")
    (tmp_path / SECOND).rename(tmp_path / f"{SECOND}.zst")
    assert new(follower) == ["3"]
    assert new(follower) == []
    assert open_files(tmp_path) == opened - 1


def test_half_a_line_that_its_writer_took_back(tmp_path: Path) -> None:
    """A write that fails on a full disk is cut off; what is written in its place is not glued to it."""
    path = tmp_path / FIRST
    follower = Follower(tmp_path)
    append(path, b"1\n2222")
    assert new(follower) == ["1"]
    os.truncate(path, 2)
    append(path, b"333333\n")
    assert new(follower) == ["333333"]
    append(path, b"44")
    assert new(follower) == []
    os.truncate(path, 9)
    assert new(follower) == []
    append(path, b"5\n")
    assert new(follower) == ["5"]


def test_skip(tmp_path: Path) -> None:
    """What is passed over does not come later, but for the line that was not whole."""
    frame = zstandard.ZstdCompressor().compressobj()
    pieces = [frame.compress(content) + frame.flush(zstandard.COMPRESSOBJ_FLUSH_BLOCK) for content in (b"1\n2", b"2\n3\n")]
    append(tmp_path / FIRST, pieces[0])
    append(tmp_path / SECOND, b"1\n2")
    append(tmp_path / "20260103-000000", b"1\n2\n")
    finish(tmp_path / "20260103-000000")
    follower = Follower(tmp_path)
    for file in follower.look():
        file.skip()
    assert new(follower) == []
    append(tmp_path / FIRST, pieces[1])
    append(tmp_path / SECOND, b"2\n3\n")
    assert new(follower) == ["22", "3", "22", "3"]


def test_skip_of_what_changes_at_once(tmp_path: Path) -> None:
    """Half a line that is taken back brings nothing old up, and a file that goes away is none of it."""
    append(tmp_path / FIRST, b"1\n2")
    append(tmp_path / SECOND, b"1\n")
    finish(tmp_path / SECOND)
    follower = Follower(tmp_path)
    files = follower.look()
    (tmp_path / SECOND).unlink()
    for file in files:
        file.skip()
    os.truncate(tmp_path / FIRST, 2)
    assert new(follower) == []
    append(tmp_path / FIRST, b"3\n")
    assert new(follower) == ["3"]


def test_a_packed_segment_that_grows(tmp_path: Path) -> None:
    """As KumoMTA writes one: a frame that is flushed now and then, byte by byte, and ends some time."""
    path = tmp_path / "20260101-000000.026490123"
    frame = zstandard.ZstdCompressor().compressobj()
    follower = Follower(tmp_path)
    found = []
    for number in range(3):
        for byte in frame.compress(b"%d\n" % number) + frame.flush(zstandard.COMPRESSOBJ_FLUSH_BLOCK):
            append(path, bytes([byte]))
            found += new(follower)
        assert found == [str(done) for done in range(number + 1)]
    append(path, frame.flush())
    finish(path)
    assert new(follower) == []


@pytest.mark.parametrize("damage", [b"\xff" * 9, b"\x28\xb5\x2f\xfd\x00\xff" + b"x" * 99])
def test_damaged_packed_data(tmp_path: Path, damage: bytes) -> None:
    """It is named once, and the others are followed on."""
    append(tmp_path / FIRST, zstandard.ZstdCompressor().compress(b"1\n") + damage)
    follower = Follower(tmp_path)
    assert new(follower) == ["1", "the packed data is damaged, or of another kind, from here on"]
    append(tmp_path / FIRST, b"more")
    append(tmp_path / SECOND, b"2\n")
    assert new(follower) == ["2"]


def test_a_packed_segment_that_is_removed_while_it_grows(tmp_path: Path) -> None:
    """A record whose line feed never arrived is one, as in a plain segment; half a record is not."""
    paths = [tmp_path / f"20260101-00000{number}" for number in range(2)]
    frames = [zstandard.ZstdCompressor().compressobj() for _ in paths]
    follower = Follower(tmp_path)
    for path, frame, content in zip(paths, frames, (b'{"a":1}', b'{}\n{"a"'), strict=True):
        append(path, frame.compress(content) + frame.flush(zstandard.COMPRESSOBJ_FLUSH_BLOCK))
    assert new(follower) == ["{}"]
    for path in paths:
        path.unlink()
    broken = "the packed data breaks off: it is still being written, or a crash has cut it off"
    assert new(follower) == ['{"a":1}', broken, broken]


def test_without_growing(tmp_path: Path) -> None:
    """Nothing is added, so a last line can lack its end, or be unfinished."""
    append(tmp_path / FIRST, b'{}\n{"a"')
    append(tmp_path / SECOND, b"[]")
    follower = Follower(tmp_path, growing=False)
    assert new(follower) == ["{}", "the last line is not finished", "[]"]
    assert new(follower) == []


def test_more_files_than_may_be_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of very many writable files none is held open, and none is read twice."""
    monkeypatch.setattr(follow, "_HELD_LIMIT", 3)
    paths = [tmp_path / f"20260101-00000{number}" for number in range(6)]
    for path in paths:
        append(path, b"1\n2")
    follower = Follower(tmp_path)
    before = open_files(tmp_path)
    assert new(follower) == ["1"] * 6
    assert open_files(tmp_path) == before
    paths[0].unlink()
    append(paths[1], b"2\n")
    assert new(follower) == ["22"]
    for path in paths[3:]:
        path.unlink()
    append(paths[2], b"2\n")
    assert new(follower) == ["22"]
    assert open_files(tmp_path) == before + 2


def test_followers_close_their_files(tmp_path: Path) -> None:
    """A folder below another one is read once, and nothing stays open after the block."""
    append(tmp_path / "log" / FIRST, b"1\n")
    append(tmp_path / "log" / "below" / SECOND, b"2\n")
    with followers((tmp_path / "log", tmp_path / "log" / "below", tmp_path / "log")) as opened:
        assert [new(one) for one in opened] == [["1", "2"]]
        assert open_files(tmp_path) == 2
    assert open_files(tmp_path) == 0


def test_a_folder_that_rests_is_not_listed_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder is listed again when it has changed, and once more right after a change, since times have steps."""
    listed: list[Path] = []
    real = logs._listed

    def count(path: Path, changed: int) -> object:
        listed.append(path)
        return real(path, changed)

    monkeypatch.setattr(logs, "_listed", count)
    follower = Follower(tmp_path)
    append(tmp_path / FIRST, b"1\n")
    assert new(follower) == ["1"]
    assert new(follower) == []
    assert len(listed) == 2
    os.utime(tmp_path, (1, 1))
    assert new(follower) == new(follower) == []
    assert len(listed) == 3
    append(tmp_path / FIRST, b"2\n")
    append(tmp_path / SECOND, b"3\n")
    assert new(follower) == ["2", "3"]
    assert len(listed) == 4


def test_unreadable(tmp_path: Path) -> None:
    """A folder without segments, and a log that cannot be read, are errors."""
    (tmp_path / "notes").touch()
    with pytest.raises(JournalError, match="there are no segments"):
        Follower(tmp_path).look()
    with pytest.raises(JournalError, match="Not a directory"):
        Follower(tmp_path / "notes" / "below").look()


def test_the_real_writer(folder: Path, open_journal: OpenJournal) -> None:
    """Two journals in one folder, as two workers have them, with segments of a few lines: each line comes once."""
    follower = Follower(folder)
    assert new(follower) == []
    journals = [open_journal(folder, segment_size=30) for _ in range(2)]
    found, written = [], []
    for number in range(60):
        line = f'{{"n":{number}}}'
        journals[number % 2].write(line.encode() + b"\n", durable=False)
        written.append(line)
        if number % 7 == 0:
            found += new(follower)
    for journal in journals:
        journal.close()
    found += new(follower)
    assert sorted(found) == sorted(written)


class Writer:
    """A segment's writer, plain or packed; it writes half lines as well."""

    def __init__(self, path: Path, number: int) -> None:
        self.path, self.lines, self.seen = path, list[str](), False
        self._number, self._half = number, b""
        self._frame = zstandard.ZstdCompressor().compressobj() if number % 2 else None
        self._store(b"")

    def write(self, whole: int, half: int) -> None:
        """Write some lines, and then some bytes of another."""
        made = [f'{{"{self._number}":{len(self.lines) + index}}}' for index in range(whole + 1)]
        text = "\n".join(made).encode()[len(self._half) :]
        self.lines += made[:-1]
        kept = text[: len(text) - len(made[-1]) + half] if whole else text[:half]
        self._half = made[-1].encode()[: half if whole else len(self._half) + half]
        self._store(kept)

    def leave(self) -> None:
        """Write no more; a line that lacks nothing but its end counts."""
        if self._half.endswith(b"}"):
            self.lines.append(self._half.decode())

    def finish(self) -> None:
        """End the segment."""
        if self._frame is not None:
            append(self.path, self._frame.flush())
        finish(self.path)

    def _store(self, content: bytes) -> None:
        if self._frame is not None:
            content = self._frame.compress(content) + self._frame.flush(zstandard.COMPRESSOBJ_FLUSH_BLOCK)
        append(self.path, content)


Steps = st.lists(
    st.one_of(
        st.tuples(st.just("write"), st.tuples(st.integers(0, 2), st.integers(0, 3), st.integers(0, 3))),
        st.tuples(st.sampled_from(["finish", "remove"]), st.tuples(st.integers(0, 2))),
        st.tuples(st.just("look"), st.just(())),
    ),
    max_size=30,
)


class Model:
    """A folder with three writers at a time, and a follower."""

    def __init__(self, folder: Path, *, held: bool) -> None:
        self._folder, self._held = folder, held
        self._follower = Follower(folder)
        self._count = itertools.count()
        self._found: dict[Path, list[str]] = {}
        self._live = [self._begin() for _ in range(3)]
        self._gone: list[Writer] = []

    def look(self) -> None:
        """Read what is new."""
        for file in self._follower.look():
            lines = [line.text.decode() for line in file.lines() if isinstance(line, Line)]
            self._found.setdefault(file.path, []).extend(lines)
        for writer in self._live:
            writer.seen = True

    def write(self, slot: int, whole: int, half: int) -> None:
        """Let one write."""
        self._live[slot].write(whole, half)

    def finish(self, slot: int) -> None:
        """Let one finish its segment, and begin another."""
        writer = self._replace(slot)
        writer.finish()
        writer.seen = True  # it stays

    def remove(self, slot: int) -> None:
        """Remove a segment; its writer begins another."""
        writer = self._replace(slot)
        writer.path.unlink()
        # What was removed before it was listed cannot be read.
        writer.seen = writer.seen and self._held

    def check(self) -> None:
        """Check that nothing is missing, and that each line arrived once."""
        self._follower.close()
        for writer in (*self._live, *self._gone):
            lines = self._found.get(writer.path, [])
            assert lines == writer.lines[: None if writer.seen else len(lines)]

    def _begin(self) -> Writer:
        number = next(self._count)
        return Writer(self._folder / f"20260101-{number:06}", number)

    def _replace(self, slot: int) -> Writer:
        writer, self._live[slot] = self._live[slot], self._begin()
        writer.leave()
        self._gone.append(writer)
        return writer


@settings(max_examples=150, deadline=None)
@given(steps=Steps, held=st.booleans())
def test_model(tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, tuple[int, ...]]], held: bool) -> None:
    """Whatever writers and operators do: each whole line comes once, in the order of its file."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(follow, "_HELD_LIMIT", 64 if held else 0)
        model = Model(tmp_path_factory.mktemp("log"), held=held)
        for step, arguments in (*steps, ("look", ())):
            getattr(model, step)(*arguments)
        model.check()
