"""The commands, one module each: arguments in, exit status out. No decisions are taken here.

Exit status: 0 fine, 1 the answer is bad news (an unreadable file, settings with errors), 2 wrong usage, 130 Ctrl-C.
"""

import errno
import os
import sys
from collections.abc import Mapping
from importlib import import_module
from typing import Any, Final, NoReturn

import click
from click.shell_completion import CompletionItem

from sidecar.core.text import printable
from sidecar.output.help import INTERRUPTED, write_examples, write_statuses
from sidecar.output.problems import sentence
from sidecar.output.streams import prepare_streams

# What an operator is about, and the commands for it. Named here rather than imported, so that `sidecar --help` and each command
# load only what they need.
GROUPS: Final[Mapping[str, Mapping[str, str]]] = {
    "Running": {
        "run": "Serve MTAs until stopped.",
        "status": "Say whether it runs, and how its last reload went.",
    },
    "Asking what happened, and why": {
        "explain": "Say why a message is accepted or refused.",
        "tail": "Show records as they are written.",
        "stats": "Count what came, from whom, for whom and why.",
        "parse": "Say whether a message is a report, and what it says.",
    },
    "Before something changes": {
        "check": "Check the settings and every file they name.",
        "diff": "Say what changes between two configurations.",
        "replay": "Put stored mail to the settings.",
    },
    "The MTA": {
        "doctor": "Check the MTA's settings against the sidecar's.",
        "export": "Write the domains that the MTA may take mail for.",
        "simulate": "Send reports through a running MTA as a stranger.",
    },
}
COMMANDS: Final[Mapping[str, str]] = {name: summary for group in GROUPS.values() for name, summary in group.items()}

EXAMPLES: Final = (
    "sidecar check --config /etc/sidecar/sidecar.toml",
    "sidecar run --config /etc/sidecar/sidecar.toml",
    "sidecar explain --config /etc/sidecar/sidecar.toml \\\n    --peer 203.0.113.9 --from '' --to x@bounce.example.com",
)
STATUSES: Final[Mapping[int, str]] = {
    0: "fine",
    1: "bad news: settings with errors, something that cannot be read or written; each command says what",
    2: "wrong usage",
    INTERRUPTED: "interrupted by Ctrl-C; `run` then stops in order, and that is fine",
}


class LazyGroup(click.Group):
    """A group that imports a command's module only when that command is wanted."""

    def list_commands(self, _ctx: click.Context) -> list[str]:
        """Give the commands in the order a newcomer needs them."""
        return list(COMMANDS)

    def get_command(self, _ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the command of that name; None when there is none."""
        if cmd_name not in COMMANDS:
            return None
        module = import_module(f"sidecar.commands.{cmd_name}")
        if hasattr(module, "__path__"):  # a command that is a folder
            module = import_module(f"sidecar.commands.{cmd_name}.command")
        command = module.command
        assert isinstance(command, click.Command)  # noqa: S101 - a module without its command is our own slip
        return command

    def format_commands(self, _ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the commands, those for one purpose together."""
        width = max(map(len, COMMANDS))
        for heading, commands in GROUPS.items():
            with formatter.section(heading):
                formatter.write_dl([(f"{name:{width}}", summary) for name, summary in commands.items()])

    def format_epilog(self, _ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write what stands below the commands."""
        write_examples(formatter, EXAMPLES)
        write_statuses(formatter, STATUSES)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Give the commands for completion, without importing them."""
        commands = [CompletionItem(name, help=text) for name, text in COMMANDS.items() if name.startswith(incomplete)]
        return commands + click.Command.shell_complete(self, ctx, incomplete)

    def invoke(self, ctx: click.Context) -> Any:  # noqa: ANN401 - as click has it
        """Run the command. Errors quote arguments and files: their text is escaped here. Ctrl-C needs no message."""
        try:
            return super().invoke(ctx)
        except click.ClickException as error:
            error.message = "\n".join(map(printable, error.message.split("\n")))  # type: ignore[misc] # Final to subclasses
            raise
        except KeyboardInterrupt:
            ctx.exit(INTERRUPTED)

    def main(self, *args: Any, **settings: Any) -> Any:  # noqa: ANN401 - as click has it
        """Run the program; what cannot be read or written is one sentence, not a traceback."""
        prepare_streams()
        try:
            try:
                # However it was called: shells ask for completion under this name.
                return super().main(*args, **{"prog_name": "sidecar"} | settings)
            finally:
                sys.stdout.flush()
        except OSError as error:
            _give_up(error)


def _give_up(error: OSError) -> NoReturn:
    """End with exit status 1. A reader that has seen enough (`| head`) needs no word."""
    if error.filename is not None:
        click.echo(f"Error: {sentence(f'{error.filename} cannot be used: {error.strerror}')}", err=True)
        sys.exit(1)
    # What is not written yet must not be tried again when the interpreter ends.
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    if error.errno != errno.EPIPE:
        click.echo(f"Error: The output cannot be written: {error.strerror}.", err=True)
    sys.exit(1)


@click.group("sidecar", cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="sidecar", prog_name="sidecar")
def main() -> None:
    """Take bounce and feedback reports from strangers, refuse the rest, and say why.

    `sidecar COMMAND --help` tells more about a command.
    """
