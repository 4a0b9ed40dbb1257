"""`sidecar run`: the milter itself."""

import signal
import sys
from pathlib import Path

import click

from sidecar import log
from sidecar.daemon.process import Loader, LoaderError, Terminal, run
from sidecar.output.help import Command
from sidecar.output.problems import config_option, loaded_or_exit, sentence


@click.command(
    "run",
    cls=Command,
    examples=["sidecar run --config /etc/sidecar/sidecar.toml"],
    statuses={0: "it was told to stop, and did so in order", 1: "it could not start; its last line says why"},
)
@config_option
def command(config: Path | None) -> None:
    """Serve MTAs until stopped.

    SIGHUP, and a change of the files, loads the settings again. SIGTERM stops in order, and so does the end of the terminal.
    """
    terminal = Terminal()
    # A reload that is asked for while the settings are being loaded is done by then; the default would end the program.
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    loader = Loader(config)
    try:
        loaded = loader.wait()
    except LoaderError as error:
        click.echo(sentence(error), err=True)
        sys.exit(1)
    settings = loaded_or_exit(loaded)
    log.configure(level=settings.log.level, format=settings.log.format)
    sys.exit(run(settings, loaded.sources, loader, terminal))
