"""The cost of the suppression list at the milter, with millions of entries.

    python -m tests.bench.suppression [--entries N] [--rounds N] [--store hashed] [--folder FOLDER]

Look-ups are measured as a worker makes them, in nanoseconds of elapsed time. The rate is that of relay hosts' RCPT commands at
the milter protocol, of a running sidecar that checks recipients and of one without a list. Their bursts take turns, and each
ratio is of two bursts of the same round. `--folder` keeps the database for another run.
"""

import argparse
import contextlib
import random
import resource
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path

from rich.console import Console
from rich.table import Table

from sidecar.core.settings.settings import Settings
from sidecar.core.settings.suppression import SuppressionSettings
from sidecar.suppression.consumer import Consumer
from sidecar.suppression.filter import AddressFilter
from sidecar.suppression.filtering import filter_of
from sidecar.suppression.hashing import AddressHash
from sidecar.suppression.locking import locked
from sidecar.suppression.lookup import Lookup
from sidecar.suppression.opening import open_reader, open_store
from tests.bench.rivals import Running
from tests.mta.processes import wait_until
from tests.suppression.journals import list_of, with_list
from tests.wire.client import CONTINUE
from tests.wire.program import Program

_LOOKUPS = 20_000
_RCPTS = 400  # of one message
_MESSAGES = 10  # of one burst
_NOW = 1_790_000_000


def main() -> None:
    """Measure, and print tables."""
    wanted = _arguments()
    with contextlib.ExitStack() as stack:
        folder = wanted.folder.resolve() if wanted.folder else Path(stack.enter_context(tempfile.TemporaryDirectory()))
        made = with_list(folder, store=wanted.store, check="reject")
        if not list_of(made).database.exists():
            _fill(made, wanted.entries)
        shared = AddressFilter()
        print(f"{wanted.entries:,} entries, {wanted.store}")  # noqa: T201 - this is a program
        print(f"building the filter: {_build(made, shared):.1f} s of CPU time")  # noqa: T201
        _show("look-up, ns", _lookups(made, shared, wanted.entries))
        _show("RCPT", _rates(made, wanted.entries, wanted.rounds))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--entries", type=int, default=10_000_000)
    parser.add_argument("--rounds", type=int, default=25)
    parser.add_argument("--store", choices=["plain", "hashed"], default="plain")
    parser.add_argument("--folder", type=Path)
    return parser.parse_args()


def _address(number: int) -> str:
    return f"user{number:08}@domain{number % 50_000:05}.example"


def _fill(made: Settings, entries: int) -> None:
    """Write a database with so many entries."""
    listed = list_of(made)
    open_store(listed).close()
    spell: Callable[[str], str] = AddressHash.of(listed) or str
    rows = (
        (spell(_address(number)), "InvalidRecipient", "reports", _NOW - number % 10_000_000, f'["{number:032x}"]')
        for number in range(entries)
    )
    with closing(sqlite3.connect(listed.database, isolation_level=None)) as database:
        database.execute("PRAGMA journal_mode = OFF")
        database.execute("PRAGMA synchronous = OFF")
        database.execute("BEGIN")
        query = "INSERT INTO entry (address, reason, source, since, expires, reports) VALUES (?, ?, ?, ?, 0, ?)"
        database.executemany(query, rows)
        database.execute("COMMIT")


def _build(made: Settings, shared: AddressFilter) -> float:
    """Build the filter, as the process of the list does. Return the seconds of CPU time."""
    with locked(list_of(made)), Consumer(made, shared=shared) as consumer:
        began = time.process_time()
        while consumer.step_filter():
            pass
        return time.process_time() - began


def _lookups(made: Settings, shared: AddressFilter, entries: int) -> dict[str, list[float]]:
    """Return the times of a worker's look-ups, each of another address."""
    listed, lookup, chance = list_of(made), Lookup(shared), random.Random(1)  # noqa: S311 - repeatable
    assert lookup.find(listed, _address(1), _NOW) is not None
    present = [_address(chance.randrange(entries)) for _ in range(_LOOKUPS)]
    absent = [f"free{number}@free{number % 50_000}.example" for number in range(_LOOKUPS)]
    wrong = sum(lookup.may_have(listed, address) for address in absent)
    print(f"{wrong} of {_LOOKUPS:,} absent addresses need the database")  # noqa: T201
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    found = {
        "absent": _times(lambda address: lookup.may_have(listed, address), [f"x{one}" for one in absent]),
        "present": _times(lambda address: lookup.find(listed, address, _NOW), present),
    }
    print(f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before} KiB more memory")  # noqa: T201
    return found


def _times(ask: Callable[[str], object], addresses: Sequence[str]) -> list[float]:
    times = []
    for address in addresses:
        began = time.perf_counter_ns()
        ask(address)
        times.append(float(time.perf_counter_ns() - began))
    return times


def _rates(made: Settings, entries: int, rounds: int) -> dict[str, list[float]]:
    """Return the rates without a list and with one, their ratios, and the time of an answer to a suppressed recipient."""
    listed: SuppressionSettings = list_of(made)
    section = f'[suppression]\ndatabase = "{listed.database}"\nstore = "{listed.store}"\ncheck = "reject"'
    found: dict[str, list[float]] = {
        "without, 1/s": [],
        "with, 1/s": [],
        "ratio": [],
        "ratio of CPU time": [],
        "suppressed, us": [],
    }
    before = _filter(listed)
    with Program(settings=section) as checking, Program() as plain:
        wait_until(lambda: _filter(listed) != before, "the filter is built", seconds=900)
        number = 0
        for one in range(rounds + 1):
            bursts = {}
            for program in (checking, plain) if one % 2 else (plain, checking):
                number += _RCPTS * _MESSAGES
                bursts[program] = _burst(program, number)
            answer = _suppressed(checking, entries, one)
            if not one:
                continue  # the first messages of a process
            (with_time, with_cpu), (time_without, cpu_without) = bursts[checking], bursts[plain]
            found["without, 1/s"].append(_RCPTS * _MESSAGES / time_without)
            found["with, 1/s"].append(_RCPTS * _MESSAGES / with_time)
            found["ratio"].append(time_without / with_time)
            found["ratio of CPU time"].append(cpu_without / with_cpu)
            found["suppressed, us"].append(answer * 1e6)
    return found


def _filter(listed: SuppressionSettings) -> int:
    """Return the number of the newest filter of a list."""
    with open_reader(listed) as database:
        return filter_of(database)


def _burst(program: Program, first: int) -> tuple[float, float]:
    """Send messages of a relay host to addresses that are not on the list. Return the elapsed time and the CPU time."""
    running = Running("sidecar", pids=[program.pid, *program.workers()])
    cpu, began = running.cpu(), time.perf_counter()
    with program.mta() as mta:
        mta.begin(peer="127.0.0.1")
        for message in range(_MESSAGES):
            mta.mail(b"<news@sender.example>")
            for number in range(_RCPTS):
                at = first + message * _RCPTS + number
                assert mta.rcpt(b"<free%d@free%d.example>" % (at, at % 50_000)) == CONTINUE
            mta.abort()
    return time.perf_counter() - began, running.cpu() - cpu


def _suppressed(program: Program, entries: int, seed: int) -> float:
    """Return the median time of the answers to suppressed recipients."""
    chance, times = random.Random(seed), []  # noqa: S311 - repeatable
    with program.mta() as mta:
        mta.begin(peer="127.0.0.1")
        mta.mail(b"<news@sender.example>")
        for _ in range(200):
            recipient = f"<{_address(chance.randrange(entries))}>".encode()
            began = time.perf_counter()
            reply = mta.rcpt(recipient)
            assert reply.text.startswith("550"), (recipient, reply)
            times.append(time.perf_counter() - began)
    return statistics.median(times)


def _show(title: str, rows: dict[str, list[float]]) -> None:
    table = Table(title, "lower quartile", "median", "upper quartile")
    for name, values in rows.items():
        table.add_row(name, *_quartiles(values))
    Console().print(table)


def _quartiles(values: Sequence[float]) -> Iterator[str]:
    for value in statistics.quantiles(values, n=4):
        yield f"{value:,.2f}" if value < 100 else f"{value:,.0f}"


if __name__ == "__main__":
    main()
