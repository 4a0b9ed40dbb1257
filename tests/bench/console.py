"""The time to the first byte of each page of the console, with a million records.

    python -m tests.bench.console [--records N] [--rounds N] [--check]

A running sidecar answers over HTTP, each request on a connection of its own. Its journal and index have the records of the last
week that `tests.bench.index` makes up. CPU time is that of all processes of the sidecar while it answers.
"""

import argparse
import http.client
import os
import statistics
import sys
import time
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Final
from urllib.parse import urlencode

from msgspec import Struct
from rich.console import Console as Terminal
from rich.table import Table

from sidecar.core.settings.settings import Settings
from sidecar.journal.index import Search, open_index
from sidecar.journal.index.follower import IndexFollower
from sidecar.journal.index.keeping import locked
from tests.bench.index import WEEK, traffic, write_journal
from tests.daemon.http.console.browsing import OPERATOR, Console
from tests.journal.index.records import indexed
from tests.mta.processes import session_members, wait_until

BAR_MS: Final = 300.0
_TICKS: Final = os.sysconf("SC_CLK_TCK")
_PATIENCE: Final = 60.0
_READING_SECONDS: Final = 900.0


class Answers(Struct, frozen=True, kw_only=True):
    """The milliseconds to the first byte of each answer in order, the CPU time of one in ms, and the bytes of a page."""

    times: list[float]
    cpu: float
    size: int


def main() -> int:
    """Measure, print a table, and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--records", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=30, help="requests of each page")
    parser.add_argument("--check", action="store_true", help="exit with status 1 if a median is above the bar")
    wanted = parser.parse_args()
    console, found = Console(), dict[str, Answers]()
    console.settings += "[journal]\nkeep_age = 0\n"
    console.write()
    made = indexed(console.directory / "state")
    try:
        _fill(made, wanted.records)
        pages = _pages(made)
        console.start()
        cookie = _log_in(console)
        # The list of suppressed addresses reads the journal first.
        wait_until(lambda: _ask(console, cookie, "suppression", 1) is not None, "all is read", seconds=_READING_SECONDS)
        for name, path in pages.items():
            found[name] = _ask(console, cookie, path, wanted.rounds) or sys.exit(f"{path} is not answered")
    finally:
        console.__exit__(None, None, None)
    _show(found, wanted.records)
    return int(wanted.check and any(statistics.median(one.times) > BAR_MS for one in found.values()))


def _fill(made: Settings, number: int) -> None:
    """Write the journal of the last week, and its index."""
    now = time.time()
    write_journal(made, traffic(number, begin=now - WEEK), number)
    with locked(made), IndexFollower(made, clock=time.time) as follower:
        follower.build()


def _pages(made: Settings) -> Mapping[str, str]:
    """Return the address of each page by name; records and searches are for a record from the middle."""
    with closing(open_index(made)) as index:
        (some,) = index.search(Search(types=("OOB",), until=time.time() - WEEK / 2), limit=1).rows
    searches = {
        "address": some.recipients[0],
        "domain": some.recipients[0].partition("@")[2],
        "network": "91.16.0.0/20",
        "message id": some.message_id,
        "words": "user unknown mailbox",
        "nothing": "notaword",
    }
    parameters = {"network": "peer", "message id": "id", "words": "text", "nothing": "text"}
    return {
        **{f"overview, {name}": f"?range={name}" for name in ("1h", "24h", "7d")},
        "live": "live",
        "search, the newest": "search",
        **{f"search, {name}": f"search?{urlencode({parameters.get(name, name): text})}" for name, text in searches.items()},
        "record": f"record?key={some.key}",
        "explain": "explain?peer=203.0.113.9&from=&to=x@bounce.example",
        "what if": "trial",
        "policy": "policy",
        "warnings": "policy/warnings",
        "suppression": "suppression",
        "nodes, without [fleet]": "nodes",
    }


def _log_in(console: Console) -> str:
    """Return the cookie of a session."""
    headers = {"Content-Type": "application/x-www-form-urlencoded", "Origin": console.address_of_pages}
    with closing(_connect(console)) as connection:
        connection.request("POST", "/console/login", urlencode({"token": OPERATOR}), headers)
        return str(connection.getresponse().headers["Set-Cookie"]).partition(";")[0]


def _connect(console: Console) -> http.client.HTTPConnection:
    return http.client.HTTPConnection("127.0.0.1", console.port, timeout=_PATIENCE)


def _ask(console: Console, cookie: str, path: str, rounds: int) -> Answers | None:
    """Ask for a page so many times. Return None if one answer is not the page."""
    times, size, before = list[float](), 0, _cpu_seconds(console)
    for _ in range(rounds):
        began = time.perf_counter()
        with closing(_connect(console)) as connection:
            connection.request("GET", f"/console/{path}", headers={"Cookie": cookie})
            answer = connection.getresponse()
            times.append(1e3 * (time.perf_counter() - began))
            size = len(answer.read())
        if answer.status != http.client.OK:
            return None
    return Answers(times=times, cpu=1e3 * (_cpu_seconds(console) - before) / rounds, size=size)


def _cpu_seconds(console: Console) -> float:
    ticks = 0
    for process in session_members(console.pid):
        fields = Path(f"/proc/{process}/stat").read_text("ascii").rpartition(")")[2].split()
        ticks += sum(map(int, fields[11:13]))
    return ticks / _TICKS


def _show(found: Mapping[str, Answers], records: int) -> None:
    title = f"{records:,} records, {os.cpu_count()} CPUs, load average {os.getloadavg()[0]:.0f}; the bar is {BAR_MS:.0f} ms"
    table = Table("page", "first request, ms", "median", "95 %", "slowest", "CPU time, ms", "kB", title=title)
    for name, one in found.items():
        late = statistics.quantiles(one.times, n=20, method="inclusive")[-1]
        figures = (one.times[0], statistics.median(one.times), late, max(one.times), one.cpu)
        table.add_row(name, *(f"{figure:.1f}" for figure in figures), f"{one.size / 1000:.0f}")
    Terminal(width=110).print(table)


if __name__ == "__main__":
    sys.exit(main())
