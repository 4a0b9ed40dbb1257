"""The sentences and bars around the figures."""

from collections.abc import Sequence

from rich.filesize import decimal

from sidecar.commands.stats.summary import Ranking, Summary, instant
from sidecar.core.text import counted

_DAY = 86400
_BARS = " ▁▂▃▄▅▆▇█"
_PLAIN_BARS = " .:-=+*#@"
_UNITS = ((7 * _DAY, "week"), (_DAY, "day"), (3600, "hour"), (60, "minute"), (1, "second"))


def headline(summary: Summary) -> str:
    """Return one line: the number of records, their first and last time, and their bytes."""
    if summary.first is None or summary.last is None:
        return f"{records(summary)}, {decimal(summary.bytes_received)} received"
    times = f"{moment(summary.first)} to {moment(summary.last)} UTC"
    return f"{records(summary)}, {times}, {decimal(summary.bytes_received)} received"


def records(summary: Summary) -> str:
    """Return the number of records, and of the rejections and messages that they stand for."""
    number = counted(summary.records, "record")
    return number if summary.records == summary.count else f"{number} that stand for {summary.count:,}"


def range_asked(summary: Summary) -> str:
    """Return the range in words, or an empty text without one."""
    since = "" if summary.since is None else f" from {moment(summary.since)}"
    until = "" if summary.until is None else f" until {moment(summary.until)}"
    return f"{since}{until} UTC" if since or until else ""


def nothing_found(summary: Summary) -> str:
    """Return the sentence for a range without records, with the times that the log has."""
    if summary.log_first is None or summary.log_last is None:
        asked = range_asked(summary)
        return f"There are no records{asked}, and no others in the log." if asked else "There are no records in the log."
    covers = f"the log has records from {moment(summary.log_first)} to {moment(summary.log_last)} UTC"
    return f"There are no records{range_asked(summary)}; {covers}."


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
    text = moment(instant(seconds))
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
