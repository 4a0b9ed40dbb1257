"""The long form of the faults, reloads and floods, as `make soak` runs it.

Owns what is shown, and the bounds. Never ends the program.
"""

import time
from collections.abc import Mapping, Sequence

from rich import box
from rich.console import Console
from rich.table import Table

from tests.faults import campaign, flood, idle, reloads

MEGABYTE = 1024 * 1024
_RELOAD_STALL = 0.05
_GROWTH = 5 * MEGABYTE

Wrong = Mapping[str, Sequence[str]]
"""What must not be, and every case of it."""


def run_faults(console: Console, number: int, engine: str) -> Wrong:
    """Break the sidecar so often under load, and count what was lost."""
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


def run_reloads(console: Console, number: int, engine: str) -> Wrong:
    """Reload so often under load, and count what was answered wrongly or late."""
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


def run_flood(console: Console, number: int, engine: str) -> Wrong:
    """Hold so many sessions with one worker, and compare its size early and late."""
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


def run_idle(console: Console, number: int, engine: str) -> Wrong:
    """Open so many idle connections, and see what they cost others."""
    with console.status(f"{number} idle connections..."):
        report = idle.idle(number, engine=engine)
    console.print(
        f"{number} idle connections: {report.each / 1024:.1f} kB each, {report.beside.threads} threads; "
        f"others were served within {report.slowest * 1000:.1f} ms a session."
    )
    return {"idle connections that kept others waiting": [f"{report.slowest:.3f} s"] if report.slowest > 1 else []}
