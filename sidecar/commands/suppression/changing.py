"""`sidecar suppression add`, `remove` and `import`: changes by hand, each with a record in the journal."""

import os
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import click

from sidecar.commands.suppression.layouts import Omitted, read_list
from sidecar.commands.suppression.opening import faults, key_or_usage_error, known_list, list_settings, now
from sidecar.core.settings.settings import Settings
from sidecar.core.suppressed import REASON_LIMIT, reason_of
from sidecar.core.text import age, counted, printable
from sidecar.machine import name_of_user
from sidecar.output.help import Command
from sidecar.output.problems import ExistingPath, config_option, require_owner
from sidecar.suppression.changes import HandChange, is_addition, wait_until_applied, write
from sidecar.suppression.rules import NEVER
from sidecar.suppression.store import Database

# A change is in force within two seconds; a large import needs more, and continues without this command.
_WITHIN = 30.0
_SHOWN = 5
_STATUSES = {0: "success", 1: "the journal or the list cannot be written"}


@click.command(
    "add",
    cls=Command,
    examples=["sidecar suppression add --reason 'by phone' --expire 90d user@example.com"],
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
    _add(settings, changes)


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
    settings, own = list_settings(config)
    with known_list(own) as database:
        unlisted = [one.address for one in changes if database is not None and database.find(one.address, now()) is None]
    written = _change(settings, changes)
    click.echo(f"{counted(written - len(unlisted), 'address', 'addresses')} removed.")
    for address in unlisted:
        click.echo(printable(f"{address} was not on the list. Earlier reports about it do not count any more."), err=True)


@click.command(
    "import",
    cls=Command,
    short_help="Add the addresses of a list of another program.",
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
    all mail count. A head line can separate its columns by commas, semicolons or tabs.

    An addition that the list already has is not made again, so the same file can be imported each night.
    """
    settings, _ = list_settings(config)
    words, omitted = _reason(reason), list[Omitted]()
    try:
        with file.open(encoding="utf-8", errors="replace", newline="") as lines:
            count = _add(settings, _additions(read_list(lines, reason=words), omitted))
    except ValueError as error:
        raise click.ClickException(printable(f"{file} cannot be imported: {error}.")) from error
    unreadable = [one for one in omitted if one.text]
    if others := len(omitted) - len(unreadable):
        click.echo(f"{counted(others, 'line or item', 'lines or items')} omitted: not about all mail to the address.", err=True)
    if unreadable:
        click.echo(f"{counted(len(unreadable), 'line or item', 'lines or items')} without a readable address:", err=True)
    for one in unreadable[:_SHOWN]:
        click.echo(printable(f"  {one.place}: {one.text}"), err=True)
    if len(unreadable) > _SHOWN:
        click.echo(f"  and {len(unreadable) - _SHOWN:,} more", err=True)
    if unreadable and not count:
        raise click.ClickException("The file has no readable address. `sidecar suppression import --help` lists the formats.")


def _additions(found: Iterable[HandChange | Omitted], omitted: list[Omitted]) -> Iterator[HandChange]:
    for one in found:
        if isinstance(one, Omitted):
            omitted.append(one)
        else:
            yield one


def _add(settings: Settings, changes: Iterable[HandChange]) -> int:
    """Add addresses, and say how many. Return how many are on the list now. The same addition needs no other record."""
    assert settings.suppression is not None  # noqa: S101 - `list_settings` has checked it
    known = 0

    def new(database: Database | None) -> Iterator[HandChange]:
        nonlocal known
        for change in changes:
            if database is not None and any(is_addition(event, change) for event in database.history(change.address)):
                known += 1
            else:
                yield change

    with known_list(settings.suppression) as database:
        added = _change(settings, new(database))
    already = f" {counted(known, 'address was', 'addresses were')} on the list already." if known else ""
    click.echo(f"{counted(added, 'address', 'addresses')} added.{already}")
    return added + known


def _change(settings: Settings, changes: Iterable[HandChange]) -> int:
    """Make the changes, and return their number."""
    assert settings.suppression is not None  # noqa: S101 - `list_settings` has checked it
    require_owner(settings)
    with faults(settings.suppression):
        written = write(settings, changes, by=_user())
        if written.last is not None and not wait_until_applied(settings, written.last, within=_WITHIN):
            click.echo("The journal has the change. The sidecar has not applied it yet.", err=True)
    return written.count


def _user() -> str:
    """Return the user who started the command, also behind sudo. It is a claim, and no proof."""
    return os.environ.get("SUDO_USER") or name_of_user(os.getuid())


def _reason(text: str) -> str:
    if (reason := reason_of(text)) is None:
        raise click.BadParameter(
            f"Write one line of at most {REASON_LIMIT} characters, without control characters.", param_hint="--reason"
        )
    return reason
