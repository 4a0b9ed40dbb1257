"""Dates, in every form seen in reports."""

from datetime import UTC, datetime, timedelta, timezone
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.core.reports.dates import read_date


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Thu, 02 Jul 2026 18:55:38 +0000", "2026-07-02T18:55:38Z"),
        ("Thu, 2 Jul 2026 18:55:38 +0200", "2026-07-02T16:55:38Z"),
        ("2 Jul 2026 18:55:38 -0730", "2026-07-03T02:25:38Z"),
        ("Thu, 02 Jul 26 18:55:38 UTC", "2026-07-02T18:55:38Z"),
        ("Fri, 02 Jul 99 18:55:38 GMT", "1999-07-02T18:55:38Z"),
        ("Fri, 02 Jul 126 18:55:38 GMT", "2026-07-02T18:55:38Z"),
        ("Sun, 02 Jul 2026 18:55:38 +0000", "2026-07-02T18:55:38Z"),
        ("Thu, 02 Jul 2026 18:55 +0000", "2026-07-02T18:55:00Z"),
        ("Thu, 02 Jul 2026 18:55:38", "2026-07-02T18:55:38Z"),
        ("Thu, 02 Jul 2026 18:55:38 Z", "2026-07-02T18:55:38Z"),
        ("Thu, 02 Jul 2026 18:55:38 UT", "2026-07-02T18:55:38Z"),
        ("Thu, 02 Jul 2026 18:55:38 est", "2026-07-02T23:55:38Z"),
        ("Thu, 02 Jul 2026 18:55:38 PST", "2026-07-03T02:55:38Z"),
        ("Thu, 02 Jul 2026 18:55:38 CEST", "2026-07-02T16:55:38Z"),
        ("Thu, 02 Jul 2026 18:55:38 ACST", "2026-07-02T09:25:38Z"),
        ("Thu, 02 Jul 2026 18:55:38 IST", "2026-07-02T18:55:38Z"),
        ("Thu, 02 Jul 2026 18:55:38 +0000 (UTC)", "2026-07-02T18:55:38Z"),
        ("Thu (a day), 02 Jul 2026 18:55:38 +0000 (a (nested) one)", "2026-07-02T18:55:38Z"),
        ("Thu Jul  2 18:55:38 2026", "2026-07-02T18:55:38Z"),
        ("Thu Jul  2 18:55:38 PDT 2026", "2026-07-03T01:55:38Z"),
        ("2026-07-02T18:55:38Z", "2026-07-02T18:55:38Z"),
        ("2026-07-02T18:55:38.999+02:00", "2026-07-02T16:55:38Z"),
        ("2026-07-02 18:55", "2026-07-02T18:55:00Z"),
        ("Thu, 31 Dec 2026 23:59:60 +0000", "2026-12-31T23:59:59Z"),
        ("Thu, 2 Jul 2026 18:55:38 GMT+02:00", "2026-07-02T16:55:38Z"),
        ("Thu, 2 Jul 2026 18:55:38 UTC-0200", "2026-07-02T20:55:38Z"),
        ("Thu, 2 Jul 2026 18:55:38 +0200 CEST", "2026-07-02T16:55:38Z"),
        ("2026-07-02 18:55:38.1 +0200 UTC", "2026-07-02T16:55:38Z"),
        ("2026/07/02 18:55:38 +0200", "2026-07-02T16:55:38Z"),
        ("\u6728, 2 Jul 2026 18:55:38 +0900 (JST)", "2026-07-02T09:55:38Z"),
        ('"Thu, 2 Jul 2026 18:55:38 +0200"', "2026-07-02T16:55:38Z"),
        ("Thu, 2 Jul 2026 18:55:38 +0200 (unclosed", "2026-07-02T16:55:38Z"),
        ("", None),
        ("soon", None),
        ("Thu, 31 Jun 2026 18:55:38 +0000", None),
        ("Thu, 02 Foo 2026 18:55:38 +0000", None),
        ("Thu, 02 Jul 2026 24:00:00 +0000", None),
        ("Thu, 02 Jul 2026 18:55:61 +0000", None),
        ("Thu, 02 Jul 2026 18:55:38 +0060", None),
        ("Thu, 02 Jul 2026 18:55:38 +2400", None),
        ("2026-13-02T18:55:38Z", None),
        ("1 Jan 0001 00:00:00 +0100", None),
        ("Fri, 1 Jan 60123 00:00:00 +0000", None),
        ("Thu, 02 Jul 2026 18:55:38 +0000 or so", None),
        ("\u0662 Jul 2026 18:55:38 +0000", None),
    ],
)
def test_date(text: str, expected: str | None) -> None:
    """A date is read, or it is None; it is never a wrong date."""
    assert read_date(text) == expected


@given(
    st.datetimes(min_value=datetime(1950, 1, 2), max_value=datetime(9998, 1, 1)),  # noqa: DTZ001 - zones are drawn
    st.integers(-23 * 60, 23 * 60),
)
def test_written_by_the_standard_library(moment: datetime, minutes: int) -> None:
    """Every date as RFC 5322 writes it is the same instant in UTC."""
    local = moment.replace(microsecond=0, tzinfo=timezone(timedelta(minutes=minutes)))
    assert read_date(format_datetime(local)) == local.astimezone(UTC).isoformat().replace("+00:00", "Z")


@given(st.text(alphabet="0123456789 :+-,.()TZJulThuUTC", max_size=200))
def test_any_text(text: str) -> None:
    """Whatever is given for a date, the answer is None or RFC 3339 in UTC."""
    date = read_date(text)
    assert date is None or datetime.fromisoformat(date).tzinfo == UTC
