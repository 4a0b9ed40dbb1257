"""What `tests.soak.fleet.attack` runs in namespaces: `python -m tests.soak.fleet`.

Owns the order of a run. It prints what happened as JSON.
"""

import os
import random
import sys
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import click
import msgspec

from sidecar.fleet.source import StreamSource
from sidecar.journal.read import Line
from tests.fleet.shipping import fleet_of, repeated, stored
from tests.mta.processes import wait_until
from tests.soak.fleet import Outcome, differences
from tests.soak.fleet.faults import Faults
from tests.soak.fleet.stand import OTHER_CPU, Stand, stand
from tests.soak.fleet.traffic import Round, Traffic, waits

_PAUSE_SECONDS = (0.1, 1.0)


@click.command()
@click.option("--number", default=20, help="How many faults. 0 means no faults, for so many seconds.")
@click.option("--seed", default=1, help="Of the faults.")
@click.option("--seconds", default=600.0, help="No fault begins after so many seconds.")
@click.option("--burst", default=2.0, help="Seconds of a burst.")
@click.option("--only", multiple=True, help="Faults with this word in their name.")
def main(number: int, seed: int, seconds: float, burst: float, only: Sequence[str]) -> None:
    """Make faults of a fleet, and print what happened as JSON. Run it in namespaces of its own."""
    chance = random.Random(seed)  # noqa: S311 - the same faults again
    with stand() as found:
        os.sched_setaffinity(0, {OTHER_CPU})
        with Traffic(*(str(one.address) for one in (found.shipping, *found.alone)), seconds=burst) as traffic:
            made = _make_faults(Faults(found, chance), chance, number, time.monotonic() + seconds, only)
        with suppress(TimeoutError):
            wait_until(found.is_delivered, "all is delivered")
        outcome = _outcome(found, made, traffic.rounds)
    sys.stdout.buffer.write(msgspec.json.encode(outcome))


def _make_faults(faults: Faults, chance: random.Random, number: int, until: float, only: Sequence[str]) -> Counter[str]:
    if not number:
        time.sleep(until - time.monotonic())
    names = [name for name in faults.names if not only or any(word in name for word in only)]
    made = Counter[str]()
    # Each of them before one is repeated.
    while made.total() < number and time.monotonic() < until:
        name = chance.choice([name for name in names if made[name] == min(made[one] for one in names)])
        click.echo(f"{time.monotonic():.1f} {made.total() + 1} {name}", err=True)
        faults.make(name)
        made[name] += 1
        time.sleep(chance.uniform(*_PAUSE_SECONDS))
    return made


def _outcome(found: Stand, made: Counter[str], rounds: Sequence[Round]) -> Outcome:
    answered = [sum((Counter(one[at].replies) for one in rounds), Counter[str]()) for at in range(len(rounds[0]))]
    written, read = Counter(found.records()), Counter[bytes]()
    with StreamSource(Path("nats://"), fleet_of(found.made)) as source:
        read.update(line.text for line in source.lines() if isinstance(line, Line))
    return Outcome(
        faults=dict(made),
        written=written.total(),
        lost=[line.decode() for line in (written - read).elements()],
        read_twice=[line.decode() for line in (read - written).elements()],
        stored_twice=len(repeated(stored(found.made))),
        sessions=answered[0].total(),
        different=differences(*answered[:2]),
        waits=list(waits(rounds)),
        rounds=len(rounds),
    )


if __name__ == "__main__":
    main()
