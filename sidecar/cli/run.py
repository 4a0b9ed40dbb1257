"""`sidecar run`: the milter itself."""

import signal
from pathlib import Path

import click

from sidecar import log
from sidecar.cli.problems import config_option, load_or_exit
from sidecar.supervisor import run, tell


@click.command()
@config_option
def command(config: Path | None) -> None:
    """Serve MTAs until stopped.

    SIGHUP, and a change of the files, loads the settings anew; SIGTERM stops in order.
    """
    # A reload that is asked for while the settings are being loaded is done by then; the default would end the program.
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    settings, loaded = load_or_exit(config, quiet=True)
    log.configure(level=settings.log.level, format=settings.log.format)
    # In the log's own form, and not before it has one: whoever collects it reads line by line.
    for warning in loaded.problems:
        tell(warning)
    raise SystemExit(run(config, settings, loaded.sources))
