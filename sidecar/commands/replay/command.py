"""`sidecar replay`: the dispositions of stored mail under these settings."""

import os
import sys
import time
from pathlib import Path
from threading import Thread

import click
from msgspec.structs import replace
from rich.text import Text

from sidecar.commands.replay.replayer import Replayer, ReplayTally
from sidecar.commands.replay.stores import tasks, total_size
from sidecar.commands.replay.workers import WorkerLostError, run_workers
from sidecar.core.disposition import Disposition
from sidecar.core.evaluate.evaluator import Evaluator
from sidecar.core.names import normal_listener, split_endpoint
from sidecar.core.text import counted, in_units, printable
from sidecar.output.help import INTERRUPTED, Command
from sidecar.output.problems import config_option, require_utf8, settings_or_exit
from sidecar.output.terminal import TextTable, console, plain, print_text, progress
from sidecar.suppression.lookup import Lookup

# An address of a documentation network (RFC 5737), which is in no relay_hosts.
_EXTERNAL = "192.0.2.1"
_ROWS = 20
_REPORTS = {"oob": "bounce report", "arf": "feedback report"}
_NOT_JUDGED = {"no_envelope": "skipped", "unreadable": "unreadable"}
_STYLES = {
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
    statuses={0: "all mail was read, whatever its disposition", 1: "some mail cannot be read"},
)
@config_option
@click.option("--peer", metavar="IP[:PORT]", default=_EXTERNAL, show_default=True, help="The peer that sends the mail.")
@click.option("--listener", metavar="IP:PORT", help="The MTA's own end of the connection.")
@click.option("--auth", metavar="ID", help="The login of the peer (SMTP AUTH).")
@click.option("--from", "sender", metavar="ADDR", help="The envelope sender of all messages; '' is the null sender.")
@click.option("--to", metavar="ADDR", multiple=True, help="A recipient of all messages; can be repeated.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object for each message, one on each line.")
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
    """Show the dispositions of stored mail under these settings, without an MTA, and without changing anything.

    A PATH is a message file, an mbox, a Maildir, or a folder of these; - is one message on standard input. Links to folders are
    not followed. Each message goes through the same code as in the milter.

    Without --from and --to, the envelope is what the delivering MTA wrote: Return-Path or the mbox line; X-Original-To,
    Envelope-To, Delivered-To or Received. If these are missing, From and To replace them, and the totals count such messages. A
    message without any of these fields is skipped.
    """
    require_utf8(peer, listener, auth, sender, *to)
    settings = settings_or_exit(config)
    try:
        split_endpoint(peer)
        if listener is not None:
            normal_listener(listener)
    except ValueError as error:
        raise click.UsageError(f"{printable(str(error))}.") from error
    evaluator = Evaluator(settings, suppression=Lookup())
    replayer = Replayer(
        evaluator=evaluator, peer=peer, listener=listener, auth=auth, sender=sender, recipients=to, with_lines=as_json
    )
    if evaluator.policy.depends_on_listener and listener is None:
        click.echo("Some rules apply only to one listener; without --listener, they are not used.", err=True)
    sys.exit(_replay(replayer, paths))


def _replay(replayer: Replayer, paths: tuple[str, ...]) -> int:
    """Replay all mail, print the result, and return the exit status. If it is interrupted, the totals so far are printed."""
    total, began, status = ReplayTally(), time.monotonic(), 0
    wanted = not (replayer.with_lines and sys.stdout.isatty())
    cores = len(os.sched_getaffinity(0))
    try:
        # The workers first: the progress bar has threads, which a fork does not copy.
        with run_workers(replayer.replay, tasks(paths), count=cores) as batches, progress("messages", wanted=wanted) as bar:
            # The size is found out while the mail is read.
            Thread(target=lambda: setattr(bar, "total", total_size(paths)), daemon=True).start()
            for batch in batches:
                total.merge(batch.tally)
                sys.stdout.buffer.write(batch.lines)
                sys.stdout.buffer.flush()
                bar.set(total.size, total.messages)
    except KeyboardInterrupt:
        click.echo("Interrupted: the result is not complete.", err=True)
        status = INTERRUPTED
    except WorkerLostError as error:
        click.echo(str(error), err=True)
        status = 1
    if not replayer.with_lines:
        _print_totals(total, time.monotonic() - began)
    if failed := total.count("unreadable"):
        named, more = printable("; ".join(total.unreadable)), "; ..." * (failed > len(total.unreadable))
        click.echo(f"{counted(failed, 'file')} could not be read: {named}{more}", err=True)
    return status or int(failed > 0)


def _print_totals(total: ReplayTally, seconds: float) -> None:
    screen = console()
    rate = f"{total.messages / seconds:,.0f} a second"
    print_text(screen, f"{counted(total.messages, 'message')}, {in_units(total.size)} in {seconds:,.1f} s: {rate}.")
    reports = [counted(count, _REPORTS[kind]) for kind, count in sorted(total.reports.items(), reverse=True)]
    print_text(screen, f"Accepted reports: {' and '.join(reports) or 'none'}.")
    if total.guessed:
        print_text(screen, f"{counted(total.guessed, 'envelope')} guessed from From and To: name them with --from and --to.")
    if not total.groups:
        return
    ordered = sorted(total.groups.items(), key=lambda item: (-item[1].count, str(item[1].example)))
    shown = TextTable("disposition", "messages#", "reason")
    for reason, group in ordered[:_ROWS]:
        outcome = _NOT_JUDGED.get(reason.outcome) or Disposition(reason.outcome).words
        style = "yellow" if reason.partly else _STYLES.get(reason.outcome, "red")
        first = group.example
        why = replace(first, text=f"{first.text}, and similar") if group.varied else first
        words = f"{outcome}, not to all" if reason.partly else outcome
        shown.add_row(Text(words, style=style), f"{group.count:,}", plain(str(why)))
    screen.print()
    screen.print(shown)
    if rest := ordered[_ROWS:]:
        more = counted(sum(group.count for _, group in rest), "more message")
        print_text(screen, f"{more}, for {counted(len(rest), 'other reason')}: --json has the reason of each.")
