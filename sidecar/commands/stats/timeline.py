"""Counts over a time of unknown length. Owns the width of the buckets. Never reads a clock."""

from collections import defaultdict

from msgspec import Struct

BUCKETS = 120
"""The limit of a timeline: a wide terminal can show as many."""

# The widths while counting: each is a multiple of the one before.
_KEPT = (1, 60, 3600, 86400, 7 * 86400)
_ROOM = 50_000
_SHOWN = tuple(
    [1, 2, 5, 10, 15, 30]
    + [60 * minutes for minutes in (1, 2, 5, 10, 15, 30)]
    + [3600 * hours for hours in (1, 2, 3, 6, 12)]
    + [86400 * days for days in (1, 2, 7, 14, 28, 91, 182, 364, 728, 3640)]
)
# The first Monday of 1970, so that weeks begin on Mondays; a whole number of days, so that days begin at midnight (UTC).
_ORIGIN = 4 * 86400


class Timeline(Struct, frozen=True, kw_only=True):
    """Counts by record type in buckets of `seconds`. The first begins at `start` (seconds since 1970)."""

    start: int
    seconds: int
    series: dict[str, list[int]]

    @property
    def end(self) -> int:
        """The end of the last bucket."""
        return self.start + self.seconds * max(map(len, self.series.values()), default=0)


class Clockwork:
    """Counts by type and time, in bounded memory: it gives up seconds first, then minutes, and so on."""

    def __init__(self, room: int = _ROOM) -> None:
        self._room = room
        self._width = _KEPT[0]
        self._series: defaultdict[str, dict[int, int]] = defaultdict(dict)
        self.first: int | None = None
        self.last: int | None = None

    def add(self, kind: str, when: int, count: int) -> None:
        """Count records of a type at `when`, in seconds since 1970."""
        if self.first is None or when < self.first:
            self.first = when
        if self.last is None or when > self.last:
            self.last = when
        series = self._series[kind]
        bucket = (when - _ORIGIN) // self._width
        if bucket in series:
            series[bucket] += count
            return
        series[bucket] = count
        if len(series) > self._room:
            self._coarsen()

    def _coarsen(self) -> None:
        wider = next((width for width in _KEPT if width > self._width), None)
        if wider is None:
            return  # 50,000 weeks are 958 years
        for kind, series in self._series.items():
            self._series[kind] = _merged(series, wider // self._width)
        self._width = wider

    def timeline(self, since: int | None = None, until: int | None = None) -> Timeline | None:
        """Return the counts from `since` to `until`, by default from the first to the last, or None without any."""
        if self.first is None or self.last is None:
            return None
        begin = self.first if since is None else min(since, self.first)
        end = self.last + 1 if until is None else max(until, self.last + 1)
        for width in (width for width in _SHOWN if width % self._width == 0):
            first, last = (begin - _ORIGIN) // width, (end - 1 - _ORIGIN) // width
            if last - first < BUCKETS:
                break
        series = {kind: _merged(counts, width // self._width) for kind, counts in self._series.items()}
        buckets = range(first, last + 1)
        return Timeline(
            start=first * width + _ORIGIN,
            seconds=width,
            series={kind: [counts.get(bucket, 0) for bucket in buckets] for kind, counts in series.items()},
        )


def _merged(counts: dict[int, int], step: int) -> dict[int, int]:
    merged: dict[int, int] = {}
    for bucket, count in counts.items():
        merged[bucket // step] = merged.get(bucket // step, 0) + count
    return merged
