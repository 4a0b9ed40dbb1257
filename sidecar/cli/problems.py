"""How the commands find their settings, and how problems with settings are printed.

Owns the one line a problem becomes. Never decides what is a problem.
"""

import sys
from pathlib import Path

import click

from sidecar.settings import Loaded, load
from sidecar.settings.values import Problem, Settings
from sidecar.settings.wording import printable

config_option = click.option(
    "--config",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="The settings file (TOML). Without one, the built-in defaults serve.",
)


def problem_line(problem: Problem) -> str:
    """Write a problem as one line: `file:line: error: key path: what is wrong. What to write instead.`."""
    where = problem.where
    parts = [str(where)] if where else []
    parts.append(problem.severity)
    parts += [where.key] if where and where.key else []
    return printable(f"{': '.join(parts)}: {problem.text} {problem.mend}")


def settings_or_exit(config: Path | None, *, quiet: bool = False) -> Settings:
    """Load the settings; problems go to standard error (warnings not when `quiet`), and errors end with exit status 1."""
    return load_or_exit(config, quiet=quiet)[0]


def load_or_exit(config: Path | None, *, quiet: bool = False) -> tuple[Settings, Loaded]:
    """Load the settings as `settings_or_exit` does, and give also what else came of it."""
    loaded = load(config)
    for problem in loaded.problems:
        if problem.severity == "error" or not quiet:
            click.echo(problem_line(problem), err=True)
    if loaded.settings is None:
        sys.exit(1)
    return loaded.settings, loaded
