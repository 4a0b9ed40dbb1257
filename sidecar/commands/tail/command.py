"""`sidecar tail`: show the journal, or another log, while it is written."""

import sys
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, get_args

import click
from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from sidecar.commands.tail.filters import RecordFilter, make_filter
from sidecar.commands.tail.view import LinePart, block_of, line_of
from sidecar.core.disposition import Disposition
from sidecar.core.proof.values import Level
from sidecar.core.records import TYPES, Logged
from sidecar.core.text import printable, printable_json
from sidecar.fleet import is_stream, open_stream
from sidecar.journal import JournalError
from sidecar.journal.read import Follower, Line, kind_of, read
from sidecar.journal.read.order import OrderedLine, entries, latest, merged
from sidecar.output.help import Command, completion
from sidecar.output.logs import polls, warn_of_skipped_files
from sidecar.output.problems import config_option, journal_or_exit, reader_settings_or_exit
from sidecar.output.terminal import console, plain
from sidecar.output.wrapping import wrap_line

if TYPE_CHECKING:
    from sidecar.fleet.source import StreamSource

_ALL = "all"
_DEFAULT_LINES = "10"
# What has no room in the first line begins below the type.
_INDENT = len("09:30:00 ")

Write = Callable[[Line, Logged], None]


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
        "sidecar tail -n all --no-follow --full --queue-id 4QvJ1x3Pwzz1234",
        "sidecar tail --config /etc/sidecar/sidecar.toml --type OOB nats://",
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
@click.option("--queue-id", "queue_ids", metavar="ID", multiple=True, help="Only records with this queue id of the MTA.")
@click.option(
    "--verified",
    metavar="LEVEL",
    multiple=True,
    type=click.Choice(get_args(Level)),
    help="Only records with this proof: recipient, message or none (meta.verified).",
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
@click.option("--full", is_flag=True, help="Show all facts of each record: all recipients, dropped ones, queue id...")
@click.option("--local-time", is_flag=True, help="Show times in the time zone of this machine.")
@click.option("--json", "as_json", is_flag=True, help="Print the records as they were written, one a line.")
def command(  # noqa: PLR0913 - one for each option
    config: Path | None,
    path: Path | None,
    *,
    types: tuple[str, ...],
    dispositions: tuple[str, ...],
    peers: tuple[str, ...],
    domains: tuple[str, ...],
    queue_ids: tuple[str, ...],
    verified: tuple[str, ...],
    reason: str,
    lines: str | None,
    no_follow: bool,
    full: bool,
    local_time: bool,
    as_json: bool,
) -> None:
    """Show new records, one a line, with the reason. On a terminal long addresses and reasons have lines of their own.

    PATH is a file or a folder of segments, the sidecar's or KumoMTA's, plain or zstd, or '-' for standard input; nats:// is the
    stream of all nodes, and nats://NODE that of one; [fleet] in the settings has the servers. The default is the journal of the
    settings. With --no-follow PATH must exist; otherwise the command waits for it.

    You can repeat --type, --disposition, --peer, --domain, --queue-id and --verified: a record must match one of each. Times
    are in UTC, unless you use --local-time. Lines that are no records are reported on standard error.
    """
    from_stream = path is not None and is_stream(path)
    if path is not None and config is not None and not from_stream:
        raise click.UsageError("--config and PATH both name a log to read; write one of them.")
    if as_json and (full or local_time):
        raise click.UsageError("--json prints whole records as they were written; remove --full and --local-time.")
    try:
        wanted = make_filter(
            types=types,
            dispositions=dispositions,
            peers=peers,
            domains=domains,
            queue_ids=queue_ids,
            verified=verified,
            reason=reason,
        )
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    write = _write_json if as_json else _writer(console(), full=full, local=local_time)
    log = journal_or_exit(config) if path is None else path
    if from_stream:
        with open_stream(log, reader_settings_or_exit(config).fleet) as stream:
            _show_fleet(stream, wanted, lines or _DEFAULT_LINES, write, follow=not no_follow)
    elif kind_of(log) == "stream":
        _show_stream(log, wanted, lines or _ALL, write)
    else:
        _tail(log, wanted, lines or _DEFAULT_LINES, write, follow=not no_follow)


def _show_stream(log: Path, wanted: RecordFilter | None, lines: str, write: Write) -> None:
    """Show the records of a pipe as they arrive, or its last records."""
    shown = (entry for entry in entries(read(log)) if _is_shown(entry, wanted))
    if lines != _ALL:
        _show(deque(shown, maxlen=int(lines)), write)
        return
    for entry in shown:
        _show((entry,), write)


def _show_fleet(stream: "StreamSource", wanted: RecordFilter | None, lines: str, write: Write, *, follow: bool) -> None:
    """Show the records of a fleet's stream: all or the last ones, and then the new ones."""
    if lines != _ALL:
        newest = stream.newest(int(lines), lambda line: _is_shown(next(entries([line])), wanted, others=wanted is None))
        _show(entries(newest), write)
        if not follow:
            return
    for entry in entries(stream.lines(follow=follow)):
        if _is_shown(entry, wanted):
            _show((entry,), write)


def _tail(log: Path, wanted: RecordFilter | None, lines: str, write: Write, *, follow: bool) -> None:
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
        # A line that is no record is shown only where every record is.
        _show((entry for entry in merged(files) if _is_shown(entry, wanted, others=wanted is None)), write)
    else:
        _show(latest(files, number=int(lines), wanted=wanted), write)
    for new in polls(follower) if follow else ():
        _show((entry for entry in merged(new) if _is_shown(entry, wanted)), write)


def _is_shown(entry: OrderedLine, wanted: RecordFilter | None, *, others: bool = True) -> bool:
    """Return True if the filter wants a record. A line that cannot be read can be the one that the operator looks for."""
    return others if entry.record is None else wanted is None or wanted(entry.record)


def _show(shown: Iterable[OrderedLine], write: Write) -> None:
    for entry in shown:
        if isinstance(entry.line, Line) and entry.record is not None:
            write(entry.line, entry.record)
        else:
            # In order with the records.
            sys.stdout.flush()
            text = f"{entry.line.file}:{entry.line.number}: {entry.why}"
            console(stderr=True).print(plain(text, "dim"), soft_wrap=True)
    sys.stdout.flush()


def _write_json(line: Line, _record: Logged) -> None:
    sys.stdout.buffer.write(printable_json(line.text) + b"\n")


def _writer(screen: Console, *, full: bool, local: bool) -> Write:
    """Return what prints a record: one line, or a block of lines; wrapped on a terminal, whole in a pipe."""
    is_terminal, width = screen.is_terminal, screen.width

    def line(record: Logged) -> list[LinePart]:
        if not is_terminal:
            return line_of(record, local=local)
        now = datetime.now(UTC).astimezone() if local else datetime.now(UTC)
        return line_of(record, local=local, today=now.date().isoformat(), width=width)

    def write(_line: Line, record: Logged) -> None:
        for parts in block_of(record, local=local) if full else [line(record)]:
            if is_terminal:
                screen.print(_fact(parts, width) if full else _lines(parts, width), soft_wrap=True)
            else:
                sys.stdout.buffer.write(" ".join(part.text for part in parts if part.text).encode() + b"\n")

    return write


def _lines(parts: Sequence[LinePart], width: int) -> Text:
    """Return the parts in one line. From the first one without room, each has lines of its own."""
    shown, used, is_full = Text(), 0, False
    for part in filter(lambda part: part.text, parts):
        is_full = is_full or used + cell_len(part.text) > width
        if not is_full:
            shown.append(f"{part.text} ", part.style)
            used += cell_len(part.text) + 1
            continue
        shown.rstrip()
        for line in wrap_line(" " * _INDENT + part.text, width, indent=_INDENT):
            shown.append(f"\n{line}", part.style)
    shown.rstrip()
    return shown


def _fact(parts: Sequence[LinePart], width: int) -> Text:
    """Return a line of a block, with its last part wrapped."""
    *first, last = parts
    text = Text(" ").join(Text(part.text, style=part.style) for part in first)
    begun, *others = wrap_line(last.text, width, indent=_INDENT, start=cell_len(text.plain) + 1)
    if begun.strip():
        text.append(f" {begun}", style=last.style)
    for line in others:
        text.append(f"\n{line}", style=last.style)
    return text
