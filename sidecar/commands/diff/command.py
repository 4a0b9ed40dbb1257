"""`sidecar diff`: compare two configurations before the new one is used."""

import sys
from contextlib import suppress
from pathlib import Path

import click

from sidecar.config import Reading
from sidecar.config.diff.rules import Listing, changes
from sidecar.config.diff.values import EFFECTS, Side, Verdicts
from sidecar.config.diff.verdicts import Replay
from sidecar.core.evaluate.evaluator import Evaluator
from sidecar.core.records import decode
from sidecar.core.text import printable
from sidecar.journal import JournalError
from sidecar.journal.read import STDIN, Line, read, stored_size
from sidecar.output.changes import print_difference
from sidecar.output.help import Command
from sidecar.output.logs import warn_of_skipped_files
from sidecar.output.problems import ExistingPath, print_errors
from sidecar.output.streams import print_json, sentence
from sidecar.output.terminal import progress

# The limit for the changes of each effect, and for the groups of envelopes.
_SHOWN = 20
_TROUBLE = 2

# Reading it reports what is wrong.
_SETTINGS = click.Path(path_type=Path, readable=False)


@click.command(
    "diff",
    cls=Command,
    examples=[
        "sidecar diff /etc/sidecar/sidecar.toml new/sidecar.toml",
        "sidecar diff --records /var/lib/sidecar/journal \\\n    /etc/sidecar/sidecar.toml new/sidecar.toml",
        "zcat old.log.gz | sidecar diff --json --records - old.toml new.toml |\n    jq .verdicts.newly_accepted",
    ],
    statuses={
        0: "no difference",
        1: "differences",
        _TROUBLE: "wrong usage, settings with errors, or records that cannot be read",
    },
)
@click.argument("old", type=_SETTINGS)
@click.argument("new", type=_SETTINGS)
@click.option(
    "--records",
    metavar="PATH",
    type=ExistingPath(exists=True, allow_dash=True, path_type=Path),
    help="Records to replay: a file or a folder of segments, the sidecar's or KumoMTA's, plain or zstd, or '-' for stdin.",
)
@click.option("--all", "in_full", is_flag=True, help=f"List all changes, not only the first {_SHOWN} of each kind.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object with all changes.")
def command(old: Path, new: Path, records: Path | None, *, in_full: bool, as_json: bool) -> None:
    """Show what changes between the settings files OLD and NEW, before you use NEW.

    First the rules: what was added, removed or changed, and whether a change opens (mail gets further: from rejected to
    dropped to relayed), closes, or does neither. Changes that open are first. Then, with --records, the verdicts: the recorded
    envelopes with a different disposition, by the rules that decide.
    """
    sides = _side(old), _side(new)
    listing = Listing(None if in_full or as_json else _SHOWN)
    for change in changes(*sides):
        listing.add(change)
    verdicts = None if records is None else _replay(records, *sides)
    if as_json:
        print_json(
            {
                "old": printable(str(old)),
                "new": printable(str(new)),
                "rules": listing.rules,
                "dangers": listing.dangers,
                "changes": [change for effect in EFFECTS for change in listing.of(effect)],
                "verdicts": verdicts,
            }
        )
    else:
        print_difference(listing, verdicts, limit=None if in_full else _SHOWN)
    sys.exit(1 if any(listing.counts.values()) else 0)


def _side(path: Path) -> Side:
    reading = Reading(path)
    if (settings := reading.loaded.settings) is None:
        print_errors(reading.loaded.problems)
        click.echo(f"{printable(str(path))} has errors. Fix them first.", err=True)
        sys.exit(_TROUBLE)
    return Side(file=str(path), folder=path.parent.absolute(), place=reading.place, evaluator=Evaluator(settings))


def _replay(records: Path, old: Side, new: Side) -> Verdicts:
    """Ask both configurations about all records. A journal error ends with exit status 2."""
    replay = Replay(old, new)
    try:
        warn_of_skipped_files(records)
        with progress("records", total=None if records == STDIN else stored_size(records)) as bar:
            for line in read(records, progress=bar.read):
                record = None
                with suppress(ValueError):
                    record = decode(line.text) if isinstance(line, Line) else None
                replay.add(record)
                bar.one_more()
    except JournalError as error:
        click.echo(f"Error: {sentence(error)}", err=True)
        sys.exit(_TROUBLE)
    return replay.verdicts()
