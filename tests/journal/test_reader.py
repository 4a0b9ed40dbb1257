"""Reading back: every whole line, in order, and a word about each that is none."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sidecar.journal import Journal, JournalError, Line, Skipped, read, reader

from .conftest import segments, texts


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
    monkeypatch.setattr(reader, "LINE_LIMIT", 32 if b"[" not in content else reader.LINE_LIMIT)
    path = tmp_path / "records.jsonl"
    path.write_bytes(content)
    found = list(read(path))
    assert [(line.number, line.text if isinstance(line, Line) else line.why) for line in found] == expected
    assert all(line.file == path for line in found)


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
