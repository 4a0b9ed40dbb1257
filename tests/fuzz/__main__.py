"""`make fuzz`: every target for its share of the time. Exit status 1 when something was found.

Owns what is shown. Never decides what is a fault.
"""

import sys
from importlib.util import find_spec
from pathlib import Path

import click

from tests.fuzz.runs import COST, TARGETS, climb, run


@click.command()
@click.option("--seconds", default=600, show_default=True, help="For all targets together.")
@click.option("--folder", default=".fuzz", show_default=True, type=click.Path(path_type=Path), help="Keeps what is found.")
@click.argument("targets", nargs=-1, type=click.Choice((*TARGETS, COST)))
def main(seconds: int, folder: Path, targets: tuple[str, ...]) -> None:
    """Fuzz all targets, or those named."""
    if find_spec("atheris") is None:
        raise click.ClickException(
            "The fuzzer atheris is not installed: it has wheels for CPython 3.11 to 3.13 on x86-64 only."
        )
    chosen = targets or (*TARGETS, COST)
    share = max(1, seconds // len(chosen))
    click.echo(f"Fuzzing {len(chosen)} targets, {share} seconds each; what is found is kept in {folder}.")
    click.echo(f"{'target':<12}{'inputs':>10}{'a second':>10}{'branches':>10}{'kept':>8}")
    faults = 0
    for target in chosen:
        if target == COST:
            found = climb(folder, seconds=share)
            click.echo(f"{target:<12}{found.inputs:>10}  the worst at {found.worst:.0%} of a limit")
            if found.fault is not None:
                faults += 1
                click.echo(found.fault)
            continue
        ended = run(target, folder, seconds=share)
        click.echo(f"{target:<12}{ended.inputs:>10}{ended.per_second:>10}{ended.coverage:>10}{ended.corpus:>8}")
        if ended.fault is not None:
            faults += 1
            click.echo(ended.fault)
    click.echo(
        "Every input was answered as it must be." if not faults else f"{faults} of the targets found something: see above."
    )
    sys.exit(1 if faults else 0)


if __name__ == "__main__":
    main()
