"""`sidecar suppression erase`: forget an address, as if nothing had ever been said about it."""

from pathlib import Path

import click

from sidecar.commands.suppression.opening import alone, key_or_usage_error, list_settings, now
from sidecar.core.text import printable
from sidecar.output.help import Command
from sidecar.output.problems import config_option
from sidecar.suppression.opening import open_store


@click.command(
    "erase",
    cls=Command,
    short_help="Forget addresses, their reports and removals.",
    examples=["systemctl stop sidecar && sudo -u sidecar sidecar suppression erase user@example.com"],
    statuses={0: "success", 1: "the list is in use, or cannot be written"},
)
@config_option
@click.argument("addresses", nargs=-1, required=True, metavar="ADDRESS...")
def erase(config: Path | None, addresses: tuple[str, ...]) -> None:
    """Forget addresses: their entries, reports and removals, without a record. Stop the sidecar before.

    This is for people who ask for it: the address can be mailed again. The journal still has its records: see the guide to
    personal data. Programs with a copy of the list read all of it again. For all other reasons use `remove`.
    """
    keys = [*map(key_or_usage_error, addresses)]
    settings, own = list_settings(config)
    with alone(settings, own), open_store(own) as database:
        found = {key: database.erase(key, now()) for key in keys}
        database.empty_log()
    for key, was_known in found.items():
        click.echo(printable(f"{key}: {'erased' if was_known else 'the list did not know it'}."))
