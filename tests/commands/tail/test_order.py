"""In which order records come, and which are the last."""

import os
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sidecar.commands.tail.filters import RecordFilter, make_filter
from sidecar.journal.read import Follower, Line, order
from sidecar.journal.read.order import OrderedLine, entries, latest, merged

BEGIN = int(datetime(2026, 1, 1, tzinfo=UTC).timestamp())


def record(second: float, kind: str = "Rejection", created: float | None = None) -> bytes:
    """Make a record of an instant, in seconds after the year's begin."""
    told = datetime.fromtimestamp(BEGIN + second, UTC).isoformat().encode()
    made = datetime.fromtimestamp(BEGIN + (second if created is None else created), UTC).isoformat().encode()
    return b'{"type":"%s","event_time":"%s","created_time":"%s","timestamp":1}\n' % (kind.encode(), told, made)


def segment(folder: Path, begin: int, *lines: bytes, written: float | None = None) -> None:
    """Write a segment that began so many seconds after the year's begin."""
    path = folder / f"{datetime.fromtimestamp(BEGIN + begin, UTC):%Y%m%d-%H%M%S}"
    path.write_bytes(b"".join(lines))
    if written is not None:
        os.utime(path, (BEGIN + written,) * 2)


def seconds(found: list[OrderedLine]) -> list[float | str]:
    return [entry.why or entry.when - BEGIN for entry in found]


def test_segments_are_merged(tmp_path: Path) -> None:
    """Several workers write at a time; the order within a segment stays."""
    segment(tmp_path, 0, record(1), record(3), record(2), record(9))
    segment(tmp_path, 1, record(2), record(4), b"?\n", record(5))
    found = seconds(list(merged(Follower(tmp_path).look())))
    assert found == [1, 2, 3, 3, 4, "it is no record: JSON is malformed: invalid character (byte 0)", 5, 9]


def test_few_files_are_open_at_a_time(tmp_path: Path) -> None:
    """A segment is opened when the others have come to its beginning."""
    for begin in range(0, 100, 10):
        segment(tmp_path, begin, record(begin + 1), record(begin + 2))
    assert most_open(tmp_path) == (20, 1)


def test_names_that_do_not_tell_when_files_began(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Segments named by local time all seem to wait for each other: some are read out of turn before too many are open."""
    for begin in range(0, 100, 10):
        segment(tmp_path, begin, record(begin + 3601), record(begin + 3602))
    assert most_open(tmp_path) == (20, 10)
    monkeypatch.setattr(order, "_OPEN_LIMIT", 3)
    assert most_open(tmp_path) == (20, 4)


def most_open(folder: Path) -> tuple[int, int]:
    """Read a log; give the number of its records, and how many of its files were open at a time."""
    number = most = 0
    for number, _ in enumerate(merged(Follower(folder, growing=False).look()), 1):  # noqa: B007 - the last one counts
        most = max(most, sum(str(path.resolve()).startswith(str(folder)) for path in Path("/proc/self/fd").iterdir()))
    return number, most


def test_a_bounce_record_stands_where_its_report_came_in(tmp_path: Path) -> None:
    """The time that it tells is a stranger's."""
    segment(tmp_path, 0, record(1), record(10**9, "OOB", created=2), record(3))
    segment(tmp_path, 1, record(2.5))
    assert seconds(list(merged(Follower(tmp_path).look()))) == [1, 2, 2.5, 3]


def test_a_record_without_a_time(tmp_path: Path) -> None:
    """Older ones of KumoMTA's have whole seconds only, others none: each stays where it is."""
    lines = [b'{"type":"Reception","timestamp":%d}' % (BEGIN + 5), b'{"type":"Reception"}', b'{"type":"OOB"}']
    assert seconds(list(entries(Line(file=tmp_path, number=1, text=line) for line in lines))) == [5, 5, 5]


@pytest.mark.parametrize("text", [b'{"type":"x","other":"\xff"}', b"[]", b"{}", b'{"type":1}', b"[" * 5000, b"\xff"])
def test_what_is_no_record(tmp_path: Path, text: bytes) -> None:
    """It is named and stops nothing, also where only a field that nobody looks into is not UTF-8."""
    (found,) = entries([Line(file=tmp_path, number=1, text=text)])
    assert found.record is None
    assert found.why.startswith("it is no record: ")


@pytest.mark.parametrize(
    ("number", "wanted", "expected"),
    [
        (0, None, []),
        (1, None, [9]),
        (3, None, [7, 8, 9]),
        (99, None, [1, 2, 3, 4, 5, 6, 7, 8, 9]),
        (2, make_filter(types=["OOB"]), [3, 6]),
        (2, make_filter(types=["Feedback"]), []),
    ],
)
def test_latest(tmp_path: Path, number: int, wanted: RecordFilter | None, expected: list[float]) -> None:
    """The last ones of all segments that are wanted; then everything has been passed over."""
    lines = [record(second, "OOB" if second % 3 == 0 and second < 9 else "Rejection") for second in range(1, 10)]
    segment(tmp_path, 0, *lines[::2], written=9)
    segment(tmp_path, 1, *lines[1::2], written=8)
    follower = Follower(tmp_path)
    assert seconds(latest(follower.look(), number=number, wanted=wanted)) == expected
    assert list(merged(follower.look())) == []
    segment(tmp_path, 1, *lines[1::2], record(10))
    assert seconds(list(merged(follower.look()))) == [10]


def test_latest_reads_no_more_than_it_must(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not what was written before the last records, and no more than the newest part of the log."""
    for begin in range(10, 50, 10):
        segment(tmp_path, begin, record(begin + 1), record(begin + 2), written=begin + 2)
    segment(tmp_path, 0, record(99), written=2)  # it would show
    assert seconds(latest(Follower(tmp_path).look(), number=3, wanted=None)) == [32, 41, 42]
    monkeypatch.setattr(order, "LOOK_BACK", 1)
    assert seconds(latest(Follower(tmp_path).look(), number=3, wanted=make_filter(reason="x"))) == []
    assert seconds(latest(Follower(tmp_path).look(), number=3, wanted=None)) == [41, 42]


@settings(max_examples=50, deadline=None)
@given(
    steps=st.lists(st.tuples(st.integers(0, 3), st.integers(0, 5)), max_size=30),
    number=st.integers(0, 12),
    limit=st.integers(1, 4),
)
def test_latest_is_the_end_of_everything(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[int, int]], number: int, limit: int
) -> None:
    """Whoever wrote what and when: the last records are the last of all, in the same order but for equal times."""
    folder = tmp_path_factory.mktemp("log")
    now = 0
    segments: dict[int, list[int]] = {}
    names: dict[int, int] = {}
    for worker, pause in steps:
        now += pause
        if worker not in names or len(segments[names[worker]]) == limit:
            names[worker] = max(segments, default=-1) + 1
        segments.setdefault(names[worker], []).append(now)
    for name, times in segments.items():
        segment(folder, name, *map(record, times), written=times[-1])
    everything = sorted(time for times in segments.values() for time in times)
    assert sorted(map(float, everything)) == sorted(seconds(list(merged(Follower(folder).look()))))
    assert (
        seconds(latest(Follower(folder).look(), number=number, wanted=None))
        == everything[len(everything) - min(number, len(everything)) :]
    )
