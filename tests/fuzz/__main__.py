"""`make fuzz`: every target and the property tests for their share of the time. Exit status 1 when something was found.

Owns what is shown. Never decides what is a fault.
"""

import random
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import click

from tests import ROOT
from tests.fuzz.runs import COST, PROPERTIES, climb, fuzzers, run, search
from tests.fuzz.targets import TARGETS


@click.command()
@click.option("--seconds", default=600, show_default=True, help="For all together.")
@click.option("--folder", default=".fuzz", show_default=True, type=click.Path(path_type=Path), help="Keeps what is found.")
@click.option("--seed", type=click.IntRange(1, 2**31 - 1), help="Repeat a search. By default each is another one.")
@click.argument("targets", nargs=-1, type=click.Choice((PROPERTIES, *TARGETS, COST)))
def main(seconds: int, folder: Path, seed: int | None, targets: tuple[str, ...]) -> None:
    """Fuzz all targets, or those named. The property tests take half of the time, if there are others."""
    chosen = targets or (PROPERTIES, *TARGETS, COST)
    fuzzed = [target for target in chosen if target != PROPERTIES]
    if fuzzed and find_spec("atheris") is None:
        raise click.ClickException(
            "The fuzzer atheris is not installed: it has wheels for CPython 3.11 to 3.13 on x86-64 only."
        )
    seed = seed or random.randint(1, 2**31 - 1)  # noqa: S311 - no secret
    click.echo(f"Seed {seed}: FUZZ_SEED={seed} repeats this search.")
    faults = 0
    if PROPERTIES in chosen:
        half = seconds // 2 if fuzzed else seconds
        click.echo(f"Running the property tests with ten times as many examples, {half} seconds at most.")
        searched = search(ROOT / "tests", seconds=half, seed=seed)
        click.echo(f"{searched.passed} property tests passed.")
        seconds -= half
        if searched.fault is not None:
            faults += 1
            click.echo(searched.fault)
    if fuzzed:
        faults += _fuzz(fuzzed, folder, seconds=max(1, seconds // len(fuzzed)), seed=seed)
    click.echo(
        "Every input was answered as it must be." if not faults else f"{faults} of the searches found something: see above."
    )
    sys.exit(1 if faults else 0)


def _fuzz(targets: Sequence[str], folder: Path, *, seconds: int, seed: int) -> int:
    """Fuzz each target for so many seconds; return how many faults were found."""
    click.echo(f"Fuzzing {len(targets)} targets, {seconds} seconds each; what is found is kept in {folder}.")
    click.echo(f"{'target':<12}{'inputs':>10}{'a second':>10}{'branches':>10}{'kept':>8}")
    found = []
    with fuzzers() as loaded:
        for target in targets:
            if target == COST:
                climbed = climb(folder, seconds=seconds, seed=seed)
                click.echo(f"{target:<12}{climbed.inputs:>10}  the worst at {climbed.worst:.0%} of a limit")
                found.append(climbed.fault)
            else:
                ended = run(loaded, target, folder, seconds=seconds, seed=seed)
                click.echo(f"{target:<12}{ended.inputs:>10}{ended.per_second:>10}{ended.coverage:>10}{ended.corpus:>8}")
                found.append(ended.fault)
            if found[-1] is not None:
                click.echo(found[-1])
    return len(found) - found.count(None)


if __name__ == "__main__":
    main()
