"""`sidecar stats`: count the records of a range of time."""

import logging
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from itertools import chain, zip_longest
from pathlib import Path
from socket import gethostname
from types import ModuleType

import click
from msgspec.structs import replace
from rich.cells import cell_len
from rich.console import Console, Group
from rich.table import Column, Table
from rich.text import Text

from sidecar.commands.stats.collector import Collector
from sidecar.commands.stats.forms import Forms
from sidecar.commands.stats.summary import Ranking, RankingEntry, Summary
from sidecar.commands.stats.timeline import Timeline
from sidecar.commands.stats.wording import extent, headline, nothing_found, parse_when, share, span, sparkline, tick
from sidecar.core.records import Logged, decode
from sidecar.core.settings.fleet import FleetSettings
from sidecar.core.text import counted, printable, rfc3339
from sidecar.fleet import STREAM, is_stream, open_stream
from sidecar.journal.read import STDIN, Line, Skipped, read, stored_size
from sidecar.output.help import INTERRUPTED, Command
from sidecar.output.logs import warn_of_skipped_files
from sidecar.output.problems import config_option, journal_or_exit, reader_settings_or_exit
from sidecar.output.streams import print_json, write_file
from sidecar.output.terminal import GAP, TextTable, console, plain, print_text, progress

_ROWS = 10
# The reasons are sentences, which a pipe folds too: in a mail of cron, for example.
_PIPE_WIDTH = 100
# From this width on, two tables are side by side.
_WIDE = 120
_FEWEST_BARS = 10
_STYLES = {"Rejection": "red", "Reception": "green", "OOB": "yellow", "Feedback": "magenta", "Delivery": "cyan"}


_FILE = click.Path(path_type=Path, dir_okay=False)


def _when(_context: click.Context, _parameter: click.Parameter, text: str | None) -> float | None:
    try:
        return None if text is None else parse_when(text, time.time())
    except ValueError as error:
        raise click.BadParameter(f"{printable(str(error))}.") from error


@click.command(
    "stats",
    cls=Command,
    examples=[
        "sidecar stats --config /etc/sidecar/sidecar.toml --since today",
        "sidecar stats --since 2026-11-22T08:00+01:00 --until 2026-11-22T12:00+01:00 \\\n    /var/log/kumomta",
        "sidecar stats --config sidecar.toml --since 7d --html week.html --png week.png",
        "sidecar stats --config sidecar.toml --since 8d --drift 1d",
        "sidecar stats --config sidecar.toml --since 1h nats://",
        "zcat old.jsonl.gz | sidecar stats --json - | jq '.peers.top[:3]'",
    ],
    statuses={0: "all records were counted", 1: "a file cannot be read or written, or --drift marks a reporter"},
)
@config_option
@click.option("--since", metavar="WHEN", callback=_when, help="Only records at or after this time.")
@click.option("--until", metavar="WHEN", callback=_when, help="Only records before this time.")
@click.option(
    "--drift",
    metavar="WHEN",
    callback=_when,
    help="Compare the reports since this time with those before it; exit status 1 if a reporter's reports have lost values.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.option("--html", metavar="FILE", type=_FILE, help="Also write a page with tables and plots.")
@click.option("--png", metavar="FILE", type=_FILE, help="Also write the plots as one picture.")
@click.argument("paths", nargs=-1, type=click.Path(), metavar="[PATH]...")
def command(  # noqa: PLR0913, PLR0917 - one for each option
    config: Path | None,
    since: float | None,
    until: float | None,
    drift: float | None,
    html: Path | None,
    png: Path | None,
    paths: tuple[str, ...],
    *,
    as_json: bool,
) -> None:
    """Count records by type, reason, peer, domain, reporter, bounce class and time.

    PATH is a log, the sidecar's or KumoMTA's, plain or zstd: a file, a folder of segments, or - for standard input; nats:// is
    the stream of all nodes, and nats://NODE that of one; [fleet] in the settings has the servers. The default is the journal of
    the settings.

    WHEN is a date (its midnight), a time such as 2026-11-22T08:30 or another form of RFC 3339, today, yesterday, now, or an
    age: 90s, 15m, 1h, 7d, 2w. Times are UTC, unless they have an offset (2026-11-22T08:30+01:00).

    "Forms of reports" shows for each reporter, by the domain of its hosts, which part of its reports lost values that a sender
    needs, had values that were derived from a text or from returned headers, or could not be parsed. With --drift a reporter is
    marked if such reports clearly became more frequent; the column "before" has their part before WHEN. A reporter with fewer
    than 20 reports before or after WHEN is not marked.

    Figures count records. A record of many rejections counts as that many. If there are tens of thousands of names, the rarest
    are not counted one by one, and the output marks each figure that is a lower bound.
    """
    streams = [path for path in paths if path.startswith(STREAM)]
    if config is not None and len(paths) > len(streams):
        raise click.UsageError("--config and PATH both name logs to read; write one of them.")
    if since is not None and until is not None and since >= until:
        raise click.UsageError(f"--since, {rfc3339(int(since))}, is not before --until, {rfc3339(int(until))}.")
    plots = _plots() if html or png else None
    fleet = reader_settings_or_exit(config).fleet if streams else None
    sources = [Path(path) for path in paths] or [journal_or_exit(config)]
    collector = Collector(since, until, drift)
    for source in sources:
        warn_of_skipped_files(source)
    status = _count(sources, fleet, collector, since)
    summary = collector.summary()
    if not summary.records and since is not None and not status:
        summary = _with_extent(summary, sources, fleet, Collector(since, until))
    # Before any output: `| head` can end the program there.
    if plots is not None and not status:
        if html is not None:
            from sidecar.commands.stats.page import VARIANTS, page  # noqa: PLC0415 - see the module

            variants = {(dark, narrow): plots.timeline_svg(summary, dark=dark, narrow=narrow) for dark, narrow in VARIANTS}
            write_file(html, page(summary, variants, host=gethostname(), made=rfc3339(int(time.time()))).encode())
        if png is not None:
            write_file(png, plots.picture(summary, host=gethostname()))
    if as_json:
        print_json(summary)
    else:
        _print(console(pipe_width=_PIPE_WIDTH), summary)
    sys.exit(status or int(summary.forms.drifted > 0))


def _plots() -> ModuleType:
    # matplotlib logs warnings about its caches.
    logging.getLogger("matplotlib").setLevel(logging.ERROR)
    try:
        return import_module("sidecar.commands.stats.plots")
    except ImportError as error:
        reason = printable(str(error))
        fix = "Install sidecar[plots] (with the Debian package: python3-matplotlib), or remove --html and --png."
        raise click.ClickException(f"Plots need matplotlib, which cannot be loaded ({reason}). {fix}") from error


@contextmanager
def _whole_records(collector: Collector) -> Iterator[Callable[[Logged], None]]:
    """Yield `collector.add` in a form that Ctrl-C does not interrupt: it is raised after the record."""
    adding = interrupted = False

    def interrupt(*_: object) -> None:
        nonlocal interrupted
        interrupted = True
        if not adding:
            raise KeyboardInterrupt

    def add(record: Logged) -> None:
        nonlocal adding
        adding = True
        collector.add(record)
        adding = False
        if interrupted:
            raise KeyboardInterrupt

    before = signal.signal(signal.SIGINT, interrupt)
    try:
        yield add
    finally:
        signal.signal(signal.SIGINT, before)


def _count(sources: Sequence[Path], fleet: FleetSettings | None, collector: Collector, since: float | None) -> int:
    """Count all records. Return the exit status. After Ctrl-C the figures so far remain."""
    try:
        with _whole_records(collector) as add:
            first = _read(sources, fleet, collector, add, since)
    except KeyboardInterrupt:
        click.echo("Interrupted: the figures are incomplete, and no file was written.", err=True)
        return INTERRUPTED
    if first is not None:
        click.echo(f"Some lines are no records; the first is {printable(first)}.", err=True)
    return 0


def _read(
    sources: Sequence[Path],
    fleet: FleetSettings | None,
    collector: Collector,
    add: Callable[[Logged], None],
    since: float | None,
) -> str | None:
    """Pass each record to `add`, and count the other lines. Return the first of these lines, and the reason."""
    first = None
    sizes = [None if is_stream(source) else stored_size(source, since=since) for source in sources]
    with progress("records", total=None if None in sizes else sum(filter(None, sizes))) as bar:
        for line in chain.from_iterable(_lines(source, fleet, since, bar.read) for source in sources):
            bar.one_more()
            why = None
            if isinstance(line, Skipped):
                # The last line of a log can still be incomplete.
                why = None if line.unfinished else line.why
            else:
                try:
                    record = decode(line.text)
                except ValueError as error:
                    why = str(error)
                else:
                    add(record)
            if why is not None:
                collector.skip()
                first = first or f"{line.file}:{line.number}: {why}"
    return first


def _lines(
    source: Path, fleet: FleetSettings | None, since: float | None, progress: Callable[[int], object]
) -> Iterator[Line | Skipped]:
    if not is_stream(source):
        yield from read(source, since=since, progress=progress)
        return
    with open_stream(source, fleet) as stream:
        yield from stream.lines(since=since)


def _with_extent(summary: Summary, sources: Sequence[Path], fleet: FleetSettings | None, collector: Collector) -> Summary:
    """Add the first and last time of the logs. Old files were left out, so `collector` reads all of them."""
    _read([source for source in sources if source != STDIN], fleet, collector, collector.add, None)
    whole = collector.summary()
    known = sorted(filter(None, (whole.log_first, whole.log_last, summary.log_first, summary.log_last)))
    return replace(summary, log_first=known[0], log_last=known[-1]) if known else summary


def _print(screen: Console, summary: Summary) -> None:
    if not summary.records:
        print_text(screen, nothing_found(summary))
        return
    print_text(screen, headline(summary), style="bold")
    if summary.untimed:
        screen.print(f"{counted(summary.untimed, 'record')} without a time.")
    screen.print()
    screen.print(_over_time(screen, summary))
    screen.print(_ranking("Reasons", summary.reasons))
    tables = [_ranking(title, ranking) for title, ranking in summary.names()]
    tables += [_forms(summary.forms)] if summary.forms.reporters else []
    if not screen.is_terminal or screen.width < _WIDE:
        screen.print(*tables, sep="")
        return
    grid = Table.grid(Column(ratio=1), Column(ratio=1), padding=(0, 4, 0, 0), expand=True)
    for left, right in zip_longest(tables[::2], tables[1::2], fillvalue=""):
        grid.add_row(left, right)
    screen.print(grid)


def _over_time(screen: Console, summary: Summary) -> TextTable:
    """Return one line for each type, its bars in its own scale, its fullest bucket, and the times of the first and last bar."""
    timeline = summary.timeline
    shown = TextTable("type", "count#", "" if timeline is None else f"in {span(timeline.seconds)}, over time", "most#", "at")
    beside = [("type", "count", "most", "at"), *(_beside_bars(entry, timeline) for entry in summary.types.top)]
    room = screen.width - sum(max(map(cell_len, texts)) + GAP for texts in zip(*beside, strict=True))
    columns = max(_FEWEST_BARS, room)
    bars = ""
    for entry, (name, count, most, at) in zip(summary.types.top, beside[1:], strict=True):
        style = _STYLES.get(entry.name, "")
        counts = [] if timeline is None else timeline.series.get(entry.name, [])
        bars = sparkline(counts, columns, ascii_only=screen.options.ascii_only)
        shown.add_row(plain(name, style), count, Text(bars, style), most, at)
    if timeline is not None:
        begin, end = (tick(seconds, timeline.seconds) for seconds in (timeline.start, timeline.end))
        shown.add_row("", "", f"{begin} {end.rjust(len(bars) - len(begin) - 1)}", "", "", style="dim")
    return shown


def _beside_bars(entry: RankingEntry, timeline: Timeline | None) -> tuple[str, str, str, str]:
    """Return the type, its count, the count of its fullest bucket, and the begin of that bucket."""
    counts = [] if timeline is None else timeline.series.get(entry.name, [])
    if timeline is None or not counts:
        return entry.name, f"{entry.count:,}", "", ""
    fullest = max(counts)
    at = tick(timeline.start + timeline.seconds * counts.index(fullest), timeline.seconds)
    return entry.name, f"{entry.count:,}", f"{fullest:,}", at


def _forms(forms: Forms) -> Group:
    """Return a line for each reporter: the parts of its reports and, if they are compared, what was not complete before."""
    compared = forms.since is not None
    made = TextTable("reports#", "lost#", "derived#", "unparsable#", *["before#"] * compared, "reporter", "")
    for one in forms.reporters[:_ROWS]:
        now = one.forms
        parts = [share(count, now.total) for count in (now.lost, now.derived, now.unparsable)]
        before = [f"{100 * one.before.share:.1f} %" if one.before.total else "-"] if one.before is not None else []
        mark = Text("drifted", "bold red") if one.drifted else ""
        made.add_row(f"{now.total:,}", *parts, *before, plain(one.name), mark)
    return Group("", Text("Forms of reports", "bold"), made)


def _ranking(title: str, ranking: Ranking) -> Group:
    shown = ranking.first(_ROWS)
    remark = extent(ranking, len(shown.top))
    typed = any(entry.type is not None for entry in shown.top)
    made = TextTable("count#", "share#", *["type"] * typed, "name", headed=False)
    for entry in shown.top:
        kind = plain(entry.type or "", _STYLES.get(entry.type or "", ""))
        made.add_row(f"{entry.count:,}", share(entry.count, ranking.total), *[kind] * typed, plain(entry.name))
    if shown.others:
        made.add_row(f"{shown.others:,}", share(shown.others, ranking.total), *[""] * typed, "others", style="dim")
    return Group("", Text.assemble((title, "bold"), f" ({remark})" if remark else ""), made)
