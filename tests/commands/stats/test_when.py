"""Points in time, as an operator types them."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.commands.stats.wording import parse_when
from sidecar.core.text import rfc3339

NOW = datetime(2026, 11, 22, 15, 4, 5, tzinfo=UTC).timestamp()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("now", "2026-11-22T15:04:05Z"),
        ("today", "2026-11-22T00:00:00Z"),
        ("yesterday", "2026-11-21T00:00:00Z"),
        ("TODAY", "2026-11-22T00:00:00Z"),
        ("90s", "2026-11-22T15:02:35Z"),
        ("15m", "2026-11-22T14:49:05Z"),
        ("1h", "2026-11-22T14:04:05Z"),
        ("1h ago", "2026-11-22T14:04:05Z"),
        ("7d", "2026-11-15T15:04:05Z"),
        ("2W", "2026-11-08T15:04:05Z"),
        ("2026-11-20", "2026-11-20T00:00:00Z"),
        ("2026-11-20T08:30", "2026-11-20T08:30:00Z"),
        (" 2026-11-20 08:30 ", "2026-11-20T08:30:00Z"),
        ("2026-11-20T08:30:15Z", "2026-11-20T08:30:15Z"),
        ("2026-11-20t08:30:15z", "2026-11-20T08:30:15Z"),
        ("2026-11-20T08:30:15.25+02:00", "2026-11-20T06:30:15Z"),
        ("2026-11-20T00:30-05:00", "2026-11-20T05:30:00Z"),
        ("999999w", "1970-01-01T00:00:00Z"),
        ("0001-01-01T00:00+14:00", "1970-01-01T00:00:00Z"),
        ("9999-12-31T23:59-14:00", "3000-01-01T00:00:00Z"),
    ],
)
def test_read(text: str, expected: str) -> None:
    """Each text has one meaning, in UTC unless it says otherwise."""
    assert rfc3339(int(parse_when(text, NOW))) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "30",
        "1y",
        "-1h",
        "1.5h",
        "2026",
        "11/22/2026",
        "2026-11-22T8:30",
        "tomorrow",
        "20261122",
        "2026-W47",
        "٣h",
        "1h\x1b[31m",
    ],
)
def test_no_point_in_time(text: str) -> None:
    """What is none is rejected with examples of what is."""
    with pytest.raises(ValueError, match=r"is no time; write one such as .*90m or 7d"):
        parse_when(text, NOW)


@pytest.mark.parametrize("text", ["2026-02-30", "2026-13-01", "2026-11-22T24:30", "2026-11-22T23:59:60Z", "0000-01-01"])
def test_no_calendar_has_it(text: str) -> None:
    """A day or an hour that does not exist is rejected, not rounded to another."""
    with pytest.raises(ValueError, match="that does not exist"):
        parse_when(text, NOW)


@given(st.text(alphabet="0123456789-:.TtZz+ smhdwago", max_size=40))
def test_never_anything_else(text: str) -> None:
    """Any text is an instant that can be written, or a ValueError."""
    try:
        assert rfc3339(int(parse_when(text, NOW)))
    except ValueError as error:
        assert "write one such as" in str(error)  # noqa: PT017 - both ends are right
