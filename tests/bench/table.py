"""The cost of a million listener domains: to load, to look up, in memory, and during a reload.

    python -m tests.bench.table [--domains N] [--workers N ...] [--keep FILE]

Loading and look-ups are measured in a new process each, memory and reloads on a running sidecar. Times are the best of
several, because other load on the machine can only make them longer.
"""

import argparse
import json
import multiprocessing
import random
import resource
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from sidecar.config import Reading
from sidecar.core.policy import compile_policy
from sidecar.core.settings.values import ANY_LISTENER
from tests.bench.rivals import children
from tests.faults.reloads import reload_under_load
from tests.mta.processes import wait_until
from tests.wire.program import Program

_ROUNDS = 5
_BATCH = 1000
_RECIPIENTS = 500  # in one session
_CUSTOMERS = 1000

# Ten kinds of entries, in turn.
_SHAPES: tuple[dict[str, Any], ...] = (
    *[{"log_oob": "LogThenDrop"}] * 6,
    *[{"log_oob": "LogThenDrop", "log_arf": "LogThenDrop"}] * 2,
    {"relay_to": True},
    {"relay_from": ["10.0.0.0/24"], "log_oob": True},
)


def main() -> None:
    """Measure, print tables, keep the figures."""
    wanted = _arguments()
    figures: dict[str, Any] = {"domains": wanted.domains}
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        for ending, write in (("json", _as_json), ("toml", _as_toml)):
            (folder / f"d.{ending}").write_text(write(wanted.domains))
            (folder / f"{ending}.toml").write_text(f'listener_domains = ["d.{ending}"]\n')
            figures[ending] = _apart(_load, folder / f"{ending}.toml")
        figures["lookups"] = _apart(_lookups, folder / "toml.toml", wanted.domains, wanted.lookups)
        domains = (folder / "d.toml").read_text()
        figures["memory"] = [_memory(domains, wanted.domains, workers, wanted.lookups) for workers in wanted.workers]
    if wanted.reloads:
        report = reload_under_load(wanted.reloads, more_domains=wanted.domains)
        figures["reloads"] = {
            "longest": report.longest,
            "longest_in_peace": report.longest_in_peace,
            "wrong": sum(map(len, report.wrong.values())),
        }
    _print(figures)
    if wanted.keep is not None:
        wanted.keep.write_text(json.dumps(figures) + "\n")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--domains", type=int, default=1_000_000)
    parser.add_argument("--lookups", type=int, default=100_000, help="of each kind")
    parser.add_argument("--workers", type=int, nargs="+", default=[2, 8])
    parser.add_argument("--reloads", type=int, default=2)
    parser.add_argument("--keep", type=Path, help="a file for the figures, as JSON")
    return parser.parse_args()


def _apart(measure: Callable[..., Any], *arguments: Any) -> Any:
    """Measure in a new process, so that nothing earlier counts."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as one:
        return one.submit(measure, *arguments).result()


def _names(count: int) -> Iterator[str]:
    """Return names such as those of a provider's customers: every seventh one is a wildcard."""
    return (f"{'*.w' if index % 7 == 0 else 'd'}{index}.customer-{index % _CUSTOMERS}.example" for index in range(count))


def _shapes(count: int) -> Iterator[tuple[str, dict[str, Any]]]:
    return ((name, _SHAPES[index % len(_SHAPES)]) for index, name in enumerate(_names(count)))


def _as_json(count: int) -> str:
    return json.dumps(dict(_shapes(count)), indent=2)


def _as_toml(count: int) -> str:
    return "".join(
        f'["{name}"]\n' + "".join(f"{key} = {json.dumps(value)}\n" for key, value in shape.items())
        for name, shape in _shapes(count)
    )


def _load(config: Path) -> dict[str, float]:
    """Return the seconds until the settings are usable (the best of three) and for the warnings, and the peak of memory."""
    times = []
    for _ in range(3):
        began = time.perf_counter()
        reading = Reading(config)
        times.append(time.perf_counter() - began)
        assert reading.loaded.settings is not None
    began = time.perf_counter()
    reading.warnings()
    warnings = time.perf_counter() - began
    return {"seconds": min(times), "warnings": warnings, "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}


def _lookups(config: Path, count: int, lookups: int) -> dict[str, float]:
    """Return the microseconds of a look-up, by kind of name, over names from all parts of the table."""
    settings = Reading(config).loaded.settings
    assert settings is not None
    lookup = compile_policy(settings).lookup
    numbers = random.Random(1)  # noqa: S311 - no secret

    def any_of(every: int, plus: int = 0) -> int:
        return numbers.randrange(count // every) * every + plus

    kinds: dict[str, Callable[[], str]] = {
        "listed": lambda: f"d{(index := any_of(7, 1))}.customer-{index % _CUSTOMERS}.example",
        "below a wildcard, 4 labels": lambda: f"a.w{(index := any_of(7))}.customer-{index % _CUSTOMERS}.example",
        "below a wildcard, 6 labels": lambda: f"a.b.c.w{(index := any_of(7))}.customer-{index % _CUSTOMERS}.example",
        "not listed, 3 labels": lambda: f"mail.x{any_of(1)}.com",
        "not listed, 6 labels": lambda: f"a.b.c.mail.x{any_of(1)}.com",
        "not listed, 6 labels, beside listed ones": lambda: (
            f"a.b.c.x{(index := any_of(1))}.customer-{index % _CUSTOMERS}.example"
        ),
    }
    figures = {kind: _best(lookup, [make() for _ in range(lookups)]) for kind, make in kinds.items()}
    return figures | {
        "listed, the same few": _best(lookup, ["d1.customer-1.example", "d2.customer-2.example"] * (lookups // 2))
    }


def _best(lookup: Callable[[str, str], object], names: list[str]) -> float:
    """Return the time of a look-up in the best round. As in sessions, the names are new strings."""
    best = float("inf")
    for _ in range(_ROUNDS):
        spent = 0.0
        for start in range(0, len(names), _BATCH):
            fresh = [name[:1] + name[1:] for name in names[start : start + _BATCH]]
            began = time.perf_counter()
            for name in fresh:
                lookup(ANY_LISTENER, name)
            spent += time.perf_counter() - began
        best = min(best, spent)
    return best / len(names) * 1e6


def _memory(domains: str, count: int, workers: int, lookups: int) -> dict[str, Any]:
    """Let a sidecar look up names from all parts of the table; return the PSS in MB of the supervisor and of each worker."""
    with Program(domains=domains, milter=f"workers = {workers}") as program:
        wait_until(lambda: len(children(program.pid)) == workers, "the loader ended", seconds=120)
        asked = [name.replace("*", "a") for name in _names(count)]
        random.Random(2).shuffle(asked)  # noqa: S311 - no secret
        for start in range(0, lookups, _RECIPIENTS):
            with program.mta() as mta:
                mta.begin()
                mta.envelope(b"<s@x.example>", *(f"<x@{name}>".encode() for name in asked[start : start + _RECIPIENTS]))
                mta.quit()
        return {
            "workers": workers,
            "supervisor": _pss(program.pid),
            "each": sorted(map(_pss, program.workers())),
            "total": sum(map(_pss, {program.pid, *program.workers()})),
        }


def _pss(pid: int) -> float:
    """Return the memory of a process in MB, with its share of shared memory (proc(5), smaps_rollup)."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1024


def _print(figures: dict[str, Any]) -> None:
    console = Console()
    table = Table(title=f"{figures['domains']:,} listener domains")
    for column in ("", "best", ""):
        table.add_column(column)
    for ending in ("json", "toml"):
        found = figures[ending]
        table.add_row(f"loading {ending}", f"{found['seconds']:.1f} s", f"peak {found['peak']:.0f} MB")
        table.add_row("  warnings", f"{found['warnings']:.1f} s", "")
    for kind, found in figures["lookups"].items():
        table.add_row(f"look-up: {kind}", f"{found:.2f} us", "")
    for found in figures["memory"]:
        each = f"supervisor {found['supervisor']:.0f}, workers {found['each'][0]:.0f}-{found['each'][-1]:.0f}"
        table.add_row(f"memory with {found['workers']} workers (PSS)", f"{found['total']:.0f} MB", each)
    if found := figures.get("reloads"):
        longest = f"{found['longest'] * 1000:.0f} ms"
        details = f"without one {found['longest_in_peace'] * 1000:.0f} ms; {found['wrong']} wrong"
        table.add_row("longest answer during a reload", longest, details)
    console.print(table)


if __name__ == "__main__":
    main()
