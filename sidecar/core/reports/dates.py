"""Dates as mail programs write them -> RFC 3339 in UTC.

The weekday is ignored: in a quarter of real bounce reports it does not match the date.
"""

import re
from datetime import datetime, timedelta

from sidecar.core.reports.addresses import without_comments

# The longest date RFC 5322 knows has 31 characters; comments such as `(Coordinated Universal Time)` follow.
DATE_LIMIT = 128

MONTHS = {
    name: number
    for number, name in enumerate(("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"), start=1)
}

# RFC 5322 section 4.3 fixes the first line; the rest are abbreviations that mean one offset wherever they are used. In hours.
_ZONES = {
    "EST": -5, "EDT": -4, "CST": -6, "CDT": -5, "MST": -7, "MDT": -6, "PST": -8, "PDT": -7,
    "AST": -4, "ADT": -3, "NST": -3.5, "NDT": -2.5, "AKST": -9, "AKDT": -8, "HST": -10, "HDT": -9, "SST": -11,
    "BST": 1, "WEST": 1, "CET": 1, "CEST": 2, "EET": 2, "EEST": 3, "MSK": 3, "IDT": 3,
    "WAT": 1, "CAT": 2, "SAST": 2, "EAT": 3, "PKT": 5, "WIB": 7, "WITA": 8, "WIT": 9, "HKT": 8, "JST": 9, "KST": 9,
    "AWST": 8, "ACST": 9.5, "ACDT": 10.5, "AEST": 10, "AEDT": 11, "CHST": 10, "NZST": 12, "NZDT": 13,
}  # fmt: skip

_CLOCK = r"(?P<hour>\d{1,2})\s*:\s*(?P<minute>\d{2})(?:\s*:(?P<second>\d{2})(?:[.,]\d+)?)?"
# Some programs write both, `GMT+02:00`, or a name after the offset.
_ZONE = r"(?:(?:GMT|UTC)?(?P<zone>[+-]\d{2}:?\d{2}|[A-Za-z]+)(?:\s+[A-Za-z]+)?)?"
_MAIL = re.compile(
    r"(?:[^\s\d,.]+[\s,.]*)?(?P<day>\d{1,2})[\s-]+(?P<month>[A-Za-z]{3})[a-z]*[\s,.-]+"
    rf"(?P<year>\d{{2,4}})[\s,]+{_CLOCK}\s*{_ZONE}",
    re.ASCII,
)
_ISO = re.compile(rf"(?P<year>\d{{4}})[-/](?P<month>\d{{2}})[-/](?P<day>\d{{2}})[Tt\s]+{_CLOCK}\s*{_ZONE}", re.ASCII)
_CTIME = re.compile(
    rf"[A-Za-z]+,?\s+(?P<month>[A-Za-z]{{3}})[a-z]*\s+(?P<day>\d{{1,2}}),?\s+{_CLOCK}\s+{_ZONE}\s*(?P<year>\d{{4}})", re.ASCII
)


def read_date(text: str) -> str | None:
    """Return a date of RFC 5322 (also obsolete forms), ISO 8601 or ctime(3) as `2026-07-02T18:55:38Z`, or None.

    Without a zone, or with an unknown or ambiguous one, the clock is UTC, as in RFC 5322 section 4.3 and KumoMTA. A leap second
    becomes :59, because few readers of RFC 3339 know :60.
    """
    text = without_comments(text[:DATE_LIMIT]).strip(' "')
    found = _MAIL.fullmatch(text) or _ISO.fullmatch(text) or _CTIME.fullmatch(text)
    if found is None:
        return None
    year, month, day, hour, minute, second, zone = found.group("year", "month", "day", "hour", "minute", "second", "zone")
    try:
        local = datetime(  # noqa: DTZ001 - the offset is taken off below
            full_year(year),
            MONTHS[month.lower()] if month.isalpha() else int(month),
            int(day),
            int(hour),
            int(minute),
            59 if second == "60" else int(second or 0),
        )
        return f"{(local - _offset(zone)).isoformat()}Z"
    except (KeyError, ValueError, OverflowError):
        return None


def full_year(digits: str) -> int:
    """Return a year of two, three or four digits (RFC 5322 section 4.3)."""
    year = int(digits)
    if len(digits) == 4:  # noqa: PLR2004 - four digits are a whole year
        return year
    return year + (2000 if year < 50 else 1900)  # noqa: PLR2004 - RFC 5322: 00 to 49 are 2000 to 2049


def _offset(zone: str | None) -> timedelta:
    """Return the offset of a zone from UTC. Raise ValueError for an offset of a day or more."""
    if zone is None or zone[0].isalpha():
        return timedelta(hours=_ZONES.get((zone or "").upper(), 0))
    hours, minutes = int(zone[1:3]), int(zone[-2:])
    if hours > 23 or minutes > 59:  # noqa: PLR2004 - a clock
        raise ValueError(zone)
    offset = timedelta(hours=hours, minutes=minutes)
    return -offset if zone[0] == "-" else offset
