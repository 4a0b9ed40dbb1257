"""`sidecar index`: the index of the journal that the console searches: how far it is, and a new one."""

import time
from contextlib import closing
from pathlib import Path

import click

from sidecar.core.settings.settings import Settings
from sidecar.core.text import in_time, in_units, printable, rfc3339
from sidecar.journal.database import remove_log
from sidecar.journal.index import open_index
from sidecar.journal.index.follower import IndexFollower
from sidecar.journal.index.keeping import IndexBusyError, locked
from sidecar.journal.index.store import BY_OPERATOR, ask_for_rebuild
from sidecar.output.help import CommandGroup
from sidecar.output.problems import config_option, reader_settings_or_exit, require_owner
from sidecar.output.streams import print_json

# The sidecar notes every 10 seconds that it has read everything.
_LATE_SECONDS = 60


@click.group(
    "index",
    cls=CommandGroup,
    examples=["sidecar index status", "sidecar index rebuild"],
    statuses={0: "success", 1: "the index cannot be read or written, or is behind the journal"},
)
def command() -> None:
    """Show the state of the index that the console searches, or rebuild it from the journal.

    `console = true` below [admin] turns the index on. `sidecar run` keeps it up to date.
    """


@command.command(
    "status",
    short_help="Show how far the index has read the journal.",
    examples=["sidecar index status --json"],
    statuses={0: "the index has all records", 1: "it cannot be read, or is behind the journal"},
)
@config_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def status(config: Path | None, *, as_json: bool) -> None:
    """Show how far the index has read the journal, and its size."""
    settings = _settings(config)
    with closing(open_index(settings)) as index:
        position = index.position()
    size = settings.index_file.stat().st_size
    late = int(time.time()) - position.caught_up
    newest = rfc3339(int(position.newest)) if position.newest else None
    if as_json:
        # Null is never.
        caught_up = rfc3339(position.caught_up) if position.caught_up else None
        print_json({"newest": newest, "caught_up": caught_up, "size": size})
    else:
        newest = "It has no records." if newest is None else f"The newest record is from {newest}."
        click.echo(printable(f"{settings.index_file} has {in_units(size)}. {newest} {_words(position.caught_up, late)}"))
    if late > _LATE_SECONDS:
        raise click.exceptions.Exit(1)


def _words(caught_up: int, late: int) -> str:
    if not caught_up:
        return "The journal has not been read to its end yet."
    if late > _LATE_SECONDS:
        return f"All of the journal had been read last {in_time(late)} ago: is the sidecar running?"
    return "All of the journal has been read."


@command.command(
    "rebuild",
    short_help="Rebuild the index from the journal.",
    examples=["sidecar index rebuild"],
    statuses={0: "success, or the sidecar that is running has begun", 1: "the index cannot be written"},
)
@config_option
def rebuild(config: Path | None) -> None:
    """Rebuild the index from the journal. If the sidecar is running, it does this itself, and its milter keeps running.

    A damaged index and one of another version need no rebuild: the sidecar does that work itself. A million records need about
    a minute.
    """
    settings = _settings(config)
    require_owner(settings)
    try:
        with locked(settings):
            settings.index_file.unlink(missing_ok=True)
            remove_log(settings.index_file)
            with IndexFollower(settings) as follower:
                follower.build()
        click.echo("The index has all records of the journal.")
    except IndexBusyError:
        ask_for_rebuild(settings.index_file, BY_OPERATOR)
        click.echo("The sidecar makes the index again. `sidecar index status` shows when it has read all of the journal.")


def _settings(config: Path | None) -> Settings:
    settings = reader_settings_or_exit(config)
    if settings.admin is None or not settings.admin.console:
        raise click.ClickException("The settings have no console. Write console = true below [admin], and restart the sidecar.")
    return settings
