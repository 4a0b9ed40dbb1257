"""`sidecar doctor`: whether the MTA beside the sidecar was told what it must be told."""

import os
import stat
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import click
from msgspec.structs import replace

from sidecar.commands.doctor.postfix_checks import check_postfix, postfix_files
from sidecar.commands.doctor.sendmail_checks import check_sendmail, sendmail_files
from sidecar.commands.doctor.values import Files
from sidecar.core.findings import Finding
from sidecar.core.settings.values import Settings
from sidecar.core.text import counted, printable
from sidecar.output.help import Command
from sidecar.output.problems import config_option, finding_line, findings_json, settings_or_exit

# A list of 200,000 domains takes some 5 MB.
_SIZE_LIMIT = 64 * 1024 * 1024

_TOLD = click.Path(exists=True, dir_okay=False, allow_dash=True)


@click.command(
    "doctor",
    cls=Command,
    examples=[
        "{ postconf -x; postconf -Mx; } |\n    sidecar doctor --config /etc/sidecar/sidecar.toml --postfix -",
        "sidecar doctor --config sidecar.toml --sendmail /etc/mail/sendmail.cf",
    ],
    statuses={0: "they fit, perhaps but for warnings", 1: "there are errors"},
)
@config_option
@click.option("--postfix", metavar="FILE", type=_TOLD, help="What postconf prints, or main.cf; '-' is stdin.")
@click.option("--sendmail", metavar="FILE", type=_TOLD, help="The sendmail.cf; '-' is stdin.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object, for machines.")
def command(config: Path | None, postfix: str | None, sendmail: str | None, *, as_json: bool) -> None:
    """Check the MTA's settings against the sidecar's.

    Lists settings that do not work with the sidecar or are not safe, each with the line that fixes it. The command runs nothing
    and changes nothing.
    """
    if (postfix is None) == (sendmail is None):
        raise click.UsageError("Name the MTA's settings, either with --postfix or with --sendmail.")
    settings = settings_or_exit(config, quiet=True)
    if postfix is not None:
        told, mta, findings = postfix, "Postfix", _findings(postfix, settings, check_postfix, postfix_files)
    else:
        assert sendmail is not None  # noqa: S101 - one of the two is given
        told, mta, findings = sendmail, "Sendmail", _findings(sendmail, settings, check_sendmail, sendmail_files)
    findings = [_located(finding, None if told == "-" else told) for finding in findings]
    click.echo(findings_json(findings) if as_json else _as_text(findings, mta))
    sys.exit(1 if _errors(findings) else 0)


def _findings(
    told: str, settings: Settings, check: Callable[[str, Settings, Files], list[Finding]], files: Callable[[str], set[str]]
) -> list[Finding]:
    """Ask for the findings on the text in the file `told`, and for the files that it names."""
    with click.open_file(told, "rb") as stream:
        content = stream.read(_SIZE_LIMIT + 1)
    if len(content) > _SIZE_LIMIT:
        raise click.ClickException(f"{_named(told)} has more than {_SIZE_LIMIT} bytes. Name an MTA's settings.")
    text = content.decode("utf-8", "replace")
    if not text.strip():
        # What a postconf that failed leaves: the defaults would be judged in place of the settings.
        raise click.ClickException(
            f"{_named(told)} is empty. Name an MTA's settings, and see whether postconf reported an error."
        )
    return check(text, settings, {path: _text_of(path) for path in files(text)})


def _named(told: str) -> str:
    return "Standard input" if told == "-" else printable(told)


def _text_of(path: str) -> str | None:
    """Give the text of a file; None for what is no regular file, is too big, or may not be read."""
    try:
        # O_NONBLOCK: opening a FIFO must not wait for its other end.
        with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:  # noqa: PTH123 - a descriptor
            status = os.fstat(file.fileno())
            readable = stat.S_ISREG(status.st_mode) and status.st_size <= _SIZE_LIMIT
            return file.read(_SIZE_LIMIT).decode("utf-8", "replace") if readable else None
    except (OSError, ValueError):
        return None


def _errors(findings: Sequence[Finding]) -> int:
    return sum(finding.level == "error" for finding in findings)


def _located(finding: Finding, file: str | None) -> Finding:
    """Return a finding with the file that its line is in; standard input has no file, so the line is left out."""
    if finding.line is None or file is None:
        return replace(finding, file=None, line=None)
    return replace(finding, file=file)


def _as_text(findings: Sequence[Finding], mta: str) -> str:
    lines = [finding_line(finding) for finding in findings]
    errors, warnings = _errors(findings), len(findings) - _errors(findings)
    if errors:
        lines.append(f"{mta} does not fit the sidecar: {counted(errors, 'error')} and {counted(warnings, 'warning')}.")
    else:
        but = f" but for {counted(warnings, 'warning')}" if warnings else ""
        lines.append(f"{mta} fits the sidecar{but}.")
    return "\n".join(lines)
