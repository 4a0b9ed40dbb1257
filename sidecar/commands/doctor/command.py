"""`sidecar doctor`: checks of an MTA's settings against the sidecar's."""

import sys
from contextlib import suppress
from functools import cache
from pathlib import Path

import click
from msgspec.structs import replace

from sidecar.commands.doctor.postfix.checks import check_postfix
from sidecar.commands.doctor.sendmail_checks import check_sendmail
from sidecar.config.files import UnreadableError, read_content
from sidecar.core.text import counted, in_units, printable
from sidecar.output.help import Command
from sidecar.output.problems import ExistingPath, config_option, finding_line, settings_or_exit
from sidecar.output.streams import print_json, print_lines

# A list of 200,000 domains has some 5 MB.
_SIZE_LIMIT = 64 * 1024 * 1024

_FILE = ExistingPath(exists=True, dir_okay=False, allow_dash=True)


@click.command(
    "doctor",
    cls=Command,
    examples=[
        "{ postconf -x; postconf -Mx; } |\n    sidecar doctor --config /etc/sidecar/sidecar.toml --postfix -",
        "sidecar doctor --config sidecar.toml --sendmail /etc/mail/sendmail.cf",
    ],
    statuses={0: "there are no errors; there can be warnings", 1: "there are errors"},
)
@config_option
@click.option("--postfix", metavar="FILE", type=_FILE, help="The output of postconf, or main.cf; '-' is stdin.")
@click.option("--sendmail", metavar="FILE", type=_FILE, help="The sendmail.cf; '-' is stdin.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object, for programs.")
def command(config: Path | None, postfix: str | None, sendmail: str | None, *, as_json: bool) -> None:
    """Check the MTA's settings against the sidecar's.

    Lists settings that do not work with the sidecar or are not safe, each with the line that fixes it. The command starts no
    program and changes nothing.
    """
    if (postfix is None) == (sendmail is None):
        raise click.UsageError("Name the MTA's settings, either with --postfix or with --sendmail.")
    settings = settings_or_exit(config)
    source = postfix or sendmail or ""
    mta, check = ("Postfix", check_postfix) if postfix is not None else ("Sendmail", check_sendmail)
    findings = check(_settings_text(source), settings, cache(_text), config)
    # Standard input has no name, so a line of it is useless.
    shown = [replace(found, file=source) if source != "-" and found.line else replace(found, line=None) for found in findings]
    errors = sum(finding.level == "error" for finding in findings)
    if as_json:
        print_json({"findings": shown})
    else:
        warnings = counted(len(findings) - errors, "warning")
        fits = f"{mta} fits the sidecar{f', with {warnings}' if findings else ''}."
        total = f"{mta} does not fit the sidecar: {counted(errors, 'error')} and {warnings}." if errors else fits
        print_lines([*map(finding_line, shown), total])
    sys.exit(1 if errors else 0)


def _settings_text(source: str) -> str:
    name = "Standard input" if source == "-" else printable(source)
    with click.open_file(source, "rb") as stream:
        content: bytes = stream.read(_SIZE_LIMIT + 1)
    if len(content) > _SIZE_LIMIT:
        raise click.ClickException(f"{name} has more than {in_units(_SIZE_LIMIT)}. Name an MTA's settings.")
    text = content.decode("utf-8", "replace")
    if not text.strip():
        # A postconf that failed prints nothing. Without this, its defaults would be checked.
        raise click.ClickException(f"{name} is empty. Name an MTA's settings, and check if postconf reported an error.")
    return text


def _text(path: str) -> str | None:
    """Return the text of a file; None if it is not a regular file, is too large, or cannot be read."""
    with suppress(OSError, ValueError, UnreadableError):
        if path.startswith("/") and Path(path).stat().st_size <= _SIZE_LIMIT:
            return read_content(Path(path), path, []).decode("utf-8", "replace")
    return None
