"""How the commands find their settings, and how problems are printed.

Owns the one line a problem becomes, and the sentence an error becomes. Never decides what is a problem.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

import click
import msgspec

from sidecar.config import Loaded, Reading, load
from sidecar.core.findings import Finding
from sidecar.core.settings.values import Settings
from sidecar.core.text import counted, printable, printable_json
from sidecar.journal.read import passed_over

config_option = click.option(
    "--config",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="The settings file (TOML). Without one, the built-in defaults serve.",
)


def finding_line(finding: Finding) -> str:
    """Return a finding as one line: `file:line: error: key: what is wrong. What to write instead.`."""
    parts = filter(None, (finding.place, finding.level, finding.key))
    return printable(f"{': '.join(parts)}: {finding.text} {finding.fix}")


def findings_json(findings: Sequence[Finding]) -> bytes:
    """Return findings as one JSON object, without a line end."""
    return printable_json(msgspec.json.encode({"findings": findings}))


def sentence(text: object) -> str:
    """Make an error's text one sentence, fit for a terminal: a capital, if it begins with a word, and a full stop."""
    words = printable(str(text))
    first = words.partition(" ")[0]
    return f"{words[:1].upper() if first.isalpha() else words[:1]}{words[1:]}."


def tell_passed_over(path: Path) -> None:
    """Name on standard error what is not read in a folder, since it is not named as a segment. Raises JournalError."""
    found = passed_over(path)
    if found is None:
        return
    file, count = found
    if count == 1:
        text = f"{file} was passed over, since it is not named as a segment is; name it to have it read."
    else:
        others = counted(count - 1, "other file")
        text = f"{file} and {others} were passed over, since they are not named as segments are; name them to have them read."
    click.echo(printable(text), err=True)


def must_be_text(*arguments: str | None) -> None:
    """See that all arguments are text: what is no UTF-8 comes from the shell as lone surrogates. Raises click's error."""
    try:
        "".join(filter(None, arguments)).encode()
    except UnicodeEncodeError:
        raise click.UsageError("An argument is not UTF-8. Write it in UTF-8.") from None


def settings_or_exit(config: Path | None, *, quiet: bool = False) -> Settings:
    """Load the settings; problems go to standard error (warnings not when `quiet`), and errors end with exit status 1."""
    return taken_or_exit(Reading(config).loaded if quiet else load(config), quiet=quiet)


def taken_or_exit(loaded: Loaded, *, quiet: bool = False) -> Settings:
    """Give what was loaded; problems go to standard error as above, and errors end with exit status 1."""
    for problem in loaded.problems:
        if problem.level == "error" or not quiet:
            click.echo(finding_line(problem), err=True)
    if loaded.settings is None:
        sys.exit(1)
    return loaded.settings
