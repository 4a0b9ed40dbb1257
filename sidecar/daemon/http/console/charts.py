"""Charts as SVG: bars over time, one piece for each series. A table beside each chart has the same figures."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Final

from msgspec import Struct

# The picture is stretched to its place; texts are outside of it.
WIDTH: Final = 1000
HEIGHT: Final = 200
_GAP: Final = 0.1
_LABELS: Final = 6
_STEPS: Final = (1, 2, 5)


class ChartPiece(Struct, frozen=True, kw_only=True):
    """A rectangle of a bar, with the class of its colour."""

    name: str
    x: float
    y: float
    width: float
    height: float


class Chart(Struct, frozen=True, kw_only=True):
    """Stacked bars: `rows` are the numbers at the left, from above, and `columns` the times below, evenly spaced."""

    pieces: list[ChartPiece]
    rows: list[str]
    columns: list[str]
    width: int = WIDTH
    height: int = HEIGHT


def bars(counts: Sequence[Mapping[str, int]], series: Sequence[str], *, since: int, until: int, label: str) -> Chart:
    """Return the bars of buckets from `since` to `until`, with the series from below in their order.

    `label` is the form of a time, as strftime has it.
    """
    most = _round_up(max((sum(one.values()) for one in counts), default=0))
    slot = WIDTH / max(1, len(counts))
    pieces: list[ChartPiece] = []
    for number, one in enumerate(counts):
        x, y = round((number + _GAP) * slot, 2), float(HEIGHT)
        for name in series:
            height = HEIGHT * one.get(name, 0) / most
            y -= height
            if height:
                width = round((1 - 2 * _GAP) * slot, 2)
                pieces.append(ChartPiece(name=name, x=x, y=round(y, 2), width=width, height=round(height, 2)))
    times = (since + (until - since) * part // _LABELS for part in range(_LABELS + 1))
    columns = [datetime.fromtimestamp(one, UTC).strftime(label) for one in times]
    return Chart(pieces=pieces, rows=[_short(most), _short(most // 2), "0"], columns=columns)


def _round_up(number: int) -> int:
    """Return the next even number of one digit and zeros: 2, 4, 10, 20, 40, 100."""
    power = 2
    while True:
        for step in _STEPS:
            if step * power >= number:
                return step * power
        power *= 10


def _short(number: int) -> str:
    for unit, name in ((1_000_000, "M"), (1000, "k")):
        if number >= unit:
            return f"{number / unit:g}{name}"
    return str(number)
