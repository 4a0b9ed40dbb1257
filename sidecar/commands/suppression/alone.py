"""`sidecar suppression erase` and `rebuild`: they write the list themselves, while no sidecar keeps it up to date."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from sidecar.commands.suppression.opening import faults, key_or_usage_error, list_settings, now
from sidecar.core.settings.settings import Settings
from sidecar.core.settings.suppression import SuppressionSettings
from sidecar.core.text import counted, printable
from sidecar.output.help import Command
from sidecar.output.problems import config_option, require_owner
from sidecar.output.terminal import progress
from sidecar.suppression.building import Builder
from sidecar.suppression.locking import BusyError, locked
from sidecar.suppression.opening import open_reader, open_store


@contextmanager
def _alone(settings: Settings, own: SuppressionSettings) -> Iterator[None]:
    """Be the process that writes the list. Raise click.ClickException if the sidecar does that, and for faults of the list."""
    require_owner(settings)
    try:
        with faults(own), locked(own):
            yield
    except BusyError:
        raise click.ClickException("The sidecar keeps this list up to date. Stop it first: systemctl stop sidecar.") from None


@click.command(
    "erase",
    cls=Command,
    short_help="Forget addresses, their reports and removals.",
    examples=["systemctl stop sidecar &&\n    sudo -u sidecar sidecar suppression erase user@example.com"],
    statuses={0: "success", 1: "the list is in use, or cannot be written"},
)
@config_option
@click.argument("addresses", nargs=-1, required=True, metavar="ADDRESS...")
def erase(config: Path | None, addresses: tuple[str, ...]) -> None:
    """Forget addresses: their entries, reports and removals, without a record. Stop the sidecar first.

    This is for people who ask for it: the address can be mailed again. The journal still has its records: see the guide to
    personal data. Programs with a copy of the list read all of it again. For all other reasons use `remove`.
    """
    keys = [*map(key_or_usage_error, addresses)]
    settings, own = list_settings(config)
    with _alone(settings, own), open_store(own) as database:
        found = {key: database.erase(key, now()) for key in keys}
        database.empty_log()
    for key, was_known in found.items():
        click.echo(printable(f"{key}: {'erased' if was_known else 'the list did not know it'}."))


@click.command(
    "rebuild",
    cls=Command,
    short_help="Rebuild the list from the journal.",
    examples=["systemctl stop sidecar && sudo -u sidecar sidecar suppression rebuild"],
    statuses={0: "success", 1: "the list is in use, or cannot be written"},
)
@config_option
@click.option("--new", is_flag=True, help="Use only the journal, and nothing of the present list or of other nodes.")
def rebuild(config: Path | None, *, new: bool) -> None:
    """Rebuild the list from the journal, and from the reports in the present list that the journal does not have any more.

    Stop the sidecar first. The present list stays in use until the new one is complete. Then it is kept under another name. A
    damaged list and changed rules need no rebuild: the sidecar does that work itself.
    """
    settings, own = list_settings(config)
    with _alone(settings, own):
        aside = Builder(settings, show=progress).build("old", copy=not new).aside
        with open_reader(own) as database:
            count = sum(database.counts(now()).values())
    words = counted(count, "address", "addresses")
    click.echo(printable(f"{words} on the list." + (f" The old list is {aside}." if aside is not None else "")))
