"""`sidecar tail`: show the journal, or another log, while it is written."""

import sys
from collections import deque
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path

import click
from rich.text import Text

from sidecar.commands.tail.filters import Filters
from sidecar.commands.tail.view import Kind, line_of
from sidecar.core.disposition import Disposition
from sidecar.core.records import TYPES
from sidecar.core.text import printable, printable_json
from sidecar.journal import JournalError
from sidecar.journal.read import Follower, Line, kind_of, read
from sidecar.journal.read.order import OrderedLine, entries, latest, merged
from sidecar.output.help import Command, completion
from sidecar.output.logs import polls, warn_of_skipped_files
from sidecar.output.problems import config_option, sentence, settings_or_exit
from sidecar.output.terminal import console, plain

_STYLES: dict[Kind, str] = {"aside": "dim", "good": "green", "bad": "red", "soft": "yellow", "report": "magenta", "text": ""}

_ALL = "all"
_DEFAULT_LINES = "10"

Show = Callable[[Iterable[OrderedLine]], None]


def _number(_ctx: click.Context, _option: click.Parameter, value: str | None) -> str | None:
    if value is not None and value != _ALL and not (value.isascii() and value.isdecimal()):
        raise click.BadParameter(f"write a number, or {_ALL}.")
    return value


@click.command(
    "tail",
    cls=Command,
    examples=[
        "sidecar tail --config /etc/sidecar/sidecar.toml",
        "sidecar tail --type Rejection --domain '*.example.com'",
        "sidecar tail -n all --no-follow --json --peer 203.0.113.0/24 /var/log/kumomta",
    ],
    statuses={0: "the log was shown to its end", 1: "the log cannot be read"},
)
@config_option
@click.argument("path", required=False, type=click.Path(path_type=Path))
@click.option(
    "--type",
    "types",
    metavar="TYPE",
    multiple=True,
    shell_complete=completion(TYPES),
    help="Only records of this type: Reception, Rejection, OOB, Feedback...",
)
@click.option(
    "--disposition",
    "dispositions",
    metavar="WORD",
    multiple=True,
    type=click.Choice([one.value for one in Disposition]),
    help="Only records with this disposition: relayed, logged_and_dropped, rejected_at_rcpt...",
)
@click.option("--peer", "peers", metavar="CIDR", multiple=True, help="Only records of these peers.")
@click.option(
    "--domain",
    "domains",
    metavar="NAME",
    multiple=True,
    help="Only this domain of the recipient or the queue; *.NAME for all names below it.",
)
@click.option(
    "--reason", metavar="TEXT", default="", help="Only records with this text in the reason or the reply, in any case."
)
@click.option(
    "-n",
    "--lines",
    metavar="N",
    callback=_number,
    help="Begin with the last N records of the newest 256 MB; 'all' reads the whole log.  [default: 10]",
)
@click.option("--no-follow", is_flag=True, help="Exit at the end of the log.")
@click.option("--json", "as_json", is_flag=True, help="Print the records as they were written, one a line.")
def command(  # noqa: PLR0913 - one for each option
    config: Path | None,
    path: Path | None,
    *,
    types: tuple[str, ...],
    dispositions: tuple[str, ...],
    peers: tuple[str, ...],
    domains: tuple[str, ...],
    reason: str,
    lines: str | None,
    no_follow: bool,
    as_json: bool,
) -> None:
    """Show new records, one a line, with the reason.

    PATH is a file or a folder of segments, the sidecar's or KumoMTA's, plain or zstd, or '-' for standard input. The default
    is the journal of the settings. With --no-follow PATH must exist; otherwise the command waits for it.

    You can repeat --type, --disposition, --peer and --domain: a record must match one of each. Times are in UTC. Lines that
    are no records are reported on standard error.
    """
    if path is not None and config is not None:
        raise click.UsageError("--config and PATH both name a log to read; write one of them.")
    try:
        filters = Filters(types=types, dispositions=dispositions, peers=peers, domains=domains, reason=reason)
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    log = settings_or_exit(config).journal.directory if path is None else path
    show = _show_json if as_json else _terminal() if console().is_terminal else _show_lines
    try:
        if kind_of(log) == "stream":
            _show_stream(log, filters, lines or _ALL, show)
        else:
            _tail(log, filters, lines or _DEFAULT_LINES, show, follow=not no_follow)
    except JournalError as error:
        raise click.ClickException(sentence(error)) from error


def _show_stream(log: Path, filters: Filters, lines: str, show: Show) -> None:
    """Show the records of a pipe as they arrive, or its last records."""
    wanted = (entry for entry in entries(read(log)) if entry.record is None or filters.want(entry.record))
    if lines != _ALL:
        show(deque(wanted, maxlen=int(lines)))
        return
    for entry in wanted:
        show((entry,))


def _tail(log: Path, filters: Filters, lines: str, show: Show, *, follow: bool) -> None:
    is_missing = kind_of(log) == "nothing"
    if is_missing and not follow:
        raise JournalError(f"{log} does not exist; write the path of a log, or remove --no-follow to wait for it")
    if is_missing:
        click.echo(printable(f"{log} does not exist; waiting for it."), err=True)
    elif not follow:
        warn_of_skipped_files(log)
    follower = Follower(log, growing=follow)
    files = follower.look()
    if lines == _ALL:
        # A line that is no record is wanted only where every record is.
        every = filters.wanted is None
        show(entry for entry in merged(files) if (every if entry.record is None else filters.want(entry.record)))
    else:
        show(latest(files, number=int(lines), wanted=filters.wanted))
    for new in polls(follower) if follow else ():
        # A line that cannot be read can be the one that the operator looks for.
        show(entry for entry in merged(new) if entry.record is None or filters.want(entry.record))


def _show_json(shown: Iterable[OrderedLine]) -> None:
    for entry in shown:
        if isinstance(entry.line, Line) and entry.record is not None:
            sys.stdout.buffer.write(printable_json(entry.line.text) + b"\n")
        else:
            _report(entry)
    sys.stdout.flush()


def _show_lines(shown: Iterable[OrderedLine]) -> None:
    for entry in shown:
        if entry.record is None:
            _report(entry)
        else:
            sys.stdout.buffer.write(" ".join(part.text for part in line_of(entry.record)).encode() + b"\n")
    sys.stdout.flush()


def _terminal() -> Show:
    """Return a function that shows records on a terminal: in colour, each cut to one line."""
    terminal = console()

    def show(shown: Iterable[OrderedLine]) -> None:
        for entry in shown:
            if entry.record is None:
                _report(entry)
                continue
            today = datetime.now(UTC).date().isoformat()
            parts = line_of(entry.record, today=today, width=terminal.width)
            text = Text(" ").join(Text(part.text, style=_STYLES[part.kind]) for part in parts)
            terminal.print(text, no_wrap=True, overflow="ellipsis", crop=True)

    return show


def _report(entry: OrderedLine) -> None:
    """Report a line that is no record, in order with the others."""
    sys.stdout.flush()
    where = f"{entry.line.file}:{entry.line.number}"
    console(stderr=True).print(plain(f"{where}: {entry.why}", "dim"), soft_wrap=True)
