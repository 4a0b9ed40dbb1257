"""What all commands have in common: the shape of `--help`, with examples and exit statuses, and the end at an error.

Never describes a command: each command has its own texts.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import click
from click.shell_completion import CompletionItem

from sidecar.core.text import OperatorError, did_you_mean
from sidecar.output.streams import sentence

WRONG_USAGE = 2
INTERRUPTED = 130
"""128 and the number of SIGINT: the status of a program that Ctrl-C ends."""


def completion(words: Iterable[str]) -> Callable[[click.Context, click.Parameter, str], list[CompletionItem]]:
    """Return a completion of an option's value to one of these words."""
    known = tuple(words)
    return lambda _context, _parameter, typed: [
        CompletionItem(word) for word in known if word.lower().startswith(typed.lower())
    ]


class Command(click.Command):
    """A command whose help ends with examples and exit statuses.

    `examples` are shell commands, folded to 80 columns with a backslash. `statuses` has the meaning of each exit status. The
    default of 2 is "wrong usage".
    """

    def __init__(self, *args: Any, examples: Sequence[str], statuses: Mapping[int, str], **settings: Any) -> None:  # noqa: ANN401 - click's own
        super().__init__(*args, **settings)
        self.examples = tuple(examples)
        self.statuses = dict(sorted(({WRONG_USAGE: "wrong usage"} | dict(statuses)).items()))

    def invoke(self, ctx: click.Context) -> Any:  # noqa: ANN401 - as in click
        """Run the command. Raise click.ClickException for an OperatorError."""
        try:
            return super().invoke(ctx)
        except OperatorError as error:
            raise click.ClickException(sentence(error)) from error

    def format_epilog(self, _ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the text below the options."""
        write_epilog(formatter, self.examples, self.statuses)


class CommandGroup(Command, click.Group):
    """A group of commands. For a command that does not exist, it names the most similar one."""

    command_class = Command

    def resolve_command(self, ctx: click.Context, args: list[str]) -> tuple[str | None, click.Command | None, list[str]]:
        """Return the command that the arguments name, and the rest of them. Raise click.UsageError."""
        name, known = args[0], self.list_commands(ctx)
        # An option is rejected by click.
        if not ctx.resilient_parsing and name not in known and not name.startswith("-"):
            starting = [one for one in known if one.startswith(name)]
            word = starting[0] if len(starting) == 1 else name
            hint = did_you_mean(word, known, f"`{ctx.command_path} --help` lists the commands.")
            ctx.fail(f"No such command {name!r}. {hint}")
        return super().resolve_command(ctx, args)


def write_epilog(formatter: click.HelpFormatter, examples: Iterable[str], statuses: Mapping[int, str]) -> None:
    """Write the examples, whose lines are never folded, and the exit statuses."""
    with formatter.section("Examples"):
        for line in "\n".join(examples).splitlines():
            formatter.write(f"{'':{formatter.current_indent}}{line}\n")
    with formatter.section("Exit status"):
        formatter.write_dl([(str(status), meaning) for status, meaning in statuses.items()])
