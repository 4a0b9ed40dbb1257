"""Forms of reports by reporter: bounded, over all workers, and exact in their sum."""

import threading

import pytest

from sidecar.core.session.verdicts import Outcome
from sidecar.daemon.metrics import Memory, Meter
from sidecar.daemon.metrics.reporters import EXPOSED, SLOTS
from sidecar.daemon.metrics.series import OTHER
from tests.building import entry, settings
from tests.core.session.driving import BROKEN, OOB
from tests.core.session.test_text import BOUNCE, DROP, last

ITS = settings((entry("bounce.example.com", log_oob="LogThenDrop"),))


def totals(memory: Memory) -> dict[tuple[str, str], int]:
    return {(name, form): count for name, form, count in memory.reporter_totals() if count}


def outcome(message: bytes) -> Outcome:
    return last(message, DROP, its=ITS)


def worker(memory: Memory, number: int) -> Meter:
    return Meter(memory.block(number), memory.reporters(number))


def test_the_meter_counts_reports_of_all_forms() -> None:
    """By the domain of the reporting host, from all workers; what could not be parsed is that of HELO."""
    memory = Memory()
    first, second = (worker(memory, memory.free(range(number))) for number in (1, 2))
    for meter in (first, second):
        for message in (OOB, BOUNCE, BROKEN, BROKEN):
            meter.judged(outcome(message))
    assert totals(memory) == {
        ("example.net", "complete"): 2,
        ("remote.example", "derived"): 2,
        ("example.net", "unparsable"): 4,
    }


def test_a_new_worker_continues_the_counts_of_its_block() -> None:
    """A total does not go down when a worker dies."""
    memory = Memory()
    number = memory.free([])
    worker(memory, number).judged(outcome(OOB))
    worker(memory, number).judged(outcome(OOB))
    assert totals(memory) == {("example.net", "complete"): 2}


@pytest.mark.parametrize("name", ["", OTHER, f"{'a' * 60}.example"])
def test_what_is_no_name_is_one_of_the_others(name: str) -> None:
    """Also a name that is too long."""
    memory = Memory()
    memory.reporters(memory.free([])).add(name, "lost")
    assert totals(memory) == {(OTHER, "lost"): 1}


def test_a_flood_of_names_displaces_the_rare_ones() -> None:
    """The frequent ones stay, the sum is exact, and the output is bounded."""
    memory = Memory()
    for number in range(1, 5):
        reporters = memory.reporters(memory.free(range(number)))
        for turn in range(500):
            reporters.add("frequent.example", "complete")
            reporters.add(f"r{number}-{turn}.example", "lost")
    found = totals(memory)
    assert found["frequent.example", "complete"] == 2000
    assert sum(found.values()) == 4000
    assert len({name for name, _ in found}) == EXPOSED + 1 < 4 * SLOTS


def test_threads_lose_no_count() -> None:
    """A large report is read in another thread than the others."""
    memory = Memory()
    reporters = memory.reporters(memory.free([]))

    def add(number: int) -> None:
        for turn in range(2000):
            reporters.add(f"r{(turn * number) % 50}.example", "derived")

    threads = [threading.Thread(target=add, args=(number,)) for number in range(1, 4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(totals(memory).values()) == 6000
