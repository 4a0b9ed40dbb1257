"""`make bench`: how fast is the sidecar, beside milters that do nothing?

    python -m tests.bench --against CHECKOUT [--rounds N] [--only WORD]
    python -m tests.bench [--short] [--rounds N] [--only WORD] [--domains N] [--keep FILE]

All rivals run in the same session, round by round one after the other, so that whatever slows the machine down slows all of
them down. Figures are medians of the rounds; ratios are medians of the ratios within a round.
"""

import argparse
import json
import os
import platform
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from rich.console import Console
from rich.table import Table

from tests import ROOT
from tests.bench import behind, protocol
from tests.bench.against import compare, ratios
from tests.bench.rivals import RIVALS, SIDECARS, build
from tests.bench.scenarios import MIXED, SCENARIOS, Scenario
from tests.mta.places import private_directory

PROGRAMS = ROOT / ".bench"

Round = dict[str, dict[str, Any]]
"""One round: the figures of each rival by its name."""


def main() -> None:
    """Run what was asked for, print the tables, and keep the raw figures."""
    wanted = _arguments()
    build(PROGRAMS)
    console = Console(width=None if sys.stdout.isatty() else 140)
    if wanted.against:
        _against(wanted, console)
        return
    kept: list[dict[str, Any]] = []
    for place, rivals, run in (("protocol", RIVALS[1:], _protocol(wanted)), ("Postfix", RIVALS, _behind(wanted))):
        names = (*rivals, *SIDECARS)
        if wanted.place not in {place, "both"}:
            continue
        table = _table(place, names, wanted)
        for title, scenarios in _chosen(wanted.only):
            rounds = [_round(run, _rivals(place, names, scenarios), scenarios) for _ in range(wanted.rounds)]
            kept.append({"place": place, "scenario": title, "domains": wanted.domains, "rounds": rounds})
            table.add_row(title, *_cells(rounds, _rivals(place, names, scenarios)))
            print(f"{place}: {title}", file=sys.stderr)  # noqa: T201 - this is a program
        console.print(table)
    _keep(wanted.keep, kept)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--short", action="store_true", help="one short round of everything: does the stand itself work?")
    parser.add_argument(
        "--against",
        type=Path,
        metavar="CHECKOUT",
        help="compare this checkout with another one instead, in turn,\nbehind Postfix on the direct engine",
    )
    parser.add_argument("--rounds", type=int, help="5 by default; with --against 20")
    parser.add_argument("--seconds", type=float, default=3.0, help="of each rival in each round, at the protocol")
    parser.add_argument(
        "--messages", type=int, help="for each rival in each round, behind Postfix; 4000 by default, with --against 300"
    )
    parser.add_argument("--connections", type=int, default=10)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--domains", type=int, default=10, help="listener domains of the sidecar")
    parser.add_argument("--only", default="", metavar="WORD", help="only the scenarios with this in their name")
    parser.add_argument("--place", choices=("protocol", "Postfix", "both"), default="both")
    parser.add_argument("--keep", type=Path, default=PROGRAMS / "figures.jsonl", help="the file that the raw figures go to")
    wanted = parser.parse_args()
    wanted.rounds = wanted.rounds or (20 if wanted.against else 5)
    wanted.messages = wanted.messages or (300 if wanted.against else 4000)
    if wanted.short:
        wanted.rounds, wanted.seconds, wanted.messages = 1, 0.2, 60
    return wanted


def _chosen(word: str) -> Iterator[tuple[str, Sequence[Scenario]]]:
    titles: list[tuple[str, Sequence[Scenario]]] = [(scenario.name, (scenario,)) for scenario in SCENARIOS]
    # A megabyte among the small ones would be all there is to measure.
    titles.append((MIXED, [scenario for scenario in SCENARIOS if "MB" not in scenario.name]))
    yield from ((title, scenarios) for title, scenarios in titles if word in title)


def _against(wanted: argparse.Namespace, console: Console) -> None:
    title = f"{ROOT} / {wanted.against}: median (quartiles) of {wanted.rounds} rounds in turn, {wanted.messages} messages each"
    table = Table(
        "scenario", "old /s", "new /s", "rate new / old", "worker CPU new / old", "load average", title=title, box=None
    )
    for name, scenarios in _chosen(wanted.only):
        pairs = compare(
            wanted.against.resolve(),
            scenarios,
            PROGRAMS,
            rounds=wanted.rounds,
            messages=wanted.messages,
            connections=wanted.connections,
            workers=wanted.workers,
            domains=wanted.domains,
        )
        rates, cpu = [(one.old.rate, one.new.rate) for one in pairs], [(one.old.cpu, one.new.cpu) for one in pairs]
        old, new = (f"{median(both[which] for both in rates):,.0f}" for which in (0, 1))
        table.add_row(name, old, new, ratios(rates), ratios(cpu), f"{os.getloadavg()[0]:.1f}")
        print(f"against: {name}", file=sys.stderr)  # noqa: T201 - this is a program
    console.print(table)


def _rivals(place: str, names: Sequence[str], scenarios: Sequence[Scenario]) -> Sequence[str]:
    refused = place == "Postfix" and len(scenarios) == 1 and scenarios[0].outcome == "refuse-rcpt"
    return [*names, "own control"] if refused else names


Run = Callable[[str, Sequence[Scenario], Path], dict[str, Any]]


def _protocol(wanted: argparse.Namespace) -> Run:
    def run(name: str, scenarios: Sequence[Scenario], folder: Path) -> dict[str, Any]:
        return protocol.play(
            name,
            scenarios,
            folder,
            PROGRAMS,
            seconds=wanted.seconds,
            connections=wanted.connections,
            workers=wanted.workers,
            domains=wanted.domains,
        )

    return run


def _behind(wanted: argparse.Namespace) -> Run:
    def run(name: str, scenarios: Sequence[Scenario], folder: Path) -> dict[str, Any]:
        return behind.play(
            name,
            scenarios,
            folder,
            PROGRAMS,
            messages=wanted.messages,
            connections=wanted.connections,
            workers=wanted.workers,
            domains=wanted.domains,
        )

    return run


def _round(run: Run, names: Sequence[str], scenarios: Sequence[Scenario]) -> Round:
    figures: Round = {}
    for name in names:
        with private_directory() as folder:
            figures[name] = run(name, scenarios, folder / "round")
    return figures


def _table(place: str, names: Sequence[str], wanted: argparse.Namespace) -> Table:
    what = "sessions/s at the milter protocol" if place == "protocol" else "messages/s behind Postfix"
    title = f"{what}; {wanted.connections} connections, {wanted.workers} workers, {wanted.domains:,} listener domains"
    table = Table(
        title=f"{title}, {wanted.rounds} rounds; the ratios are sidecar / rival on either engine",
        title_justify="left",
        box=None,
    )
    table.add_column("scenario")
    for name in names:
        table.add_column(name, justify="right")
        if name not in SIDECARS:
            table.add_column("", justify="right", style="bold")
    return table


def _cells(rounds: Sequence[Round], names: Sequence[str]) -> Iterator[str]:
    for name in names:
        rate = f"{median(figures[name]['rate'] for figures in rounds):,.0f}"
        if name == "own control":
            yield f"Postfix alone {rate}: {_ratios(rounds, name)}"
            continue
        yield rate
        if name not in SIDECARS:
            yield _ratios(rounds, name)


def _ratios(rounds: Sequence[Round], rival: str) -> str:
    """Give the sidecar's ratio to a rival on each of its engines."""
    return " ".join(f"{median(one[name]['rate'] / one[rival]['rate'] for one in rounds):.2f}" for name in SIDECARS)


def _keep(path: Path, kept: Sequence[dict[str, Any]]) -> None:
    machine = {
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "python": platform.python_version(),
        "cpus": os.cpu_count(),
    }
    with path.open("a") as file:
        file.writelines(json.dumps({**machine, **one}) + "\n" for one in kept)
    print(f"The raw figures are in {path}.")  # noqa: T201 - this is a program


if __name__ == "__main__":
    main()
