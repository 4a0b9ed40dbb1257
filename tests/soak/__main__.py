"""`make soak`: faults, floods, random attacks and hostile loads, at length. Exit status 0 when nothing is wrong.

Owns what is shown, and the bounds of the long form.
"""

import os
import secrets
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import click
from msgspec import Struct
from rich import box
from rich.console import Console
from rich.table import Table

from sidecar.daemon.milter import ENGINES
from tests.faults import long
from tests.faults.long import Wrong
from tests.soak import addresses, escapes, fleet, latency, lists, origins, removals, sessions
from tests.soak.hostile import inputs
from tests.suppression import faults

# Each kind of random attack ends then, however many cases are left.
_SECONDS = 300
# Torn copies of the list after each kill.
_TORN = 4


class Wanted(Struct, frozen=True, kw_only=True):
    """How much of each part, by its name, and what all parts have in common."""

    console: Console
    engine: str
    seed: int
    counts: dict[str, int]


def _addresses(wanted: Wanted, number: int) -> Wrong:
    found = [
        addresses.attack(name, number // 4, seed=wanted.seed, engine=wanted.engine, seconds=_SECONDS / 4)
        for name in addresses.CONFIGURATIONS
    ]
    fired, accepted, went_on = (sum(getattr(one, name) for one in found) for name in ("addresses", "accepted", "went_on"))
    wanted.console.print(f"{fired} recipient addresses: {accepted} accepted at RCPT, {went_on} sent on.")
    return {"recipients sent on to a domain that is not open": [case for one in found for case in one.wrong]}


def _sessions(wanted: Wanted, number: int) -> Wrong:
    found = sessions.attack(number, seed=wanted.seed, engine=wanted.engine, seconds=_SECONDS)
    wanted.console.print(
        f"{found.sessions} random sessions, {found.changes} changes of peer, login or TLS within: {found.messages} messages, "
        f"{found.recipients} recipients, {found.accepted} accepted, {found.delivered} delivered, {found.deferred} deferred, "
        f"{found.unjudged} recipients not judged."
    )
    return {"answers and deliveries against the policy": found.wrong}


def _removals(wanted: Wanted, rounds: int) -> Wrong:
    each = _SECONDS / len(removals.CONFIGURATIONS)
    found = [
        removals.attack(name, rounds, seed=wanted.seed, engine=wanted.engine, seconds=each) for name in removals.CONFIGURATIONS
    ]
    messages, accepted, removed = (sum(getattr(one, name) for one in found) for name in ("messages", "accepted", "removed"))
    wanted.console.print(f"{messages} messages to mixed recipients: {accepted} accepted, {removed} recipients removed.")
    return {"deliveries to removed recipients, or to too few": [case for one in found for case in one.wrong]}


def _escapes(wanted: Wanted, number: int) -> Wrong:
    found = escapes.attack(number, seed=wanted.seed, engine=wanted.engine, seconds=_SECONDS)
    wanted.console.print(f"{found.messages} messages with hostile text: the commands showed {found.characters} characters.")
    return {"characters and markup that should be escaped": found.wrong}


def _origins(wanted: Wanted, number: int) -> Wrong:
    found = origins.attack(number, seed=wanted.seed, seconds=_SECONDS)
    wanted.console.print(
        f"{found.requests} requests with random Host and Origin, {found.permitted} permitted: {found.statuses}."
    )
    return {"requests answered against the Host and Origin rules": found.wrong}


def _suppression(wanted: Wanted, kills: int) -> Wrong:
    with tempfile.TemporaryDirectory() as folder:
        found = faults.attack(Path(folder), kills, _TORN, seed=wanted.seed, seconds=_SECONDS)
    wanted.console.print(
        f"The process of the suppression list: {found.kills} kills, {found.torn} torn copies, {found.renewed} made again."
    )
    return {"lists that are not the one of the journal": found.wrong}


def _fleet(wanted: Wanted, number: int) -> Wrong:
    found = fleet.attack(number, seed=wanted.seed, seconds=5 * _SECONDS)
    faults = ", ".join(f"{name} {count}" for name, count in sorted(found.faults.items()))
    wanted.console.print(
        f"{sum(found.faults.values())} faults of the fleet ({faults}) while {found.sessions} sessions at each program wrote "
        f"{found.written} records; the stream has {found.stored_twice} twice."
    )
    shown = Table(
        "p99 in ms", "with a fleet", "without", "without, again", "of rounds: with by without", "without, again", box=box.SIMPLE
    )
    for one in found.waits:
        ratios = [", ".join(f"{value:.2f}" for value in quartiles) for quartiles in one.ratios]
        shown.add_row(one.kind, *(f"{value * 1000:.2f}" for value in one.p99), *ratios)
    wanted.console.print(shown)
    return {
        "records that the stream has lost": found.lost,
        "records that were read twice from the stream": found.read_twice,
        "answers that differ with a fleet": found.different,
        "waits at p99 that are longer with a fleet": [one.kind for one in found.waits if one.is_longer],
    }


def _lists(wanted: Wanted, number: int) -> Wrong:
    found = lists.attack(number, seed=wanted.seed, seconds=2 * _SECONDS)
    faults = ", ".join(f"{name} {count}" for name, count in sorted(found.faults.items()))
    middle, slowest = found.seconds[len(found.seconds) // 2], found.seconds[-1]
    wanted.console.print(
        f"{found.faults.total()} faults of one list for three nodes ({faults}) while it was changed {found.changes} times. "
        f"Before them a change reached all nodes after {middle:.2f} s at the median, and {slowest:.2f} s at most."
    )
    return {"addresses that lists of nodes have differently": found.wrong}


def _latency(wanted: Wanted, seconds: int) -> Wrong:
    title = f"Waits for a reply to RCPT in ms, beside {latency.SENDERS} hostile senders on {os.cpu_count()} cores"
    shown, late = latency.table(title), []
    for what in (None, *inputs()):
        with latency.stand(engine=wanted.engine) as where:
            waits = latency.measure(what, where, senders=latency.SENDERS, seconds=seconds)
        shown.add_row(*latency.row(waits))
        if waits.at(50) > latency.MEDIAN_GOAL or waits.at(99) > latency.P99_GOAL:
            late.append(f"{waits.name}: median {waits.at(50) * 1000:.0f} ms, p99 {waits.at(99) * 1000:.0f} ms")
    wanted.console.print(shown)
    goal = f"{latency.MEDIAN_GOAL * 1000:.0f} ms at the median and {latency.P99_GOAL * 1000:.0f} ms at p99"
    return {f"inputs beside which RCPT waits over {goal}": late}


def _long(run: Callable[[Console, int, str], Wrong]) -> Callable[[Wanted, int], Wrong]:
    return lambda wanted, number: run(wanted.console, number, wanted.engine)


PARTS: dict[str, Callable[[Wanted, int], Wrong]] = {
    "faults": _long(long.run_faults),
    "reloads": _long(long.run_reloads),
    "flood": _long(long.run_flood),
    "idle": _long(long.run_idle),
    "addresses": _addresses,
    "sessions": _sessions,
    "removals": _removals,
    "escapes": _escapes,
    "origins": _origins,
    "suppression": _suppression,
    "fleet": _fleet,
    "lists": _lists,
    "latency": _latency,
}


@click.command()
@click.option("--faults", default=200, show_default=True, help="How many faults, under load.")
@click.option("--reloads", default=100, show_default=True, help="How many reloads, under load.")
@click.option("--flood", default=200_000, show_default=True, help="How many sessions through one worker.")
@click.option("--idle", default=2000, show_default=True, help="How many idle connections.")
@click.option("--addresses", default=220_000, show_default=True, help="How many random recipient addresses.")
@click.option("--sessions", default=3400, show_default=True, help="How many random SMTP sessions.")
@click.option("--removals", default=20, show_default=True, help="How many rounds of 24 spellings in 10 configurations.")
@click.option("--escapes", default=2000, show_default=True, help="How many messages with hostile text.")
@click.option("--origins", default=5000, show_default=True, help="How many requests to the admin API.")
@click.option("--suppression", default=100, show_default=True, help="How many kills of the process of the suppression list.")
@click.option("--fleet", default=200, show_default=True, help="How many faults of a fleet.")
@click.option("--lists", default=100, show_default=True, help="How many faults of servers and nodes that share one list.")
@click.option("--latency", default=15, show_default=True, help="How many seconds of each hostile load.")
@click.option("--only", multiple=True, type=click.Choice(list(PARTS)), help="Only this part; may be given many times.")
@click.option("--seed", type=int, help="The seed of the random parts.  [default: another one each time; it is printed]")
@click.option("--engine", default="direct", show_default=True, type=click.Choice(list(ENGINES)), help="The sidecar's engine.")
def main(only: Sequence[str], seed: int | None, engine: str, **counts: int) -> None:
    """Attack the sidecar in every known way, count what must not be, and exit with 1 if there is any.

    Each random attack ends after 5 minutes, however many cases are left.
    """
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 150)
    began = time.monotonic()
    wanted = Wanted(console=console, engine=engine, seed=secrets.randbelow(2**32) if seed is None else seed, counts=counts)
    console.print(f"Seed {wanted.seed}, engine {engine}.")
    wrong = {
        what: cases
        for name, run in PARTS.items()
        if not only or name in only
        for what, cases in run(wanted, counts[name]).items()
    }
    table = Table("What must not be", "cases", box=box.SIMPLE)
    for what, cases in wrong.items():
        table.add_row(what, str(len(cases)))
    console.print(table)
    for what, cases in wrong.items():
        for case in cases[:5]:
            console.print(f"{what}: {case!r}", markup=False, style="bold red")
    console.print(f"After {time.monotonic() - began:.0f} seconds.")
    sys.exit(1 if any(wrong.values()) else 0)


if __name__ == "__main__":
    main()
