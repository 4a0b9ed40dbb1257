"""This checkout beside another one: short rounds of each scenario in turn, behind Postfix, on the direct engine.

Owns how the two take turns, and the ratios. Never prints.
"""

import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from statistics import median, quantiles
from typing import NamedTuple

from tests.bench.behind import Stand, send, stand
from tests.bench.rivals import ROOT, children
from tests.bench.scenarios import Scenario
from tests.mta.places import private_directory


class Turn(NamedTuple):
    """One turn of one checkout: messages a second, and the workers' CPU time for a message in seconds."""

    rate: float
    cpu: float


class Pair(NamedTuple):
    """The turns of one round."""

    old: Turn
    new: Turn


def compare(
    other: Path,
    scenarios: Sequence[Scenario],
    programs: Path,
    *,
    rounds: int,
    messages: int,
    connections: int,
    workers: int = 2,
    domains: int = 10,
) -> list[Pair]:
    """Run both checkouts at once, and send through one after the other; `old` is the other one."""
    with ExitStack() as stack:
        old, new = (
            stack.enter_context(
                stand(
                    "direct",
                    scenarios,
                    stack.enter_context(private_directory()) / "stand",
                    programs,
                    connections=connections,
                    workers=workers,
                    domains=domains,
                    checkout=checkout,
                )
            )
            for checkout in (other, ROOT)
        )
        pairs = []
        for number in range(rounds):
            # Each goes first in every other round.
            if number % 2:
                later = _turn(new, messages)
                pairs.append(Pair(_turn(old, messages), later))
            else:
                pairs.append(Pair(_turn(old, messages), _turn(new, messages)))
        return pairs


def ratios(figures: Sequence[tuple[float, float]]) -> str:
    """Return the median of new / old with its quartiles."""
    found = [new / old for old, new in figures if old]
    if len(found) < 2:
        return f"{median(found):.3f}" if found else "-"
    first, _, third = quantiles(found, n=4, method="inclusive")
    return f"{median(found):.3f} ({first:.3f} to {third:.3f})"


def _turn(where: Stand, messages: int) -> Turn:
    before = _cpu(where.pid)
    seconds = send(where.loads, messages=messages)
    return Turn(rate=messages / seconds, cpu=(_cpu(where.pid) - before) / messages)


def _cpu(supervisor: int) -> float:
    """Return the seconds of CPU time that the workers have had (clock_getcpuclockid(3): the clock of another process)."""
    return sum(time.clock_gettime((~int(pid) << 3) | 2) for pid in children(supervisor))
