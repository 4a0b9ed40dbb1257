"""`make soak`: faults, reloads and floods at length. Exit status 0 when nothing is wrong.

Owns what is shown, and the bounds of the long form.
"""

import sys
import time
from collections.abc import Mapping, Sequence

import click
from rich import box
from rich.console import Console
from rich.table import Table

from sidecar.milter import ENGINES
from tests.faults import campaign, flood, idle, reloads

MEGABYTE = 1024 * 1024
_RELOAD_STALL = 0.05
_GROWTH = 5 * MEGABYTE

Wrong = Mapping[str, Sequence[str]]


@click.command()
@click.option("--faults", default=200, show_default=True, help="How many faults.")
@click.option("--reloads", "reload_count", default=100, show_default=True, help="How many reloads.")
@click.option("--sessions", default=200_000, show_default=True, help="How many sessions through one worker.")
@click.option("--idle", "connections", default=2000, show_default=True, help="How many idle connections.")
@click.option(
    "--engine", default="libmilter", show_default=True, type=click.Choice(list(ENGINES)), help="What speaks to the MTA."
)
def main(faults: int, reload_count: int, sessions: int, connections: int, engine: str) -> None:
    """Break the sidecar in every way, count what is lost, and exit with 1 if anything is."""
    console = Console(highlight=False)
    began = time.monotonic()
    wrong = {
        **_faults(console, faults, engine),
        **_reloads(console, reload_count, engine),
        **_flood(console, sessions, engine),
        **_idle(console, connections, engine),
    }
    table = Table("What must not be", "cases", box=box.SIMPLE)
    for what, cases in wrong.items():
        table.add_row(what, str(len(cases)))
    console.print(table)
    for what, cases in wrong.items():
        for case in cases[:5]:
            console.print(f"{what}: {case}", markup=False, style="bold red")
    console.print(f"After {time.monotonic() - began:.0f} seconds.")
    sys.exit(1 if any(wrong.values()) else 0)


def _faults(console: Console, number: int, engine: str) -> Wrong:
    with console.status(f"{number} faults under load..."):
        report = campaign.campaign(number, megabytes=1024, engine=engine)
    table = Table("Fault", "times", "messages put off", "longest until well again", box=box.SIMPLE)
    for name, struck in report.by_name().items():
        longest = max(one.healed_after for one in struck)
        table.add_row(name, str(len(struck)), str(sum(one.deferred for one in struck)), f"{longest:.1f} s")
    console.print(table)
    console.print(
        f"{report.offered} messages offered: {report.taken} answered 250, {report.refused} refused, {report.deferred} put off, "
        f"{report.unanswered} lost with their connection; {report.records} records in the journal."
    )
    return report.wrong


def _reloads(console: Console, number: int, engine: str) -> Wrong:
    with console.status(f"{number} reloads..."):
        small = reloads.reload_under_load(number, engine=engine)
        big = reloads.reload_under_load(10, engine=engine, more_domains=100_000, quiet_sessions=1000)
    for name, report in (("2 listener domains", small), ("100,000 listener domains", big)):
        console.print(
            f"{report.reloads} reloads with {name}, {report.sessions} sessions meanwhile: the longest answer took "
            f"{report.longest * 1000:.0f} ms, before the reloads {report.longest_in_peace * 1000:.0f} ms."
        )
    bound = max(_RELOAD_STALL, 2 * big.longest_in_peace)
    slow = [f"{big.longest * 1000:.0f} ms"] if big.longest > bound else []
    both = {what: [*cases, *big.wrong[what]] for what, cases in small.wrong.items()}
    return {**both, f"answers that took over {bound * 1000:.0f} ms during reloads with 100,000 listener domains": slow}


def _flood(console: Console, number: int, engine: str) -> Wrong:
    with console.status(f"{number} sessions..."):
        began = time.monotonic()
        early, late = flood.footprints(number // 10, number - number // 10, engine=engine)
        rate = number / (time.monotonic() - began)
    for done, found in ((number // 10, early), (number, late)):
        megabytes = found.memory / MEGABYTE
        console.print(f"After {done} sessions: {megabytes:.1f} MB, {found.threads} threads, {found.descriptors} descriptors.")
    console.print(f"{rate:.0f} sessions a second.")
    grown = late.memory - early.memory > _GROWTH or late.descriptors > early.descriptors or late.threads > early.threads + 2
    return {"growth of a worker's memory, threads or descriptors": [f"{early}, then {late}"] if grown else []}


def _idle(console: Console, number: int, engine: str) -> Wrong:
    with console.status(f"{number} idle connections..."):
        report = idle.idle(number, engine=engine)
    console.print(
        f"{number} idle connections: {report.each / 1024:.1f} kB each, {report.beside.threads} threads; "
        f"others were served within {report.slowest * 1000:.1f} ms a session."
    )
    return {"idle connections that kept others waiting": [f"{report.slowest:.3f} s"] if report.slowest > 1 else []}


if __name__ == "__main__":
    main()
