"""The first page: what happened in an hour, a day or a week, by which reasons and peers, and whether all is well."""

import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Final
from urllib.parse import urlencode

from msgspec import Struct
from starlette.requests import Request
from starlette.responses import Response

from sidecar.core.disposition import Disposition
from sidecar.core.records.reason import common_words
from sidecar.core.text import counted, in_time, in_units
from sidecar.daemon.http.console.charts import bars
from sidecar.daemon.http.console.frame import FormView, Frame, Parts, View
from sidecar.daemon.http.console.search import SEARCH, TEXT_LIMIT
from sidecar.daemon.metrics import Memory
from sidecar.daemon.process.status import Status, in_words
from sidecar.journal.index import Bucket, Dimension, Index, Position, TopValues

HOME: Final = "/console/"
_TOP: Final = 8
# The rankings of a range are asked again after so many times the CPU time that they need: they cost 1 % of a CPU at most.
_KEPT_FOR: Final = 100
# The index has the first 64 words of a reason, also those that differ in each record.
_WORDS: Final = 32
# The index reads the journal several times in a second.
_LATE_SECONDS: Final = 60.0
_SERIES: Final = tuple(one.value for one in Disposition)


class Range(Struct, frozen=True, kw_only=True):
    """A range that can be chosen: its length, that of a bar, and how the time of a bar is written."""

    name: str
    words: str
    seconds: int
    step: int
    label: str


RANGES: Final = (
    Range(name="1h", words="1 hour", seconds=3600, step=300, label="%H:%M"),
    Range(name="24h", words="24 hours", seconds=24 * 3600, step=1800, label="%H:%M"),
    Range(name="7d", words="7 days", seconds=7 * 24 * 3600, step=3 * 3600, label="%m-%d %H:%M"),
)


class TopTable(Struct, frozen=True, kw_only=True):
    """The most frequent values of a dimension, each with the address of a search for its records, or none."""

    title: str
    heading: str
    values: list[tuple[str, int, str | None]]
    others: int
    total: int


class Fact(Struct, frozen=True, kw_only=True):
    """One fact about the health, and the page that explains it."""

    name: str
    text: str
    level: str
    link: str | None = None


class Figures(Struct, frozen=True, kw_only=True):
    """What the index has of a range."""

    buckets: tuple[Bucket, ...]
    tops: Mapping[Dimension, TopValues]
    position: Position


# The dimension, its title, and its column.
_RANKINGS: Final[tuple[tuple[Dimension, str, str], ...]] = (
    ("reason", "Rejections by reason", "Reason"),
    ("peer", "Peers", "Peer"),
    ("domain", "Recipient domains", "Domain"),
    ("reporter", "Reporters", "Reporter"),
    ("bounce_class", "Bounce classes", "Class"),
    ("feedback_type", "Complaints", "Type"),
)


class KeptTops(Struct, frozen=True, kw_only=True):
    """The rankings of a range, and until when they are shown, as time.monotonic has it."""

    since: int
    until: int
    tops: Mapping[Dimension, TopValues]
    fresh_until: float


class OverviewPage:
    """The overview."""

    def __init__(self, frame: Frame, parts: Parts) -> None:
        self._frame = frame
        self._index = parts.index
        self._memory = parts.memory
        self._kept: dict[str, KeptTops] = {}
        self.views: dict[str, View] = {HOME: self.show}
        self.forms: dict[str, FormView] = {}

    async def show(self, request: Request) -> Response:
        """Answer with the figures of a range."""
        name = request.query_params.get("range", "24h")
        chosen = next((one for one in RANGES if one.name == name), RANGES[1])
        now = time.time()
        until = (int(now) // chosen.step + 1) * chosen.step
        since = until - chosen.seconds
        found = await self._index.ask(lambda index: self._figures(index, chosen, since, until))
        counts = [one.counts for one in found.buckets]
        series = [name for name in _SERIES if any(one.get(name) for one in counts)]
        totals = {name: sum(one.get(name, 0) for one in counts) for name in series}
        verified = found.tops["verified"]
        return self._frame.show(
            request,
            "overview.html",
            ranges=RANGES,
            chosen=chosen,
            chart=bars(counts, series, since=since, until=until, label=chosen.label),
            series=series,
            buckets=found.buckets,
            totals=totals,
            all=sum(totals.values()),
            rankings=list(_rankings(found.tops, since)),
            verified=dict(verified.values),
            reports=verified.total,
            facts=list(_facts(self._frame.status(), self._memory, found.position, now)),
            since=since,
            search=SEARCH,
        )

    def _figures(self, index: Index, chosen: Range, since: int, until: int) -> Figures:
        buckets = index.totals(since=since, until=until, step=chosen.step)
        return Figures(buckets=buckets, tops=self._tops(index, chosen, since, until), position=index.position())

    def _tops(self, index: Index, chosen: Range, since: int, until: int) -> Mapping[Dimension, TopValues]:
        kept = self._kept.get(chosen.name)
        if kept is not None and (kept.since, kept.until) == (since, until) and time.monotonic() < kept.fresh_until:
            return kept.tops
        began = time.thread_time()
        dimensions: Sequence[Dimension] = [*(one[0] for one in _RANKINGS), "verified"]
        tops = {one: index.top(one, since=since, until=until, limit=_TOP) for one in dimensions}
        fresh_until = time.monotonic() + _KEPT_FOR * (time.thread_time() - began)
        self._kept[chosen.name] = KeptTops(since=since, until=until, tops=tops, fresh_until=fresh_until)
        return tops


def _rankings(tops: Mapping[Dimension, TopValues], since: int) -> Iterator[TopTable]:
    for dimension, title, heading in _RANKINGS:
        found = tops[dimension]
        values = [(value, count, _search_for(dimension, value, since)) for value, count in found.values]
        yield TopTable(title=title, heading=heading, values=values, others=found.others, total=found.total)


def _search_for(dimension: Dimension, value: str, since: int) -> str | None:
    """Return the address of a search for the records with a value. Those with a reason have its words."""
    query: dict[str, str] = {dimension: value}
    if dimension == "reason":
        words = common_words(value).split()[:_WORDS]
        if not words:
            return None
        query = {"type": "Rejection", "text": " ".join(words)[:TEXT_LIMIT]}
    return f"{SEARCH}?{urlencode({**query, 'since': str(since)})}"


def _facts(status: Status | None, memory: Memory, position: Position, now: float) -> Iterator[Fact]:
    ready, wanted = memory.published("workers", "ready"), memory.published("workers", "wanted")
    text = f"{ready} of {counted(wanted, 'worker')} accept mail"
    yield Fact(name="Workers", text=text, level="good" if 0 < ready >= wanted else "bad")
    if status is not None:
        yield from _published(status)
    late = now - position.caught_up
    text = "up to date" if late < _LATE_SECONDS else f"{in_time(int(late))} behind" if position.caught_up else "being made"
    yield Fact(name="Index of the records", text=text, level="good" if late < _LATE_SECONDS else "warn")


def _published(status: Status) -> Iterator[Fact]:
    if status.restarts:
        yield Fact(name="Restarts", text=f"{counted(status.restarts, 'worker')} died while serving", level="bad")
    if (disk := status.disk) is not None:
        left = "" if disk.seconds_left is None else f", full in {in_time(disk.seconds_left)} at the current rate"
        text = in_words(disk) if disk.low else f"{in_units(disk.free)} free{left}"
        yield Fact(name="Disk of the journal", text=text, level="bad" if disk.low else "good")
    reload, policy = status.last_reload, "/console/policy"
    if reload is not None and reload.problems:
        yield Fact(name="Last reload", text=f"failed: {reload.problems[0]}", level="bad", link=policy)
    if status.needs_restart:
        yield Fact(name="Needs a restart", text=", ".join(status.needs_restart), level="warn", link=policy)
    if (listed := status.suppression) is not None:
        text = "readable" if listed.readable else str(listed.problem)
        yield Fact(name="Suppression list", text=text, level="good" if listed.readable else "bad", link="/console/suppression")
