"""The settings of a command, and findings and errors as text.

Owns the line of a finding, and the sentence of an error. Never decides what is an error.
"""

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

import click
import msgspec

from sidecar.config import Loaded, Reading
from sidecar.core.findings import Finding
from sidecar.core.settings.values import Settings
from sidecar.core.text import printable, printable_json

config_option = click.option(
    "--config",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="The settings file (TOML). Without it, the defaults apply.",
)


def finding_line(finding: Finding) -> str:
    """Return a finding as one line: `file:line: error: key: what is wrong. What to write instead.`."""
    parts = filter(None, (finding.place, finding.level, finding.key))
    return printable(f"{': '.join(parts)}: {finding.text} {finding.fix}")


def findings_json(findings: Sequence[Finding]) -> bytes:
    """Return findings as one JSON object, without a line end."""
    return printable_json(msgspec.json.encode({"findings": findings}))


def sentence(text: object) -> str:
    """Return the text of an error as an escaped sentence: with a capital, if it begins with a word, and a full stop."""
    words = printable(str(text))
    first = words.partition(" ")[0]
    return f"{words[:1].upper() if first.isalpha() else words[:1]}{words[1:]}."


def require_utf8(*arguments: str | None) -> None:
    """Raise click.UsageError if an argument is not UTF-8; the shell's bytes are then lone surrogates."""
    try:
        "".join(filter(None, arguments)).encode()
    except UnicodeEncodeError:
        raise click.UsageError("An argument is not UTF-8. Write it in UTF-8.") from None


def print_errors(findings: Iterable[Finding]) -> None:
    """Print the errors among findings to standard error."""
    for finding in findings:
        if finding.level == "error":
            click.echo(finding_line(finding), err=True)


def settings_or_exit(config: Path | None) -> Settings:
    """Load the settings, or print their errors and exit, as `loaded_or_exit`."""
    return loaded_or_exit(Reading(config).loaded)


def loaded_or_exit(loaded: Loaded) -> Settings:
    """Return the settings. If they have errors, print these to standard error and exit with status 1."""
    if loaded.settings is None:
        print_errors(loaded.problems)
        sys.exit(1)
    return loaded.settings
