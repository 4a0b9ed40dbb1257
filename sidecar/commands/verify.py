"""`sidecar verify`: what a stored report proves, and why other proofs do not hold."""

import time
from pathlib import Path

import click

from sidecar.core.evaluate.delivery import read_stored
from sidecar.core.evaluate.proofs import prove, stored_words
from sidecar.core.text import printable
from sidecar.output.help import Command
from sidecar.output.messages import messages_argument, recipient_option, sender_option, stored_messages
from sidecar.output.problems import config_option, require_utf8, settings_or_exit
from sidecar.output.streams import print_json, print_lines


@click.command(
    "verify",
    cls=Command,
    examples=[
        "sidecar verify bounce.eml",
        "sidecar verify --to news+q520788tf4haoek2khsi666@bounce.example.com -",
        "sidecar verify --json /var/lib/sidecar/quarantine",
    ],
    statuses={
        0: "every FILE is a report that proves something",
        1: "some FILE cannot be read, is no report, or proves nothing; or the settings have no [verify]",
    },
)
@config_option
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object for each file, one on each line.")
@sender_option
@recipient_option
@messages_argument
@click.pass_context
def command(  # noqa: PLR0913 - one for each option
    context: click.Context,
    config: Path | None,
    sender: str | None,
    recipient: str | None,
    files: tuple[str, ...],
    *,
    as_json: bool,
) -> None:
    """Show what each FILE proves, with the keys of [verify] and the time of now.

    A FILE has one message as it came over SMTP; - is standard input. A directory, such as the quarantine, stands for all its
    files named *.eml. Each recipient that the report names has a level: recipient, message or none. Each method has its result
    and the reason.

    Without --to, the recipient is the one that the last delivery wrote into the header section, or else the first one in To.
    """
    require_utf8(sender, recipient)
    settings = settings_or_exit(config)
    if settings.verify is None:
        raise click.ClickException("The settings have no section [verify]. Write one with secret_files or dkim_keys.")
    strict, is_proved = settings.compat is not None, True
    for name, message in stored_messages(files):
        if message is None:
            is_proved = False
            continue
        reading, proof = read_stored(message, sender, strict=strict, text=settings.accepts_text), None
        if reading.is_report:
            proof = prove(reading, message, settings.verify, to=recipient, now=time.time())
        is_proved = is_proved and proof is not None and all(one.verified != "none" for one in proof.recipients)
        if as_json:
            print_json({"file": name, "why": reading.why, "verification": proof})
        else:
            print_lines([f"{name}: {printable(reading.why)}", *(f"  {line}" for line in stored_words(proof))])
    context.exit(0 if is_proved else 1)
