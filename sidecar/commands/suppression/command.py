"""`sidecar suppression` and the commands that read the list: list, show, export, stats."""

import sqlite3
from collections.abc import Collection, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import click

from sidecar.commands.suppression.alone import erase, rebuild
from sidecar.commands.suppression.changing import add, import_list, remove
from sidecar.commands.suppression.opening import (
    READ_STATUSES,
    key_or_usage_error,
    list_settings,
    now,
    opened,
)
from sidecar.commands.suppression.simulate import simulate
from sidecar.core.names import normal_domain
from sidecar.core.settings.settings import Settings
from sidecar.core.settings.suppression import SuppressionSettings
from sidecar.core.suppressed import ListQuery, ShownEntry, csv_lines
from sidecar.core.text import counted, printable, rfc3339
from sidecar.journal.read import Checkpoints
from sidecar.output.help import CommandGroup
from sidecar.output.problems import config_option
from sidecar.output.streams import print_json
from sidecar.output.terminal import TextTable, console, plain
from sidecar.suppression import READER
from sidecar.suppression.listing import shown
from sidecar.suppression.serving import history_of

_PAGE = 1000
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@click.group(
    "suppression",
    cls=CommandGroup,
    examples=[
        "sidecar suppression list --domain example.com",
        "sidecar suppression show user@example.com",
        "sidecar suppression remove --reason 'mailbox is fixed' user@example.com",
        "sidecar suppression export > list.csv",
        "sidecar suppression simulate --records /var/lib/sidecar/journal",
    ],
    statuses={0: "success", 1: "the list cannot be read, or an address is not on it"},
)
def command() -> None:
    """List the addresses that bounce reports and complaints have put on the suppression list.

    `[suppression]` in the settings turns the list on. `sidecar run` keeps it up to date.
    """


for _command in (add, remove, import_list, erase, rebuild, simulate):
    command.add_command(_command)


@command.command(
    "list",
    short_help="List the suppressed addresses with the reasons.",
    examples=["sidecar suppression list --domain example.com --json"],
    statuses=READ_STATUSES,
)
@config_option
@click.option("--prefix", default="", metavar="TEXT", help="Only addresses that begin with TEXT.")
@click.option("--domain", default="", metavar="DOMAIN", help="Only addresses in DOMAIN, without its subdomains.")
@click.option("--after", default="", metavar="ADDRESS", help="Begin after ADDRESS: the last one of the page before.")
@click.option(
    "--limit", type=click.IntRange(1), default=_PAGE, metavar="N", show_default=True, help="List N addresses at most."
)
@json_option
def list_entries(  # noqa: PLR0913 - each is an option
    config: Path | None, *, prefix: str, domain: str, after: str, limit: int, as_json: bool
) -> None:
    """List the suppressed addresses, with the reason, in the order of the addresses.

    With --json each line is one object. If `store` is "hashed", the list has hashes, and --domain finds nothing.
    """
    whole, settings = list_settings(config)
    wanted = ListQuery(after=after.lower(), prefix=prefix.lower(), domain=domain and (normal_domain(domain) or domain.lower()))
    count, last = 0, ""
    table = TextTable("address", "reason", "since", "expires", *(["nodes"] if whole.fleet else []))
    with opened(settings) as database:
        for one in islice(database.entries(now(), wanted), limit):
            count, last = count + 1, one.address
            entry = shown(one.address, one)
            if as_json:
                print_json(entry)
            else:
                nodes = [", ".join(entry.nodes)] if whole.fleet else []
                table.add_row(plain(entry.address), plain(entry.reason), entry.since, entry.expires or "never", *nodes)
    if not as_json:
        console().print(table) if count else click.echo(_nothing(settings, is_part=bool(prefix or domain or after)))
    if count == limit:
        click.echo(printable(f"There can be more: --after {last}"), err=True)


def _nothing(settings: SuppressionSettings, *, is_part: bool) -> str:
    if is_part and settings.store == "hashed":
        return 'With store = "hashed" addresses cannot be searched. `sidecar suppression show ADDRESS` finds one.'
    return "No address on the list matches." if is_part else "No address is on the list."


@command.command(
    "show",
    short_help="Show if an address is suppressed, and why.",
    examples=["sidecar suppression show user@example.com"],
    statuses={0: "the address is on the list", 1: "it is not on the list, or the list cannot be read"},
)
@config_option
@json_option
@click.argument("address")
def show(config: Path | None, address: str, *, as_json: bool) -> None:
    """Show if an address is suppressed, and why: the reports and the changes by hand, the oldest first.

    The last column is the `meta.message_id` of the records of a report, or the `id` of the record of a change. With `[fleet]`
    the node that has the record follows.
    """
    _, settings = list_settings(config)
    key = key_or_usage_error(address)
    with opened(settings) as database:
        found = history_of(database, key, now())
    if as_json:
        print_json(found)
    else:
        _print_entry(key, found.entry)
        for one in found.events:
            node = f"  {one.node}" if one.node else ""
            click.echo(printable(f"  {one.time}  {one.kind}  {one.reason}  {one.id}{node}"))
    if found.entry is None:
        raise click.exceptions.Exit(1)


def _print_entry(address: str, entry: ShownEntry | None) -> None:
    if entry is None:
        click.echo(printable(f"{address} is not on the list."))
        return
    until = "until it is removed" if entry.expires is None else f"until {entry.expires}"
    click.echo(printable(f"{address} is on the list: {entry.reason}, since {entry.since}, {until}."))


@command.command(
    "export",
    short_help="Write the whole list as CSV or JSON lines.",
    examples=["sidecar suppression export --format jsonl > list.jsonl"],
    statuses=READ_STATUSES,
)
@config_option
@click.option("--format", "form", type=click.Choice(["csv", "jsonl"]), default="csv", show_default=True, help="The format.")
def export(config: Path | None, form: str) -> None:
    """Write the whole list: CSV with a head line, or one JSON object a line.

    In CSV, a text that begins with = + - @ or ' has one more ' before it, because a spreadsheet would compute it as a formula.
    Programs read JSON lines. `import` reads both.
    """
    _, settings = list_settings(config)
    with opened(settings) as database:
        entries = (shown(one.address, one) for one in database.entries(now()))
        if form == "jsonl":
            for entry in entries:
                print_json(entry)
        else:
            for line in csv_lines(entries):
                click.echo(line, nl=False)


@command.command(
    "backup",
    examples=["sidecar suppression backup /var/backups/suppression.db"],
    statuses={0: "success", 1: "the list cannot be read, or the file cannot be written"},
)
@config_option
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
def backup(config: Path | None, file: Path) -> None:
    """Copy the database to FILE, also while the sidecar uses it.

    To restore it, stop the sidecar, remove the files beside the database that end in -wal and -shm, and put FILE in its place.
    The sidecar then reads the journal from there on. With `store = "hashed"` the key is a file of its own, and not in FILE.
    """
    _, settings = list_settings(config)
    with opened(settings) as database:
        try:
            database.backup(file)
        except (OSError, sqlite3.OperationalError) as error:
            raise click.ClickException(printable(f"{file} cannot be written: {error}.")) from error


@command.command(
    "stats",
    short_help="Count the entries, and the reports in the journal.",
    examples=["sidecar suppression stats --json"],
    statuses=READ_STATUSES,
)
@config_option
@json_option
def stats(config: Path | None, *, as_json: bool) -> None:
    """Count the entries by reason, and the reports of the journal that counted or did not.

    `not_proved` reports have less proof than `trust`; for `no_rule` reports no rule has their class or type; `no_address` and
    `several_recipients` do not say which recipient they are about.

    With `[fleet]` it also counts the entries by the nodes behind them, and what this node has not published yet. The journal is
    that of this node.
    """
    whole, settings = list_settings(config)
    with opened(settings) as database:
        counts, counters, fleet = database.counts(now()), database.counters(), database.counts_of_fleet(now())
    shared = None if fleet is None else fleet | _difference(whole)
    journal = dict(sorted(counters.items()))
    if as_json:
        entries = [{"source": source, "reason": reason, "count": count} for (source, reason), count in sorted(counts.items())]
        facts = {"entries": sum(counts.values()), "by_reason": entries, "journal": journal}
        print_json(facts if shared is None else {**facts, "fleet": shared})
        return
    reasons = [(reason or source, count) for (source, reason), count in sorted(counts.items())]
    _print_counts("entries", reasons, "No address is on the list.")
    click.echo()
    _print_counts("in the journal", journal.items(), "The journal has no reports and no changes of the list.")
    if shared is not None:
        _print_shared(shared)


def _difference(settings: Settings) -> dict[str, str | None]:
    """Return since when the list is not the same as that of the other nodes (RFC 3339; None if it is), and why."""
    readers = Checkpoints(settings.checkpoints_directory).all_known()
    reader = next((one for one in readers if one.name == READER and one.oldest), None)
    return {"behind_since": None if reader is None else rfc3339(reader.oldest), "fault": "" if reader is None else reader.fault}


def _print_shared(shared: Mapping[str, Any]) -> None:
    click.echo()
    _print_counts("entries of", shared["by_node"].items(), "No node has an entry.")
    if unpublished := shared["unpublished"]:
        click.echo(f"Not published yet: what is new about {counted(unpublished, 'address', 'addresses')}.")
    if shared["behind_since"] is not None:
        why = f": {shared['fault']}" if shared["fault"] else ""
        click.echo(printable(f"The list differs from that of the other nodes since {shared['behind_since']}{why}."))


def _print_counts(heading: str, counts: Collection[tuple[str, int]], otherwise: str) -> None:
    table = TextTable(heading, "count#")
    for name, count in counts:
        table.add_row(plain(name), f"{count:,}")
    console().print(table) if counts else click.echo(otherwise)
