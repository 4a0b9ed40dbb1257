"""`sidecar replay`: what would become of stored mail under these settings."""

import os
import sys
import time
from functools import partial
from pathlib import Path
from threading import Thread

import click
from rich.console import Console
from rich.filesize import decimal
from rich.text import Text

from sidecar.commands.replay import Judge, Piece, ReasonGroup, ReplayTally, WorkerLost, WorkerPool, replay, tasks, weigh
from sidecar.commands.replay.tally import Reason
from sidecar.core.disposition import Disposition
from sidecar.core.evaluate.evaluator import Evaluator
from sidecar.core.text import counted, printable
from sidecar.output.help import INTERRUPTED, Command
from sidecar.output.problems import config_option, must_be_text, settings_or_exit
from sidecar.output.progress import Bar, progress
from sidecar.output.terminal import console, plain, table

# A stranger's: a network for documentation (RFC 5737), which is in nobody's relay_hosts.
_STRANGER = "192.0.2.1"
_ROWS = 20
_REPORTS = {"oob": "bounce report", "arf": "feedback report"}
_NOT_JUDGED: dict[str, str] = {"no_envelope": "skipped", "unreadable": "unreadable"}
_STYLES: dict[str, str] = {
    "relayed": "green",
    "logged_and_relayed": "green",
    "logged_and_dropped": "green",
    "quarantined": "yellow",
    "tempfailed": "yellow",
    "no_envelope": "yellow",
}


@click.command(
    "replay",
    cls=Command,
    examples=[
        "sidecar replay --config sidecar.toml /var/mail/bounces ~/Maildir",
        "sidecar replay --config sidecar.toml \\\n    --from '' --to x@bounce.example.com samples/*.eml",
        "sidecar replay --config sidecar.toml --json Maildir |\n    jq -r 'select(.not_judged == \"unreadable\").file'",
    ],
    statuses={0: "everything was read, whatever became of it", 1: "something cannot be read"},
)
@config_option
@click.option(
    "--peer", metavar="IP[:PORT]", default=_STRANGER, help=f"Who brings the mail; without it a stranger, {_STRANGER}."
)
@click.option("--listener", metavar="IP:PORT", help="The MTA's own end of the connection.")
@click.option("--auth", metavar="ID", help="Who the peer proved to be (SMTP AUTH).")
@click.option("--from", "sender", metavar="ADDR", help="The envelope sender of all messages; '' is the null sender.")
@click.option("--to", metavar="ADDR", multiple=True, help="A recipient of all messages; may be given many times.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a message, each on a line of its own.")
@click.argument("paths", nargs=-1, required=True, type=click.Path(), metavar="PATH...")
def command(  # noqa: PLR0913, PLR0917 - one for each option
    config: Path | None,
    peer: str,
    listener: str | None,
    auth: str | None,
    sender: str | None,
    to: tuple[str, ...],
    paths: tuple[str, ...],
    *,
    as_json: bool,
) -> None:
    """Say what would become of stored mail under these settings, without an MTA, and without changing anything.

    A PATH is a message file, an mbox, a Maildir, or a folder of all of these; - is one message from standard input. Links to
    folders are not followed. Each message goes through the code that the milter asks. Without --from and --to its envelope is
    what the MTA that delivered it wrote: Return-Path or the mbox line; X-Original-To, Envelope-To, Delivered-To or Received.
    Where none of these tells, From and To stand in, and the totals say so; a message that has none of them is skipped.
    """
    must_be_text(peer, listener, auth, sender, *to)
    settings = settings_or_exit(config, quiet=True)
    evaluator = Evaluator(settings)
    try:
        judge = Judge(evaluator=evaluator, peer=peer, listener=listener, auth=auth, sender=sender, recipients=to)
    except ValueError as error:
        raise click.UsageError(f"{printable(str(error))}.") from error
    if evaluator.policy.depends_on_listener and listener is None:
        click.echo("Some rules hold on one listener only; without --listener, one without rules of its own is meant.", err=True)
    sys.exit(_replay(judge, paths, as_json=as_json))


def _replay(judge: Judge, paths: tuple[str, ...], *, as_json: bool) -> int:
    """Let the workers do it, and tell what came of it; also of a part, where it did not come to its end."""
    total, began, status = ReplayTally(), time.monotonic(), 0
    wanted = not (as_json and sys.stdout.isatty())
    cores = len(os.sched_getaffinity(0))
    try:
        # The workers first: what shows the progress has threads, which a fork would not copy.
        with (
            WorkerPool(partial(replay, judge, with_lines=as_json), tasks(paths), count=cores) as workers,
            progress("messages", wanted=wanted) as bar,
        ):
            Thread(target=_weigh, args=(paths, bar), daemon=True).start()
            for batch in workers:
                total.merge(batch.tally)
                sys.stdout.buffer.write(batch.lines)
                sys.stdout.buffer.flush()
                bar.stand(total.size, total.messages)
    except KeyboardInterrupt:
        click.echo("Interrupted: this is not the whole.", err=True)
        status = INTERRUPTED
    except WorkerLost as lost:
        click.echo(_sentence(lost), err=True)
        status = 1
    if not as_json:
        _print_totals(total, time.monotonic() - began)
    if failed := total.count("unreadable"):
        named, more = printable("; ".join(total.unreadable)), "; ..." * (failed > len(total.unreadable))
        click.echo(f"{counted(failed, 'file')} could not be read: {named}{more}", err=True)
    return status or int(failed > 0)


def _weigh(paths: tuple[str, ...], bar: Bar) -> None:
    """Find out, while they are read, how much there is."""
    bar.total = weigh(paths)


def _sentence(lost: WorkerLost) -> str:
    task = lost.task if isinstance(lost.task, tuple) else ()
    pieces = [piece for piece in task if isinstance(piece, Piece)]
    where = f" It was reading {printable(pieces[0].path)}, or a file soon after it." if pieces else ""
    return f"{lost}{where}"


def _print_totals(total: ReplayTally, seconds: float) -> None:
    screen = console()
    rate = f"{total.messages / seconds:,.0f} a second"
    screen.print(f"{counted(total.messages, 'message')}, {decimal(total.size)} in {seconds:,.1f} s: {rate}.")
    taken = [counted(count, _REPORTS[kind]) for kind, count in sorted(total.reports.items(), reverse=True)]
    screen.print(f"Reports taken: {' and '.join(taken) or 'none'}.")
    if total.guessed:
        screen.print(f"{counted(total.guessed, 'envelope')} could only be guessed from From and To: --from and --to tell them.")
    if not total.groups:
        return
    screen.print()
    _print_groups(screen, total)


def _print_groups(screen: Console, total: ReplayTally) -> None:
    ordered = sorted(total.groups.items(), key=lambda item: -item[1].count)
    shown = table("disposition", "messages#", "reason")
    for reason, group in ordered[:_ROWS]:
        style = "yellow" if reason.partly else _STYLES.get(reason.outcome, "red")
        shown.add_row(Text(_outcome(reason), style=style), f"{group.count:,}", plain(_words(group)))
    screen.print(shown)
    if rest := ordered[_ROWS:]:
        more = sum(group.count for _, group in rest)
        screen.print(
            f"{counted(more, 'message')} more, for {counted(len(rest), 'other reason')}: --json tells the reason of each."
        )


def _outcome(reason: Reason) -> str:
    words = reason.outcome.words if isinstance(reason.outcome, Disposition) else _NOT_JUDGED[reason.outcome]
    return f"{words}, not to all" if reason.partly else words


def _words(group: ReasonGroup) -> str:
    example = group.example
    text = f"{example.text}, and the like" if group.varied else example.text
    return text if example.file is None else f"{text} ({example.file}:{example.line} {example.key})"
