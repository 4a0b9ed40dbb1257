"""`sidecar suppression add`, `remove` and `import`: changes by hand, each with a record in the journal."""

import os
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import click

from sidecar.commands.suppression.layouts import Unreadable, read_list
from sidecar.commands.suppression.opening import faults, key_or_usage_error, list_settings, require_owner
from sidecar.core.settings.settings import Settings
from sidecar.core.suppressed import REASON_LIMIT, reason_of
from sidecar.core.text import age, counted, printable
from sidecar.journal import JournalError
from sidecar.machine import name_of_user
from sidecar.output.help import Command
from sidecar.output.problems import ExistingPath, config_option
from sidecar.suppression.changes import HandChange, wait_until_applied, write
from sidecar.suppression.rules import NEVER

# A change is in force within two seconds; a large import needs more, and continues without this command.
_WITHIN = 30.0
_SHOWN = 5
_STATUSES = {0: "success", 1: "the journal or the list cannot be written"}


@click.command(
    "add",
    cls=Command,
    examples=["sidecar suppression add --reason 'asked by phone' --expire 90d user@example.com"],
    statuses=_STATUSES,
)
@config_option
@click.option("--reason", required=True, metavar="TEXT", help="Why: the list and the journal show it.")
@click.option("--expire", metavar="AGE", help="How long: 12h, 90d. By default until it is removed.")
@click.argument("addresses", nargs=-1, required=True, metavar="ADDRESS...")
def add(config: Path | None, addresses: tuple[str, ...], *, reason: str, expire: str | None) -> None:
    """Put addresses on the list. If reports suppress one for a longer time, that time counts."""
    seconds = 0 if expire is None else age(expire)
    if seconds is None:
        raise click.BadParameter(f"{expire!r} is no age; write one such as 12h or 90d.", param_hint="--expire")
    expires = int(time.time()) + seconds if seconds else NEVER
    words = _reason(reason)
    changes = [
        HandChange(action="add", address=key, reason=words, expires=expires) for key in map(key_or_usage_error, addresses)
    ]
    settings, _ = list_settings(config)
    _change(settings, changes, "added")


@click.command(
    "remove",
    cls=Command,
    examples=["sidecar suppression remove --reason 'mailbox is fixed' user@example.com"],
    statuses=_STATUSES,
)
@config_option
@click.option("--reason", required=True, metavar="TEXT", help="Why: the journal keeps it.")
@click.argument("addresses", nargs=-1, required=True, metavar="ADDRESS...")
def remove(config: Path | None, addresses: tuple[str, ...], *, reason: str) -> None:
    """Remove addresses from the list. Earlier reports about them do not count any more; later ones do."""
    words = _reason(reason)
    changes = [HandChange(action="remove", address=key, reason=words) for key in map(key_or_usage_error, addresses)]
    settings, _ = list_settings(config)
    _change(settings, changes, "removed")


@click.command(
    "import",
    cls=Command,
    examples=["sidecar suppression import --reason 'from Mailgun' bounces.json"],
    statuses={0: "success", 1: "the file is no list, or the journal or the list cannot be written"},
)
@config_option
@click.option("--reason", default="import", show_default=True, metavar="TEXT", help="The reason of addresses without one.")
@click.argument("file", type=ExistingPath(exists=True, dir_okay=False, path_type=Path))
def import_list(config: Path | None, file: Path, *, reason: str) -> None:
    """Add the addresses of a list: of this program, PowerMTA, SES or Mailgun.

    FILE has one address a line, or CSV with a column `address`, `email` or `rcpt`, or JSON. Of PowerMTA's accounting files only
    bounces of the categories bad-mailbox, bad-domain and inactive-mailbox count. Of Mailgun's unsubscriptions only those from
    all mail count.
    """
    settings, _ = list_settings(config)
    words, unreadable = _reason(reason), list[int]()
    try:
        with file.open(encoding="utf-8", errors="replace", newline="") as lines:
            _change(settings, _additions(read_list(lines, reason=words), unreadable), "added")
    except ValueError as error:
        raise click.ClickException(printable(f"{file} cannot be imported: {error}.")) from error
    if unreadable:
        places = ", ".join(map(str, unreadable[:_SHOWN]))
        click.echo(f"{counted(len(unreadable), 'item')} without a readable address: {places} (counted from 1).", err=True)


def _additions(found: Iterable[HandChange | Unreadable], unreadable: list[int]) -> Iterator[HandChange]:
    for one in found:
        if isinstance(one, Unreadable):
            unreadable.append(one.number)
        else:
            yield one


def _change(settings: Settings, changes: Iterable[HandChange], verb: str) -> None:
    """Make the changes, and say how many: `verb` is "added" or "removed"."""
    assert settings.suppression is not None  # noqa: S101 - `list_settings` has checked it
    require_owner(settings)
    try:
        with faults(settings.suppression):
            written = write(settings, changes, by=_user())
            if written.last is not None and not wait_until_applied(settings, written.last, within=_WITHIN):
                click.echo("The journal has the change. The sidecar has not applied it yet.", err=True)
    except JournalError as error:
        raise click.ClickException(printable(f"{error}.")) from error
    click.echo(f"{counted(written.count, 'address', 'addresses')} {verb}.")


def _user() -> str:
    """Return the user who started the command, also behind sudo. It is a claim, and no proof."""
    return os.environ.get("SUDO_USER") or name_of_user(os.getuid())


def _reason(text: str) -> str:
    if (reason := reason_of(text)) is None:
        raise click.BadParameter(
            f"Write one line of at most {REASON_LIMIT} characters, without control characters.", param_hint="--reason"
        )
    return reason
