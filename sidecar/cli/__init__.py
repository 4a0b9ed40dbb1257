"""The commands, one module each: arguments in, exit status out. No decisions are taken here.

Exit status: 0 fine, 1 the answer is bad news (an unreadable file, settings with errors), 2 wrong usage.
"""

import errno
import os
import sys
from importlib import import_module
from typing import Any

import click

# Named here rather than imported, so that `sidecar --help` and each command load only what they need.
COMMANDS = ("run", "status", "tail", "stats", "check", "diff", "explain", "replay", "parse", "export", "doctor", "simulate")


class LazyGroup(click.Group):
    """A group that imports a command's module only when that command is wanted."""

    def list_commands(self, _ctx: click.Context) -> list[str]:
        """Give the commands in the order a newcomer needs them."""
        return list(COMMANDS)

    def get_command(self, _ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the command of that name; None when there is none."""
        if cmd_name not in COMMANDS:
            return None
        command = import_module(f"sidecar.cli.{cmd_name}").command
        assert isinstance(command, click.Command)  # noqa: S101 - a module without its command is our own slip
        return command

    def invoke(self, ctx: click.Context) -> Any:  # noqa: ANN401 - as click has it
        """Run the command; output that cannot be written is one sentence, not a traceback."""
        try:
            result = super().invoke(ctx)
            sys.stdout.flush()
        except OSError as error:
            # A reader that has seen enough (`| head`) is click's to deal with; for the rest, what is not written yet must
            # not be tried again when the interpreter ends.
            if error.errno == errno.EPIPE or error.filename is not None:
                raise
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.__stdout__.fileno() if sys.__stdout__ else 1)
            raise click.ClickException(f"The output cannot be written: {error.strerror}.") from error
        else:
            return result


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="sidecar", prog_name="sidecar")
def main() -> None:
    """Take bounce and feedback reports from strangers, refuse the rest, and say why."""
