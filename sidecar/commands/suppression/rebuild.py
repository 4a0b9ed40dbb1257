"""`sidecar suppression rebuild`: a new database, from the journal."""

from pathlib import Path

import click

from sidecar.commands.suppression.opening import alone, list_settings, now
from sidecar.core.text import counted, printable
from sidecar.output.help import Command
from sidecar.output.problems import config_option
from sidecar.output.terminal import progress
from sidecar.suppression.building import Builder
from sidecar.suppression.opening import open_reader


@click.command(
    "rebuild",
    cls=Command,
    short_help="Make the list again from the journal.",
    examples=["systemctl stop sidecar && sudo -u sidecar sidecar suppression rebuild"],
    statuses={0: "success", 1: "the list is in use, or cannot be written"},
)
@config_option
@click.option("--new", is_flag=True, help="Use only the journal, and nothing of the present list or of other nodes.")
def rebuild(config: Path | None, *, new: bool) -> None:
    """Make the list again: from the journal, and from the reports in the present list that the journal does not have any more.

    The present list stays in use until the new one is complete. Then it is kept under another name. Stop the sidecar before. A
    damaged list and changed rules need no rebuild: the sidecar does that work itself.
    """
    settings, own = list_settings(config)
    with alone(settings, own):
        aside = Builder(settings, show=progress).build("old", copy=not new).aside
        with open_reader(own) as database:
            count = sum(database.counts(now()).values())
    words = counted(count, "address", "addresses")
    click.echo(printable(f"{words} on the list." + (f" The old list is {aside}." if aside is not None else "")))
