"""The tables and targets of `make bench`, from its raw figures. Never measures."""

from collections.abc import Iterator, Sequence
from statistics import median, quantiles
from typing import NamedTuple

from tests.bench.rivals import BEST_C, DIRECT, FILTERS, NO_MILTER, PLAIN_C, PYMILTER
from tests.bench.scenarios import BOUNCE, COMPLAINT, REJECTED_LATE, REJECTED_RCPT, RELAY, RELAY_LONG
from tests.bench.stand import Round


class Row(NamedTuple):
    """A row of the table, with the rounds that were measured."""

    name: str
    connections: int
    rounds: Sequence[Round]


class Target(NamedTuple):
    """The rate of the sidecar is to be at least this share of the rival's rate."""

    row: str
    connections: int
    rival: str
    least: float


TARGETS = (
    *(Target(relay.name, connections, NO_MILTER, 0.82) for relay in (RELAY, RELAY_LONG) for connections in (10, 40)),
    *(
        Target(relay.name, connections, name, 1.0)
        for relay in (RELAY, RELAY_LONG)
        for connections in (10, 40)
        for name in FILTERS
    ),
    Target(BOUNCE.name, 10, PYMILTER, 0.82),
    Target(COMPLAINT.name, 10, PYMILTER, 0.90),
    Target(BOUNCE.name, 40, BEST_C, 0.80),
    # The ratios that README.md stated before this measurement, for the rows without a target above.
    Target(RELAY_LONG.name, 10, PLAIN_C, 1.26),
    Target(RELAY_LONG.name, 10, BEST_C, 0.93),
    Target(REJECTED_RCPT.name, 10, PLAIN_C, 3.66),
    Target(REJECTED_RCPT.name, 10, BEST_C, 0.91),
    Target(REJECTED_LATE.name, 10, PLAIN_C, 1.41),
    Target(REJECTED_LATE.name, 10, BEST_C, 0.84),
    Target("all mixed", 10, PLAIN_C, 1.25),
    Target("all mixed", 10, BEST_C, 0.99),
)


class Quartiles(NamedTuple):
    """The median of some ratios with the lower and upper quartile."""

    lower: float
    middle: float
    upper: float

    def __str__(self) -> str:
        return f"{self.middle:.2f} ({self.lower:.2f}-{self.upper:.2f})"


def rate_ratio(rounds: Sequence[Round], rival: str) -> Quartiles:
    """Return the rate of the sidecar on its direct engine divided by the rival's rate in the same round."""
    ratios = [one[rival].time / one[DIRECT].time for one in rounds]
    lower, middle, upper = quantiles(ratios, n=4, method="inclusive") if len(ratios) > 1 else ratios * 3
    return Quartiles(lower, middle, upper)


def markdown(rows: Sequence[Row]) -> str:
    """Return all tables: the ratios of the rates, the CPU time of a message, and which targets are met."""
    found = [name for row in rows for name in row.rounds[0]]
    names = [name for name in dict.fromkeys(found) if name != DIRECT]
    rates = [
        [_title(row), *(str(rate_ratio(row.rounds, name)) if name in row.rounds[0] else "" for name in names)] for row in rows
    ]
    with_cpu = [DIRECT, *(name for name in names if any(row.rounds[0][name].cpu for row in rows if name in row.rounds[0]))]
    cpu = [[_title(row), *(_cpu(row, name) for name in with_cpu)] for row in rows]
    return "\n".join(
        (
            "Messages/s of the sidecar (direct) divided by those of each rival: median of the rounds (lower-upper quartile).\n",
            _table(["", *names], rates),
            "CPU time of the milter's processes for a message, in us: median of the rounds.\n",
            _table(["", *with_cpu], cpu),
            "Targets: the least ratio that the median must reach.\n",
            _table(["", "rival", "target", "measured", ""], [list(result) for result in _results(rows)]),
        )
    )


def missed(rows: Sequence[Row]) -> int:
    """Return how many targets of these rows are missed."""
    return sum(result[-1] == "missed" for result in _results(rows))


def _results(rows: Sequence[Row]) -> Iterator[tuple[str, ...]]:
    measured = {(row.name, row.connections, name): row for row in rows if DIRECT in row.rounds[0] for name in row.rounds[0]}
    for target in TARGETS:
        if row := measured.get((target.row, target.connections, target.rival)):
            ratio = rate_ratio(row.rounds, target.rival)
            met = "met" if ratio.middle >= target.least else "missed"
            yield _title(row), target.rival, f"{target.least:.2f}", str(ratio), met


def _title(row: Row) -> str:
    return f"{row.name}, {row.connections} connections"


def _cpu(row: Row, name: str) -> str:
    return f"{median(one[name].cpu for one in row.rounds) * 1e6:,.0f}" if name in row.rounds[0] else ""


def _table(header: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    return "".join(f"| {' | '.join(cells)} |\n" for cells in (header, ["---"] * len(header), *lines))
