"""The shared memory, as several processes see it."""

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.daemon.metrics import BOUNDS, CELL, VERDICTS, Memory, Meter
from sidecar.daemon.metrics.memory import BLOCKS
from sidecar.daemon.metrics.series import CELLS

STEP = CELL["step", "rcpt"]


def in_a_child(work: object) -> None:
    pid = os.fork()
    if pid == 0:
        try:
            assert callable(work)
            work()
        finally:
            os._exit(0)
    os.waitpid(pid, 0)


def test_what_a_forked_process_counts_is_seen_by_all() -> None:
    """And what several count is one sum."""
    memory = Memory()
    for number in range(3):
        meter = Meter(memory.block(memory.free(range(number))))
        in_a_child(lambda meter=meter, number=number: meter.add(CELL["plain", "faults"], number + 1))
    assert memory.totals().of("plain", "faults") == 6


def test_a_worker_goes_on_where_a_dead_one_left() -> None:
    """Counts never go down; what is in hand ended with the process that had it."""
    memory = Memory()
    number = memory.free([])
    first = Meter(memory.block(number))
    first.add(CELL["plain", "faults"], 5)
    first.add(CELL["gauge", "sessions"], 7)
    assert memory.free([]) == number
    Meter(memory.block(number)).add(CELL["plain", "faults"])
    assert (memory.totals().of("plain", "faults"), memory.totals().of("gauge", "sessions")) == (6, 0)


def test_when_all_blocks_are_taken_the_last_is_shared() -> None:
    """Rather that than a worker that does not start."""
    memory = Memory()
    assert memory.free(range(BLOCKS - 1)) == BLOCKS - 1
    assert memory.free(range(BLOCKS)) == BLOCKS - 1
    memory.block(BLOCKS - 1)[CELLS - 1] = 3
    assert memory.totals().cells[-1] == 3


def test_every_name_has_cells_of_its_own() -> None:
    """Nothing is counted as something else."""
    first = sorted(CELL.values())
    assert len(first) == len(set(first))
    assert len({CELL["verdict", *verdict] for verdict in VERDICTS}) == len(VERDICTS)


@given(st.lists(st.integers(0, 20_000_000_000), max_size=20))
def test_each_time_is_in_the_first_bucket_that_holds_it(times: list[int]) -> None:
    """And their sum is kept."""
    memory = Memory()
    meter = Meter(memory.block(memory.free([])))
    for took in times:
        meter.observe(STEP, took)
    found = memory.totals().histogram("step", "rcpt")
    assert found.seconds == pytest.approx(sum(times) / 1e9)
    for index, bound in enumerate(BOUNDS):
        assert sum(found.buckets[: index + 1]) == sum(took <= round(bound * 1e9) for took in times)
    assert sum(found.buckets) == len(times)
