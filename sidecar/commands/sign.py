"""`sidecar sign`: the token of an envelope sender, and the trace header of a message."""

import time
from pathlib import Path

import click

from sidecar.core.proof.sign import sign
from sidecar.core.proof.trace import NAME
from sidecar.output.help import Command
from sidecar.output.problems import config_option, require_utf8, secrets_or_exit
from sidecar.output.streams import print_json, print_lines


@click.command(
    "sign",
    cls=Command,
    examples=[
        "sidecar sign --config /etc/sidecar/sidecar.toml news@example.com",
        "sidecar sign --config sidecar.toml news@example.com \\\n    --message-id '<1@example.com>' --to jo@remote.example",
    ],
    statuses={0: "success", 1: "the settings have no secret, or the address gets no token and no trace header"},
)
@click.argument("address")
@config_option
@click.option("--message-id", metavar="ID", help="Print the trace header of the message with this Message-ID, too.")
@click.option("--to", "recipients", metavar="ADDRESS", multiple=True, help="A recipient of the message; can be repeated.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object, for programs.")
def command(address: str, config: Path | None, message_id: str | None, recipients: tuple[str, ...], *, as_json: bool) -> None:
    """Print ADDRESS, an envelope sender, with a token of today.

    A bounce to this address proves that you sent mail. The first of `secret_files` below [verify] signs. With --message-id the
    second line is the trace header; it proves the recipient if --to names one only.
    """
    require_utf8(address, message_id, *recipients)
    signed = sign(secrets_or_exit(config).secrets[0], time.time(), sender=address, message_id=message_id, recipients=recipients)
    if signed.why is not None and signed.trace is None:
        raise click.ClickException(f"{address!r} gets no token: {signed.why}.")
    if as_json:
        print_json(signed)
    else:
        print_lines([signed.sender, *([] if signed.trace is None else [f"{NAME}: {signed.trace}"])])
