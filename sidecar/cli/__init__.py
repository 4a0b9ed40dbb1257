"""The commands, one module each: arguments in, exit status out. No decisions are taken here.

Exit status: 0 fine, 1 the answer is bad news (an unreadable file, settings with errors), 2 wrong usage.
"""

from importlib import import_module

import click

# Named here rather than imported, so that `sidecar --help` and each command load only what they need.
COMMANDS = ("run", "check", "explain", "parse", "export", "doctor")


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


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="sidecar", prog_name="sidecar")
def main() -> None:
    """Take bounce and feedback reports from strangers, refuse the rest, and say why."""
