"""`sidecar export`: the domains that strangers may send to, for the MTA's own relay control."""

import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import click
import msgspec

from sidecar.commands.export.lists import Export, postfix_relay_domains, sendmail_access
from sidecar.core.open_domains import NAME_THEM, OpenDomains, everything_open
from sidecar.core.text import printable, printable_json
from sidecar.output.help import Command
from sidecar.output.problems import config_option, settings_or_exit
from sidecar.output.streams import write_file

_WRITERS: Mapping[str, Callable[[OpenDomains], Export]] = {"postfix": postfix_relay_domains, "sendmail": sendmail_access}

# Postfix opens the file as user postfix; there is no secret in it.
_MODE = 0o644


@click.command(
    "export",
    cls=Command,
    examples=[
        "sidecar export postfix --config /etc/sidecar/sidecar.toml \\\n    --output /etc/postfix/sidecar-relay-domains",
        "sidecar export sendmail --config /etc/sidecar/sidecar.toml \\\n    --output /etc/mail/sidecar-access",
    ],
    statuses={0: "the domains are written", 1: "they are not: the settings have errors, or would make an open relay"},
)
@click.argument("mta", type=click.Choice(sorted(_WRITERS)))
@config_option
@click.option("--output", metavar="FILE", type=click.Path(path_type=Path), help="Replace FILE in one step, instead of stdout.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object for machines: the text, and what is left out.")
def command(mta: str, config: Path | None, output: Path | None, *, as_json: bool) -> None:
    """Write the domains strangers may send to, for the MTA.

    The MTA's own relay control reads them. So it and the sidecar agree, and an MTA that lost its milter line relays to
    nowhere else. The file begins with what the MTA must be told to use it.
    """
    if as_json and output is not None:
        raise click.UsageError("--json prints and --output writes: give one of the two.")
    domains = OpenDomains(settings_or_exit(config))
    if (rejection := everything_open(domains, mta.capitalize())) is not None:
        raise click.ClickException(printable(f"{rejection} {NAME_THEM}"))
    export = _WRITERS[mta](domains)
    if as_json:
        click.echo(printable_json(msgspec.json.encode({"mta": mta, "text": export.text, "left_out": export.left_out})))
        return
    for literal in export.left_out:
        why = f"an address is no domain, and {mta.capitalize()} rejects mail to it"
        click.echo(printable(f"{literal} is left out: {why}."), err=True)
    if output is None:
        sys.stdout.buffer.write(export.text.encode())
        return
    write_file(output, export.text.encode(), mode=_MODE)
