"""The shared memory, from several processes."""

import os

from hypothesis import given
from hypothesis import strategies as st

from sidecar.daemon.metrics import BOUNDS, CELL, FAMILIES, Memory, Meter
from sidecar.daemon.metrics.memory import BLOCKS
from sidecar.daemon.metrics.series import CELLS, HISTOGRAM_CELLS

STEP = CELL["answer_seconds", "rcpt"]
FAULTS, SESSIONS = CELL["faults",], CELL["sessions",]


def in_a_child(work: object) -> None:
    pid = os.fork()
    if pid == 0:
        try:
            assert callable(work)
            work()
        finally:
            os._exit(0)
    os.waitpid(pid, 0)


def test_all_processes_see_what_a_forked_process_counts() -> None:
    """The counts of several processes have one sum."""
    memory = Memory()
    for number in range(3):
        meter = Meter(memory.block(memory.free(range(number))))
        in_a_child(lambda meter=meter, number=number: meter.add(FAULTS, number + 1))
    assert memory.totals()[FAULTS] == memory.total("faults") == 6


def test_a_worker_continues_the_counts_of_a_dead_one() -> None:
    """A count never goes down; what was in progress ended with the process."""
    memory = Memory()
    number = memory.free([])
    first = Meter(memory.block(number))
    first.add(FAULTS, 5)
    first.add(SESSIONS, 7)
    assert memory.free([]) == number
    Meter(memory.block(number)).add(FAULTS)
    assert (memory.totals()[FAULTS], memory.totals()[SESSIONS]) == (6, 0)


def test_when_all_blocks_are_used_the_last_is_shared() -> None:
    """The worker starts in any case."""
    memory = Memory()
    assert memory.free(range(BLOCKS - 1)) == BLOCKS - 1
    assert memory.free(range(BLOCKS)) == BLOCKS - 1
    memory.block(BLOCKS - 1)[CELLS - 1] = 3
    assert memory.totals()[-1] == 3


def test_no_worker_counts_in_the_block_of_the_supervisor() -> None:
    memory = Memory()
    memory.publish({("workers", "ready"): 2})
    memory.block(memory.free([]))[CELL["workers", "ready"]] = 1
    assert (memory.published("workers", "ready"), memory.totals()[CELL["workers", "ready"]]) == (2, 3)


def test_the_last_write_is_the_latest_of_all_workers() -> None:
    memory = Memory()
    last = CELL["journal_last_write_timestamp_seconds",]
    for number, when in ((1, 30), (2, 50), (3, 40)):
        memory.block(memory.free(range(number)))[last] = when
    assert memory.totals()[last] == 50


def test_no_cell_has_two_names() -> None:
    sizes = {
        (family.name, *values): HISTOGRAM_CELLS if family.kind == "histogram" else 1
        for family in FAMILIES
        for values in family.values
    }
    cells = [cell for name, size in sizes.items() for cell in range(CELL[name], CELL[name] + size)]
    assert sorted(cells) == list(range(CELLS))


@given(st.lists(st.integers(0, 20_000_000_000), max_size=20))
def test_each_time_is_in_the_first_bucket_that_holds_it(times: list[int]) -> None:
    """The sum of all times is correct too."""
    memory = Memory()
    meter = Meter(memory.block(memory.free([])))
    for took in times:
        meter.observe(STEP, took)
    *buckets, nanoseconds = memory.totals()[STEP : STEP + HISTOGRAM_CELLS]
    assert nanoseconds == sum(times)
    for index, bound in enumerate(BOUNDS):
        assert sum(buckets[: index + 1]) == sum(took <= round(bound * 1e9) for took in times)
    assert sum(buckets) == len(times)
