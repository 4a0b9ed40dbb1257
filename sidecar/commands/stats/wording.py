"""The sentences and bars around the figures, and the times that an operator types.

The grammar of times is small enough for `--help`, and each text has one meaning. A library for any date in any language also
accepts mistakes, and then answers for another day.
"""

import re
from collections.abc import Sequence
from datetime import UTC, datetime

from sidecar.commands.stats.summary import Ranking, Summary
from sidecar.core.text import age, counted, in_units, rfc3339

_DAY = 86400
_BARS = " ▁▂▃▄▅▆▇█"
_PLAIN_BARS = " .:-=+*#@"
_DATE = re.compile(r"\d{4}-\d\d-\d\d(?:[T ]\d\d:\d\d(?::\d\d(?:\.\d{1,9})?)?(?:Z|[+-]\d\d:\d\d)?)?", re.ASCII)
# The year 3000: no record is later.
_LAST = 32_503_680_000.0
_EXAMPLES = "2026-11-22, 2026-11-22T08:30Z, today, yesterday, 90m or 7d"
_UNITS = ((7 * _DAY, "week"), (_DAY, "day"), (3600, "hour"), (60, "minute"), (1, "second"))


def headline(summary: Summary) -> str:
    """Return one line: the numbers of records, of what they stand for and of messages; first and last time; and bytes."""
    number = counted(summary.records, "record")
    parts = [number if summary.records == summary.count else f"{number} that stand for {summary.count:,}"]
    if summary.messages:
        parts.append(counted(summary.messages, "message"))
    if summary.first is not None and summary.last is not None:
        parts.append(f"{moment(summary.first)} to {moment(summary.last)} UTC")
    return ", ".join([*parts, f"{in_units(summary.bytes_received)} received"])


def range_asked(summary: Summary) -> str:
    """Return the range in words, or an empty text without one."""
    since = "" if summary.since is None else f" from {moment(summary.since)}"
    until = "" if summary.until is None else f" until {moment(summary.until)}"
    return f"{since}{until} UTC" if since or until else ""


def nothing_found(summary: Summary) -> str:
    """Return the sentence for a range without records, with the times that the log has."""
    asked = range_asked(summary)
    if summary.log_first is not None and summary.log_last is not None:
        covers = f"the log has records from {moment(summary.log_first)} to {moment(summary.log_last)} UTC"
        return f"There are no records{asked}; {covers}."
    return f"There are no records{asked}, and no others in the log." if asked else "There are no records in the log."


def extent(ranking: Ranking, shown: int) -> str:
    """Return how much of a ranking is shown, and how exact its figures are."""
    names = f"at least {ranking.names:,}" if ranking.shortfall else f"{ranking.names:,}"
    part = "" if shown >= ranking.names else f"{shown} of {names}"
    return f"{part}, each up to {ranking.shortfall:,} too low" if ranking.shortfall else part


def moment(rfc3339: str) -> str:
    """Return a time for people."""
    return rfc3339.replace("T", " ").removesuffix("Z")


def tick(seconds: int, width: int) -> str:
    """Return the beginning of a bucket of `width` seconds, as short as it is unique."""
    text = moment(rfc3339(int(seconds)))
    return text[:10] if width % _DAY == 0 else text[5:16] if width % 60 == 0 else text[5:]


def span(seconds: int) -> str:
    """Return seconds in the largest unit without a fraction."""
    unit, name = next((unit, name) for unit, name in _UNITS if seconds % unit == 0)
    return f"1 {name}" if seconds == unit else f"{seconds // unit} {name}s"


def share(count: int, total: int) -> str:
    """Return a part of a whole in per cent."""
    return f"{100 * count / total:.1f} %" if total else ""


def sparkline(counts: Sequence[int], columns: int, *, ascii_only: bool = False) -> str:
    """Return bars for `counts`, in at most `columns` characters: neighbours are added up. A blank is exactly 0."""
    bars = _PLAIN_BARS if ascii_only else _BARS
    step = -(-len(counts) // max(1, columns)) or 1
    sums = [sum(counts[at : at + step]) for at in range(0, len(counts), step)]
    most = max(sums, default=0) or 1
    top = len(bars) - 1
    return "".join(bars[-(-count * top // most)] for count in sums)


def parse_when(text: str, now: float) -> float:
    """Return the time that `text` names, in seconds since 1970, as is `now`; from 1970 to 2999.

    `now`, `today` and `yesterday` (their midnight), an age (`90s`, `15m`, `1h`, `7d`, `2w`, with or without `ago`), a date (its
    midnight), or RFC 3339 with optional seconds and offset. The default offset is UTC. Raise ValueError with the fix.
    """
    word = " ".join(text.split())
    named = {"now": now, "today": now // _DAY * _DAY, "yesterday": (now // _DAY - 1) * _DAY}
    if word.lower() in named:
        return named[word.lower()]
    if (ago := age(word.lower().removesuffix(" ago"))) is not None:
        return max(0.0, now - ago)
    if not _DATE.fullmatch(word.upper()):
        raise ValueError(f"{text!r} is no time; write one such as {_EXAMPLES}")
    try:
        read = datetime.fromisoformat(word.upper())
        return min(max(0.0, (read if read.tzinfo else read.replace(tzinfo=UTC)).timestamp()), _LAST)
    except (ValueError, OverflowError):
        raise ValueError(f"{text!r} is a day or an hour that does not exist; write one such as {_EXAMPLES}") from None
