"""The group of all commands. It loads a command only when it is called.

Owns the exit statuses that all commands share, and the last handler of errors.
"""

import errno
import os
import sys
from collections.abc import Mapping
from importlib import import_module
from typing import Any, Final, NoReturn

import click
from click.shell_completion import CompletionItem

from sidecar import __version__
from sidecar.core.text import printable
from sidecar.output.help import INTERRUPTED, CommandGroup
from sidecar.output.streams import prepare_streams, sentence

# The summaries are here, and not beside each command, so that `sidecar --help` loads no command.
GROUPS: Final[Mapping[str, Mapping[str, str]]] = {
    "Service": {
        "run": "Run the milter in the foreground until it is stopped.",
        "status": "Show if the sidecar is running, and its last reload.",
        "index": "Show or rebuild the index that the console searches.",
    },
    "Analysis": {
        "explain": "Explain why a message is accepted or rejected.",
        "tail": "Show new records, each with its reason.",
        "stats": "Count records by type, reason, peer, domain and time.",
        "parse": "Show if a message is a report, and what it reports.",
        "verify": "Show what a report proves about your mail.",
        "quarantine": "List, show and delete quarantined reports.",
        "suppression": "List and change the addresses not to send to; simulate rules.",
    },
    "Configuration": {
        "check": "Check the settings and all files that they name.",
        "diff": "Show what changes between two configurations.",
        "fleet": "Publish the policy of many nodes, and show their state.",
        "replay": "Run stored mail through a configuration.",
    },
    "Proofs": {
        "sign": "Sign an envelope sender, so that its bounces can be verified.",
        "keys": "Make, list and rotate secrets; make the keys of a fleet.",
    },
    "MTA": {
        "doctor": "Check the MTA's settings against the sidecar's.",
        "export": "Write the MTA's list of domains that it relays to.",
        "simulate": "Send test reports to an MTA as an external host.",
    },
}
COMMANDS: Final[Mapping[str, str]] = {name: summary for group in GROUPS.values() for name, summary in group.items()}

EXAMPLES: Final = (
    "sidecar check --config /etc/sidecar/sidecar.toml",
    "sidecar run --config /etc/sidecar/sidecar.toml",
    "sidecar explain --config /etc/sidecar/sidecar.toml \\\n    --peer 203.0.113.9 --from '' --to x@bounce.example.com",
)
STATUSES: Final[Mapping[int, str]] = {
    0: "success",
    1: "error: for example invalid settings, or a file that cannot be read; see the help of each command",
    2: "wrong usage",
    INTERRUPTED: "stopped by Ctrl-C; for `run` this is a normal stop with status 0",
}


class LazyGroup(CommandGroup):
    """A group that imports the module of a command only when it is called."""

    def list_commands(self, _ctx: click.Context) -> list[str]:
        """Return the commands in the order of the help."""
        return list(COMMANDS)

    def get_command(self, _ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return the command, imported now, or None if it does not exist."""
        if cmd_name not in COMMANDS:
            return None
        module = import_module(f"sidecar.commands.{cmd_name}")
        if hasattr(module, "__path__"):  # a package
            module = import_module(f"sidecar.commands.{cmd_name}.command")
        command = module.command
        assert isinstance(command, click.Command)  # noqa: S101 - each module has a command
        return command

    def format_commands(self, _ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the commands by group."""
        width = max(map(len, COMMANDS))
        for heading, commands in GROUPS.items():
            with formatter.section(heading):
                formatter.write_dl([(f"{name:{width}}", summary) for name, summary in commands.items()])

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Return the commands for completion, without importing them."""
        commands = [CompletionItem(name, help=text) for name, text in COMMANDS.items() if name.startswith(incomplete)]
        return commands + click.Command.shell_complete(self, ctx, incomplete)

    def invoke(self, ctx: click.Context) -> Any:  # noqa: ANN401 - as in click
        """Run the command. Escape the text of errors, which quote arguments and files. Ctrl-C prints nothing."""
        try:
            return super().invoke(ctx)
        except click.ClickException as error:
            error.message = "\n".join(map(printable, error.message.split("\n")))  # type: ignore[misc] # Final to subclasses
            raise
        except KeyboardInterrupt:
            ctx.exit(INTERRUPTED)

    def main(self, *args: Any, **settings: Any) -> Any:  # noqa: ANN401 - as in click
        """Run the program. An OSError becomes one sentence, not a traceback."""
        prepare_streams()
        try:
            try:
                # Completion of shells needs this name, however the program was called.
                return super().main(*args, **{"prog_name": "sidecar"} | settings)
            finally:
                sys.stdout.flush()
        except OSError as error:
            _exit_with(error)


def _exit_with(error: OSError) -> NoReturn:
    """Exit with status 1. If the reader of the output is gone (`| head`), print nothing."""
    if error.filename is not None:
        click.echo(f"Error: {sentence(f'{error.filename} cannot be used: {error.strerror}')}", err=True)
        sys.exit(1)
    # The interpreter must not write the rest again at its end.
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    if error.errno != errno.EPIPE:
        click.echo(f"Error: The output cannot be written: {error.strerror}.", err=True)
    sys.exit(1)


@click.group(
    "sidecar", cls=LazyGroup, examples=EXAMPLES, statuses=STATUSES, context_settings={"help_option_names": ["-h", "--help"]}
)
@click.version_option(__version__, prog_name="sidecar")
def main() -> None:
    """Accept bounce and feedback reports from external hosts, reject their other mail, and record the reason.

    `sidecar COMMAND --help` describes a command.
    """
