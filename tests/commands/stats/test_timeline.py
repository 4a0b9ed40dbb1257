"""Counts over time."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.commands.stats.timeline import BUCKETS, Clockwork

DAY = 86400
NOON = int(datetime(2026, 11, 22, 12, tzinfo=UTC).timestamp())
LATEST = 32_503_679_999


@given(
    st.lists(st.tuples(st.sampled_from("AB"), st.integers(1, LATEST), st.integers(1, 9)), min_size=1, max_size=60),
    st.integers(1, 20),
)
def test_nothing_is_lost(events: list[tuple[str, int, int]], room: int) -> None:
    """Whatever the times, and however little room there is: each record is in the bucket of its time, and buckets are few."""
    clockwork = Clockwork(room)
    for kind, when, count in events:
        clockwork.add(kind, when, count)
    timeline = clockwork.timeline()
    assert timeline is not None
    lengths = {len(counts) for counts in timeline.series.values()}
    assert len(lengths) == 1
    assert max(lengths) <= BUCKETS
    expected = {kind: [0] * max(lengths) for kind, _, _ in events}
    for kind, when, count in events:
        expected[kind][(when - timeline.start) // timeline.seconds] += count
    assert timeline.series == expected


@pytest.mark.parametrize(
    ("length", "seconds"),
    [
        (1, 1),
        (60, 1),
        (600, 5),
        (3600, 30),
        (6 * 3600, 300),
        (DAY, 900),
        (7 * DAY, 2 * 3600),
        (30 * DAY, 6 * 3600),
        (365 * DAY, 7 * DAY),
        (20 * 365 * DAY, 91 * DAY),
    ],
)
def test_width(length: int, seconds: int) -> None:
    """The buckets are as wide as people divide time, and there are many enough to see a course."""
    clockwork = Clockwork()
    clockwork.add("A", NOON, 1)
    clockwork.add("A", NOON + length - 1, 1)
    timeline = clockwork.timeline()
    assert timeline is not None
    assert timeline.seconds == seconds
    assert length < 60 or len(timeline.series["A"]) >= 50


def test_the_range_that_was_asked_for() -> None:
    """Silence at the beginning and the end of the range is shown."""
    clockwork = Clockwork()
    clockwork.add("A", NOON, 2)
    timeline = clockwork.timeline(NOON - 3600, NOON + 3600)
    assert timeline is not None
    assert (timeline.start, timeline.end, timeline.seconds) == (NOON - 3600, NOON + 3600, 60)
    assert timeline.series["A"].index(2) == 60


@pytest.mark.parametrize(("length", "weekday", "hour"), [(90 * DAY, None, 0), (2 * 365 * DAY, 0, 0)])
def test_calendar(length: int, weekday: int | None, hour: int) -> None:
    """Days begin at midnight and weeks on Mondays, in UTC."""
    clockwork = Clockwork()
    clockwork.add("A", NOON, 1)
    clockwork.add("A", NOON + length, 1)
    timeline = clockwork.timeline()
    assert timeline is not None
    start = datetime.fromtimestamp(timeline.start, UTC)
    assert (start.hour, start.minute) == (hour, 0)
    assert weekday is None or start.weekday() == weekday


def test_nothing() -> None:
    """Without a record there is no timeline."""
    assert Clockwork().timeline() is None
