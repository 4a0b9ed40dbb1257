"""`sidecar simulate`: send bounces and complaints through a running MTA as an external host, and compare the results."""

import re
import sys
from collections.abc import Sequence
from pathlib import Path
from secrets import token_hex

import click

from sidecar.commands.simulate import texts
from sidecar.commands.simulate.client import Target, UnreachableError
from sidecar.commands.simulate.shapes import SHAPES, MessageShape
from sidecar.commands.simulate.simulation import NewRecords, Result, Simulation
from sidecar.config import USUAL_FILE
from sidecar.core.evaluate.evaluator import Evaluator
from sidecar.core.names import HIGHEST_PORT, plain_address, split_endpoint
from sidecar.core.policy.address import domain_of
from sidecar.core.text import did_you_mean, printable
from sidecar.journal import JournalError
from sidecar.output.help import Command, completion
from sidecar.output.problems import config_file, settings_or_exit
from sidecar.output.streams import print_json, sentence
from sidecar.output.terminal import TextTable, console

# With the domain of the first --to: an MTA rejects a sender whose domain does not exist, and no domain of an example does.
_LOCAL_PART = "fbl"
_SMTP_PORT = 25
_PORT = r"(?::(\d{1,5}))?"
_HOST = re.compile(rf"\[([0-9A-Fa-f:.]+)\]{_PORT}|([A-Za-z0-9_.-]+){_PORT}|([0-9A-Fa-f:.]+)", re.ASCII)
_NAME = re.compile(r"[A-Za-z0-9_.:\[\]-]{1,255}", re.ASCII)
# The limits of RFC 5321 section 4.5.3.1; a local part that needs quotes is of no use here.
_ADDRESS = re.compile(r"[^\s<>@\"\\]{1,64}@[^\s<>@\"\\]{1,255}")


def _mta(value: str) -> tuple[str, int]:
    found = _HOST.fullmatch(value)
    host, port = (found[1] or found[3] or found[5], int(found[2] or found[4] or _SMTP_PORT)) if found else ("", 0)
    if not 0 < port <= HIGHEST_PORT:
        raise click.BadParameter(f"{value!r} is not HOST:PORT, such as 127.0.0.1:25 or [::1]:25.")
    return host, port


def _address(value: str) -> str:
    if not (_ADDRESS.fullmatch(value) and value.isprintable() and domain_of(value)):
        raise click.BadParameter(f"{value!r} is not an address such as news-17@bounce.example.com.")
    return value


def _sender(value: str) -> str:
    return value and _address(value)


def _ip(value: str) -> str:
    try:
        return str(plain_address(value))
    except ValueError as error:
        raise click.BadParameter(f"{value!r} is not an IP address of this machine, such as 127.0.0.2.") from error


def _xclient(value: str) -> tuple[str, str | None]:
    address, _, helo = value.partition(",")
    try:
        split_endpoint(address)
    except ValueError as error:
        raise click.BadParameter(f"{value!r} is not ADDR[,HELO], such as 203.0.113.9,mx.remote.example.") from error
    return address, _helo(helo) if helo else None


def _helo(value: str) -> str:
    if not _NAME.fullmatch(value):
        raise click.BadParameter(f"{value!r} is not a name for EHLO, such as mx.remote.example.")
    return value


def _shapes(_context: click.Context, _option: click.Parameter, value: tuple[str, ...]) -> tuple[MessageShape, ...]:
    known = {shape.name: shape for shape in SHAPES}
    for name in value:
        if name not in known:
            raise click.BadParameter(f"There is no shape {name!r}. {did_you_mean(name, known, '--list shows them all.')}")
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
        0: "all results are as expected; without --config, every message was answered",
        1: "some result is not as expected, or some message was not answered",
    },
)
@click.option(
    "--config",
    metavar="FILE",
    type=click.Path(path_type=Path, readable=False),
    help=f"The sidecar's settings file (TOML): results are compared with those that the policy expects. The default is "
    f"{USUAL_FILE}, if it exists.",
)
@click.option("--mta", metavar="HOST:PORT", type=_mta, help="The MTA to send to; no other MTA gets anything.")
@click.option(
    "--to",
    metavar="ADDR",
    multiple=True,
    type=_address,
    help="An address that accepts reports; can be repeated.",
)
@click.option(
    "--from",
    "sender",
    metavar="ADDR",
    type=_sender,
    help="The envelope sender of complaints and spam; bounces have the null sender.  [default: fbl@ and the domain of --to]",
)
@click.option(
    "--shape",
    "shapes",
    metavar="NAME",
    multiple=True,
    callback=_shapes,
    shell_complete=completion(shape.name for shape in SHAPES),
    help="Send only this shape; can be repeated.",
)
@click.option("--list", "list_only", is_flag=True, help="Show the catalogue and send nothing.")
@click.option("--bind", metavar="ADDRESS", type=_ip, help="The address of this machine to connect from, such as 127.0.0.2.")
@click.option(
    "--xclient",
    metavar="ADDR[,HELO]",
    type=_xclient,
    help="Send as this peer: Postfix's XCLIENT, if smtpd_authorized_xclient_hosts names this machine.",
)
@click.option("--helo", metavar="NAME", type=_helo, help="The name for EHLO, if the MTA needs one that exists.")
@click.option(
    "--timeout",
    metavar="SECONDS",
    type=click.FloatRange(min=0.1, max=600),
    default=30.0,
    show_default=True,
    help="How long to wait for each answer.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object for each shape, one on each line.")
def command(  # noqa: PLR0913, PLR0917 - one for each option
    config: Path | None,
    mta: tuple[str, int] | None,
    to: tuple[str, ...],
    sender: str | None,
    shapes: tuple[MessageShape, ...],
    bind: str | None,
    xclient: tuple[str, str | None] | None,
    helo: str | None,
    timeout: float,
    *,
    list_only: bool,
    as_json: bool,
) -> None:
    """Send bounces, complaints and other mail through a running MTA, and show the results.

    Each shape of the catalogue is sent once, as an external host sends it, on its own connection. With --config, the policy
    works out the expected result for the peer that the MTA sees, and the records are read from the journal.

    This machine may be a relay host, from which the MTA accepts everything: --bind or --xclient make it an external host. REAL
    MAIL REACHES ADDR if it is relayed: reports if the domain has LogThenRelay, and everything from a relay host.
    """
    if list_only:
        _print_catalogue(shapes, as_json=as_json)
        return
    if mta is None or not to:
        raise click.UsageError("Name the MTA with --mta and the address that accepts reports with --to; or use --list.")
    address, name = xclient or (None, None)
    evaluator, journal, problem = None, None, ""
    config = config_file(config, otherwise="no expected results are worked out")
    if config is not None:
        settings = settings_or_exit(config)
        evaluator = Evaluator(settings)
        try:
            journal = NewRecords(settings.journal.directory)
        except JournalError as error:
            # It also runs without the records.
            problem = sentence(error)
    simulation = Simulation(
        target=Target(host=mta[0], port=mta[1], bind=bind, xclient=address, timeout=timeout),
        recipients=to,
        sender=f"{_LOCAL_PART}@{domain_of(to[0])}" if sender is None else sender,
        token=token_hex(4),
        helo=name or helo,
        evaluator=evaluator,
        journal=journal,
    )
    results, failure = _run(simulation, shapes)
    if as_json:
        for result in results:
            print_json(texts.as_object(simulation, result))
    elif results:
        texts.print_results(simulation, results)
    for text in filter(None, (problem, failure)):
        click.echo(printable(text), err=True)
    fine = all(result.is_fine for result in results) and any(result.was_sent for result in results)
    sys.exit(0 if fine and not failure else 1)


def _run(simulation: Simulation, shapes: Sequence[MessageShape]) -> tuple[list[Result], str]:
    """Send the shapes until the MTA or the journal fails; the sentence says how."""
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
            print_json({"shape": shape.name, "kind": shape.kind, "summary": shape.summary})
        return
    listing = TextTable("shape", "kind", "what it is")
    for shape in shapes:
        listing.add_row(shape.name, shape.kind, shape.summary)
    console().print(listing)
