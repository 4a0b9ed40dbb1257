"""The benchmark of sizes works, and what must not grow with the size does not. Nothing is timed."""

from pathlib import Path

import pytest

from tests.bench.sizes import relay_host, reports


def test_memory_of_a_report(tmp_path: Path) -> None:
    """Reading a report takes some copies of it at its peak, however long it is: nothing in it is multiplied."""
    costs = reports(tmp_path, sizes=(0, 300_000, 1_200_000), rounds=1)
    assert [cost.size > size for cost, size in zip(costs, (0, 300_000, 1_200_000), strict=True)] == [True] * 3
    assert all(cost.peak < 6 * cost.size + 100_000 for cost in costs)


@pytest.mark.mta
def test_relay_host() -> None:
    """The workers read as much of the MTA for a long message as for a short one: its envelope."""
    short, long = relay_host((3_000, 3_000_000), messages=50, pace=0.0)
    assert min(short.microseconds, long.microseconds) > 0
    assert long.read < short.read * 1.1 < 2000
