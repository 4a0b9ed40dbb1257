"""`sidecar simulate`: bounces and complaints sent through a running MTA, as a stranger would, and what came of each."""

import re
import sys
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from secrets import token_hex

import click
import msgspec
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from sidecar.commands.simulate import (
    SHAPES,
    Expectations,
    MessageShape,
    Result,
    Simulation,
    Target,
    UnreachableError,
    Witness,
    texts,
)
from sidecar.core.names import HIGHEST_PORT, plain_address, split_endpoint
from sidecar.core.policy.address import domain_of
from sidecar.core.settings.values import Settings
from sidecar.core.text import nearest, printable, printable_json
from sidecar.journal import JournalError
from sidecar.output.help import Command, completion
from sidecar.output.problems import sentence, settings_or_exit
from sidecar.output.terminal import console, plain, table

# Nobody's address (RFC 2606): should what was relayed bounce, it bounces to nowhere.
_SENDER = "fbl@mailbox.example"
_SMTP_PORT = 25
# Columns of a terminal on which the table has room for the senders.
_WIDE = 100
_LONG = 30
_PORT = r"(?::(\d{1,5}))?"
_HOST = re.compile(rf"\[([0-9A-Fa-f:.]+)\]{_PORT}|([A-Za-z0-9_.-]+){_PORT}|([0-9A-Fa-f:.]+)", re.ASCII)
_NAME = re.compile(r"[A-Za-z0-9_.:\[\]-]{1,255}", re.ASCII)
# No address has more (RFC 5321 section 4.5.3.1.3), and a local part that needs quotes is none to try an installation with.
_ADDRESS = re.compile(r"[^\s<>@\"\\]{1,64}@[^\s<>@\"\\]{1,255}")


def _mta(_context: click.Context, _option: click.Parameter, value: str | None) -> tuple[str, int] | None:
    if value is None:
        return None
    found = _HOST.fullmatch(value)
    host, port = (found[1] or found[3] or found[5], int(found[2] or found[4] or _SMTP_PORT)) if found else ("", 0)
    if not 0 < port <= HIGHEST_PORT:
        raise click.BadParameter(f"{value!r} is not HOST:PORT, such as 127.0.0.1:25 or [::1]:25.")
    return host, port


def _address(_context: click.Context, _option: click.Parameter, value: tuple[str, ...]) -> tuple[str, ...]:
    for address in value:
        if not (_ADDRESS.fullmatch(address) and address.isprintable() and domain_of(address)):
            raise click.BadParameter(f"{address!r} is not an address such as news-17@bounce.example.com.")
    return value


def _sender(context: click.Context, option: click.Parameter, value: str) -> str:
    return _address(context, option, (value,))[0] if value else value


def _ip(_context: click.Context, _option: click.Parameter, value: str | None) -> str | None:
    try:
        return None if value is None else str(plain_address(value))
    except ValueError as error:
        raise click.BadParameter(f"{value!r} is not an IP address of this machine, such as 127.0.0.2.") from error


def _xclient(context: click.Context, option: click.Parameter, value: str | None) -> tuple[str, str | None] | None:
    if value is None:
        return None
    address, _, helo = value.partition(",")
    try:
        split_endpoint(address)
    except ValueError as error:
        raise click.BadParameter(f"{value!r} is not ADDR[,HELO], such as 203.0.113.9,mx.remote.example.") from error
    return address, _helo(context, option, helo or None)


def _helo(_context: click.Context, _option: click.Parameter, value: str | None) -> str | None:
    if value is not None and not _NAME.fullmatch(value):
        raise click.BadParameter(f"{value!r} is not a name for EHLO, such as mx.remote.example.")
    return value


def _shapes(_context: click.Context, _option: click.Parameter, value: tuple[str, ...]) -> tuple[MessageShape, ...]:
    known = {shape.name: shape for shape in SHAPES}
    for name in value:
        if name not in known:
            meant = nearest(name, tuple(known))
            hint = f"Did you mean {meant}?" if meant else "--list shows them all."
            raise click.BadParameter(f"There is no shape {name!r}. {hint}")
    return tuple(shape for shape in SHAPES if not value or shape.name in value)


@click.command(
    "simulate",
    cls=Command,
    examples=[
        "sidecar simulate --list",
        "sidecar simulate --config sidecar.toml --mta 127.0.0.1:25 --bind 127.0.0.2 \\\n    --to news-17@bounce.example.com",
        "sidecar simulate --mta mx.example.com:25 --to news-17@bounce.example.com \\\n    --shape postfix --shape spam",
    ],
    statuses={
        0: "all results are as expected; without --config, the MTA answered each message",
        1: "a result is not as expected, or the MTA did not answer",
    },
)
@click.option(
    "--config",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="The sidecar's settings file (TOML). The command compares each result with the one that these settings give.",
)
@click.option("--mta", metavar="HOST:PORT", callback=_mta, help="The MTA to send to. The command sends to no other host.")
@click.option(
    "--to",
    metavar="ADDR",
    multiple=True,
    callback=_address,
    help="An address that accepts reports; can be repeated. Each message is sent to all of them.",
)
@click.option(
    "--from",
    "sender",
    metavar="ADDR",
    default=_SENDER,
    show_default=True,
    callback=_sender,
    help="The envelope sender of complaints and spam. Bounces have the null sender.",
)
@click.option(
    "--shape",
    "shapes",
    metavar="NAME",
    multiple=True,
    callback=_shapes,
    shell_complete=completion(shape.name for shape in SHAPES),
    help="Send only this message; can be repeated.",
)
@click.option("--list", "list_only", is_flag=True, help="List the messages, and send nothing.")
@click.option("--bind", metavar="ADDRESS", callback=_ip, help="The address of this machine to connect from, such as 127.0.0.2.")
@click.option(
    "--xclient",
    metavar="ADDR[,HELO]",
    callback=_xclient,
    help="The peer that Postfix sees (XCLIENT). smtpd_authorized_xclient_hosts must have this machine.",
)
@click.option("--helo", metavar="NAME", callback=_helo, help="The name in EHLO, for an MTA that looks it up.")
@click.option(
    "--timeout",
    metavar="SECONDS",
    type=click.FloatRange(min=0.1, max=600),
    default=30.0,
    show_default=True,
    help="The time to wait for each answer.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object for each message, one on each line.")
def command(  # noqa: PLR0913, PLR0917 - one for each option
    config: Path | None,
    mta: tuple[str, int] | None,
    to: tuple[str, ...],
    sender: str,
    shapes: tuple[MessageShape, ...],
    bind: str | None,
    xclient: tuple[str, str | None] | None,
    helo: str | None,
    timeout: float,
    *,
    list_only: bool,
    as_json: bool,
) -> None:
    """Send test bounces, complaints and other mail to a running MTA, and show the result of each.

    Each message of the list is sent once, on a separate connection. With --config the command also shows the expected result,
    by the policy for the peer that the MTA sees, and the records in the journal.

    If this machine is a relay host, the MTA accepts all its mail. With --bind or --xclient it is an external host. THE MTA
    DELIVERS REAL MAIL to ADDR if it relays a message: reports for a domain with LogThenRelay, and all mail from a relay host.
    """
    if list_only:
        _print_catalogue(shapes, as_json=as_json)
        return
    if mta is None or not to:
        raise click.UsageError("Name the MTA with --mta, and an address that accepts reports with --to. Or use --list.")
    address, name = xclient or (None, None)
    settings = None if config is None else settings_or_exit(config)
    witness, trouble = _open_journal(settings)
    simulation = Simulation(
        target=Target(host=mta[0], port=mta[1], bind=bind, xclient=address, timeout=timeout),
        recipients=to,
        sender=sender,
        token=token_hex(4),
        helo=name or helo,
        oracle=None if settings is None else Expectations(settings),
        witness=witness,
    )
    results, failure = _run(simulation, shapes)
    if as_json:
        for result in results:
            click.echo(printable_json(msgspec.json.encode(texts.as_object(simulation, result))))
    elif results:
        _print_results(simulation, results)
    for text in filter(None, (trouble, failure)):
        click.echo(printable(text), err=True)
    fine = all(result.is_fine for result in results) and any(result.was_sent for result in results)
    sys.exit(0 if fine and not failure else 1)


def _open_journal(settings: Settings | None) -> tuple[Witness | None, str]:
    """Open the journal of these settings; where that fails, the simulation does without, and the sentence says why."""
    try:
        return (None if settings is None else Witness(settings.journal.directory)), ""
    except JournalError as error:
        return None, sentence(error)


def _run(simulation: Simulation, shapes: Sequence[MessageShape]) -> tuple[list[Result], str]:
    """Send them all, or as many as go until the MTA or the journal fails; the sentence says how it failed."""
    results: list[Result] = []
    try:
        with console(stderr=True).status("") as status:
            for shape in shapes:
                status.update(f"sending {len(results) + 1} of {len(shapes)}: {shape.name}")
                results.append(simulation.send(shape))
    except UnreachableError as error:
        return results, str(error)
    except JournalError as error:
        return results, sentence(error)
    return results, ""


def _print_catalogue(shapes: Sequence[MessageShape], *, as_json: bool) -> None:
    if as_json:
        for shape in shapes:
            click.echo(msgspec.json.encode(texts.shape_as_object(shape)))
        return
    listing = table("shape", "kind", "what it is")
    for shape in shapes:
        listing.add_row(shape.name, shape.kind, shape.summary)
    console().print(listing)


def _print_results(simulation: Simulation, results: Sequence[Result]) -> None:
    out = console()
    for line in texts.opening(simulation, results[0]):
        out.print(plain(line))
    out.print()
    out.print(_as_table(simulation, results, wide=out.width >= _WIDE))
    _print_groups(out, "Why:", results, texts.reasons)
    _print_groups(out, "To note:", results, texts.notes)
    out.print()
    out.print(plain(texts.totals(results), style="" if all(result.is_fine for result in results) else "bold red"))


def _as_table(simulation: Simulation, results: Sequence[Result], *, wide: bool) -> Table:
    """Make the table; on a narrow terminal the sender is left out, and of the answer only its codes are shown."""
    shown = {
        "": True,
        "shape": True,
        "kind": True,
        "sent as": wide,
        "answer": True,
        "expected": simulation.oracle is not None,
        "records": simulation.witness is not None,
    }
    listing = table(*(name for name, is_shown in shown.items() if is_shown))
    # What may shrink on a terminal that has no room for all; records in many words are rather folded.
    is_long = max(len(texts.records(result)) for result in results) > _LONG
    for column in listing.columns:
        column.no_wrap = column.header not in {"sent as", "answer", *(["records"] if is_long else [])}
    for result in results:
        answer = str(result.dialogue.last or "")
        cells = {
            "": _mark(result),
            "shape": plain(result.shape.name),
            "kind": plain(result.shape.kind),
            "sent as": _in_one_line(f"<{result.sender}>"),
            "answer": _in_one_line(answer if wide else " ".join(answer.split()[:2])),
            "expected": plain(result.expected.disposition.words if result.expected else ""),
            "records": plain(texts.records(result)),
        }
        listing.add_row(*(cell for name, cell in cells.items() if shown[name]))
    return listing


def _mark(result: Result) -> Text:
    if not result.was_sent:
        return Text("not sent", style="yellow")
    if result.judged is None:
        return Text("sent")
    return Text("ok", style="green") if result.judged.agrees else Text("differs", style="bold red")


def _in_one_line(text: str) -> Text:
    shown = plain(text)
    shown.no_wrap, shown.overflow = True, "ellipsis"
    return shown


def _print_groups(out: Console, title: str, results: Sequence[Result], told: Callable[[Result], Iterable[str]]) -> None:
    """Print each sentence that is told of a result once, with the shapes that it is about."""
    groups: defaultdict[str, list[str]] = defaultdict(list)
    for result in results:
        for text in told(result):
            groups[text].append(result.shape.name)
    if groups:
        out.print()
        out.print(Text(title, style="bold"))
    for text, names in groups.items():
        who = "all" if len(names) == len(results) > 1 else ", ".join(names)
        out.print(Padding(plain(f"{who}: {text}"), (0, 0, 0, 2), expand=False))
