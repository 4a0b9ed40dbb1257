"""The settings of a command, and findings and errors as text.

Owns the line of a finding. Never decides what is an error.
"""

import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import click

from sidecar.config import USUAL_FILE, Loaded, Reading, reader_environ, state_directory
from sidecar.core.findings import Finding
from sidecar.core.settings.proof import VerifySettings
from sidecar.core.settings.settings import Settings
from sidecar.core.text import printable
from sidecar.machine import missing_right, name_of_user

config_option = click.option(
    "--config",
    metavar="FILE",
    type=click.Path(path_type=Path, readable=False),
    help=f"The settings file (TOML). The default is {USUAL_FILE}, or the built-in settings if it does not exist.",
)


class ExistingPath(click.Path):
    """A file or folder that must exist. If this user may not look, the error names the missing right."""

    def convert(self, value: str | os.PathLike[str], param: click.Parameter | None, ctx: click.Context | None) -> Any:  # noqa: ANN401 - as in click
        """Check that the path exists."""
        if str(value).startswith("nats:"):
            return Path(value)  # a stream, which the command opens
        if value != "-" and (missing := missing_right(Path(value))) is not None:
            self.fail(f"{value} cannot be read: {missing}.", param, ctx)
        return super().convert(value, param, ctx)


def finding_line(finding: Finding) -> str:
    """Return a finding as one line: `file:line: error: key: what is wrong. What to write instead.`."""
    parts = filter(None, (finding.place, finding.level, finding.key))
    return printable(f"{': '.join(parts)}: {finding.text} {finding.fix}")


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


def config_file(config: Path | None, *, otherwise: str = "the built-in settings are used") -> Path | None:
    """Return the settings file of a command: the named one, or else the usual one, or None if that does not exist.

    If none was named, print on standard error which it is.
    """
    if config is not None:
        return config
    try:
        USUAL_FILE.stat()
    except (FileNotFoundError, NotADirectoryError):
        click.echo(f"There is no {USUAL_FILE}: {otherwise}.", err=True)
        return None
    except OSError:
        pass  # the file exists, and reading it reports what is wrong
    click.echo(f"The settings are in {USUAL_FILE}.", err=True)
    return USUAL_FILE


def settings_or_exit(config: Path | None) -> Settings:
    """Load the settings of a command, or print their errors and exit, as `loaded_or_exit`."""
    return loaded_or_exit(Reading(config_file(config)).loaded)


def secrets_or_exit(config: Path | None) -> VerifySettings:
    """Return the section [verify] of the settings, as `settings_or_exit`. Raise click.ClickException if it names no secret."""
    verify = settings_or_exit(config).verify
    if verify is None or not verify.secrets:
        raise click.ClickException('The settings have no secret. Write secret_files = ["secret"] below [verify].')
    return verify


def reader_settings_or_exit(config: Path | None) -> Settings:
    """Load the settings of a command that reads what another user's sidecar wrote; otherwise as `settings_or_exit`."""
    return loaded_or_exit(Reading(config_file(config), environ=reader_environ()).loaded)


def journal_or_exit(config: Path | None) -> Path:
    """Return the journal of the sidecar with these settings. If it cannot be read, print why and exit with status 1.

    If the settings have errors, these are printed, and the usual folder in the state directory is returned if it exists: a
    running sidecar still writes there.
    """
    file = config_file(config)
    loaded = Reading(file, environ=reader_environ()).loaded
    if loaded.settings is not None:
        directory = loaded.settings.journal.directory
    else:
        print_errors(loaded.problems)
        directory = state_directory(file) / "journal"
        if missing_right(directory) is None and not directory.exists():
            sys.exit(1)
        click.echo(printable(f"The settings have errors. The records are read from {directory}."), err=True)
    if (missing := missing_right(directory)) is not None:
        click.echo(printable(f"{directory} cannot be read: {missing}."), err=True)
        sys.exit(1)
    return directory


def loaded_or_exit(loaded: Loaded) -> Settings:
    """Return the settings. If they have errors, print these to standard error and exit with status 1."""
    if loaded.settings is None:
        print_errors(loaded.problems)
        sys.exit(1)
    return loaded.settings


def require_owner(settings: Settings) -> None:
    """Raise click.ClickException if root would make files that the user of the sidecar cannot write."""
    directory = settings.state_directory
    if os.geteuid() == 0 and directory.exists() and (owner := directory.stat().st_uid) != 0:
        user = name_of_user(owner)
        raise click.ClickException(printable(f"{directory} belongs to {user}. Run the command as this user: sudo -u {user}."))
