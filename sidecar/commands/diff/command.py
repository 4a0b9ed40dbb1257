"""`sidecar diff`: what changes between two configurations, before it goes live."""

import sys
from pathlib import Path

import click
import msgspec

from sidecar.commands.diff import EFFECTS, Listing, Replay, Side, Verdicts, changes
from sidecar.commands.diff.words import print_difference
from sidecar.config import load
from sidecar.config.files import UnreadableError, read_document
from sidecar.config.places import Place
from sidecar.core.evaluate.evaluator import Evaluator
from sidecar.core.records import decode
from sidecar.core.text import printable, printable_json
from sidecar.journal import JournalError
from sidecar.journal.read import STDIN, Line, read, stored_size
from sidecar.output.help import Command
from sidecar.output.problems import finding_line, sentence, tell_passed_over
from sidecar.output.progress import progress

# Of the changes of each effect, and of the groups of envelopes: more than a screen or two is for --all or --json.
_SHOWN = 20
_TROUBLE = 2

_SETTINGS = click.Path(path_type=Path)


@click.command(
    "diff",
    cls=Command,
    examples=[
        "sidecar diff /etc/sidecar/sidecar.toml new/sidecar.toml",
        "sidecar diff --records /var/lib/sidecar/journal \\\n    /etc/sidecar/sidecar.toml new/sidecar.toml",
        "zcat old.log.gz | sidecar diff --json --records - old.toml new.toml |\n    jq .verdicts.newly_accepted",
    ],
    statuses={
        0: "nothing differs",
        1: "something differs",
        _TROUBLE: "trouble: wrong usage, settings with errors, records that cannot be read",
    },
)
@click.argument("old", type=_SETTINGS)
@click.argument("new", type=_SETTINGS)
@click.option(
    "--records",
    metavar="PATH",
    type=click.Path(exists=True, allow_dash=True, path_type=Path),
    help="Records to replay: a file or a folder of segments, the sidecar's or KumoMTA's, plain or zstd; '-' is stdin.",
)
@click.option("--all", "in_full", is_flag=True, help=f"List everything, not only the first {_SHOWN} of a kind.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object, for machines; it lists everything.")
def command(old: Path, new: Path, records: Path | None, *, in_full: bool, as_json: bool) -> None:
    """Say what changes between the settings files OLD and NEW, before NEW goes live.

    First as rules: what was added, removed or changed, what that means, and whether it opens (mail gets further: from rejected
    to dropped to relayed), closes, or neither. Changes that open come first. Then, with --records, as verdicts: the recorded
    envelopes with a different disposition, by the rules that decide.
    """
    sides = _side(old), _side(new)
    listing = Listing(None if in_full or as_json else _SHOWN)
    for change in changes(*sides):
        listing.add(change)
    verdicts = None if records is None else _replay(records, *sides)
    if as_json:
        sys.stdout.buffer.write(_as_json(old, new, listing, verdicts) + b"\n")
    else:
        print_difference(listing, verdicts, limit=None if in_full else _SHOWN)
    sys.exit(1 if any(listing.counts.values()) else 0)


def _side(path: Path) -> Side:
    """Load one configuration; errors are printed, and end with exit status 2."""
    loaded = load(path)
    if loaded.settings is None:
        for problem in loaded.problems:
            if problem.level == "error":
                click.echo(finding_line(problem), err=True)
        click.echo(f"{printable(str(path))} has errors, so nothing can be compared. Fix them first.", err=True)
        sys.exit(_TROUBLE)
    try:
        place = read_document(path, str(path)).place
    except UnreadableError:  # it changed this instant: its lines are not worth a failure
        place = Place(1)
    return Side(file=str(path), folder=path.parent.absolute(), place=place, evaluator=Evaluator(loaded.settings))


def _replay(records: Path, old: Side, new: Side) -> Verdicts:
    """Put all records to both; trouble with them is one sentence and exit status 2."""
    replay = Replay(old, new)
    try:
        tell_passed_over(records)
        with progress("records", total=None if records == STDIN else stored_size(records)) as bar:
            for line in read(records, progress=bar.read):
                _add(replay, line.text if isinstance(line, Line) else None)
                bar.one_more()
    except JournalError as error:
        click.echo(f"Error: {sentence(error)}", err=True)
        sys.exit(_TROUBLE)
    return replay.verdicts()


def _add(replay: Replay, line: bytes | None) -> None:
    try:
        record = None if line is None else decode(line)
    except ValueError:
        record = None
    if record is None:
        replay.add_unreadable()
    else:
        replay.add(record)


def _as_json(old: Path, new: Path, listing: Listing, verdicts: Verdicts | None) -> bytes:
    told = {
        "old": printable(str(old)),
        "new": printable(str(new)),
        "rules": listing.rules,
        "dangers": listing.dangers,
        "changes": [change for effect in EFFECTS for change in listing.of(effect)],
        "verdicts": verdicts,
    }
    return printable_json(msgspec.json.encode(told))
