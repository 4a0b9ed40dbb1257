"""The sentences around the figures. Owns their words; never counts."""

from rich.filesize import decimal

from sidecar.commands.stats.summary import Ranking, Summary, instant
from sidecar.core.text import counted

_DAY = 86400
_UNITS = ((7 * _DAY, "week"), (_DAY, "day"), (3600, "hour"), (60, "minute"), (1, "second"))


def headline(summary: Summary) -> str:
    """Say in one line how many records there are, and from when to when."""
    if summary.first is None or summary.last is None:
        return f"{records(summary)}, {decimal(summary.bytes_received)} received"
    times = f"{moment(summary.first)} to {moment(summary.last)} UTC"
    return f"{records(summary)}, {times}, {decimal(summary.bytes_received)} received"


def records(summary: Summary) -> str:
    """Say how many records there are, and, if they differ, how many rejections and messages they stand for."""
    number = counted(summary.records, "record")
    return number if summary.records == summary.count else f"{number} that stand for {summary.count:,}"


def range_asked(summary: Summary) -> str:
    """Say which range was asked for; nothing where none was."""
    since = "" if summary.since is None else f" from {moment(summary.since)}"
    until = "" if summary.until is None else f" until {moment(summary.until)}"
    return f"{since}{until} UTC" if since or until else ""


def nothing_found(summary: Summary) -> str:
    """Say that there is nothing in the range, and what there is."""
    if summary.log_first is None or summary.log_last is None:
        asked = range_asked(summary)
        return (
            f"There are no records{asked}, nor any others in what was read."
            if asked
            else "There are no records in what was read."
        )
    covers = f"the log has records from {moment(summary.log_first)} to {moment(summary.log_last)} UTC"
    return f"There are no records{range_asked(summary)}; {covers}."


def extent(ranking: Ranking, shown: int) -> str:
    """Say how much of a ranking is shown, and how far its figures can be trusted."""
    names = f"at least {ranking.names:,}" if ranking.shortfall else f"{ranking.names:,}"
    part = "" if shown >= ranking.names else f"{shown} of {names}"
    return f"{part}, each up to {ranking.shortfall:,} too low" if ranking.shortfall else part


def moment(rfc3339: str) -> str:
    """Write an instant as people read it."""
    return rfc3339.replace("T", " ").removesuffix("Z")


def tick(seconds: int, width: int) -> str:
    """Write the beginning of a bucket of `width` seconds, as short as it can be told from the others."""
    text = moment(instant(seconds))
    return text[:10] if width % _DAY == 0 else text[5:16] if width % 60 == 0 else text[5:]


def span(seconds: int) -> str:
    """Write a number of seconds in the largest unit that holds it a whole number of times."""
    unit, name = next((unit, name) for unit, name in _UNITS if seconds % unit == 0)
    return f"1 {name}" if seconds == unit else f"{seconds // unit} {name}s"


def share(count: int, total: int) -> str:
    """Write a part of a whole in per cent."""
    return f"{100 * count / total:.1f} %" if total else ""
