"""What every `--help` has, in this order: usage, what the command does, options, examples, exit status.

Owns the shape of help. Never says what a command does: each command declares that beside its code.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import click
from click.shell_completion import CompletionItem

WRONG_USAGE = 2
INTERRUPTED = 130
"""As for `tail -f`, which dies of Ctrl-C: 128 and the number of SIGINT."""


Complete = Callable[[click.Context, click.Parameter, str], list[CompletionItem]]


def completion(words: Iterable[str]) -> Complete:
    """Let the shell complete these words as the value of an option."""
    known = tuple(words)

    def complete(_ctx: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
        return [CompletionItem(word) for word in known if word.lower().startswith(incomplete.lower())]

    return complete


class Command(click.Command):
    """A command whose help ends with examples and exit statuses.

    `examples` are shell commands; one that is too long for 80 columns goes on in the next line, after a backslash. `statuses`
    tells what each exit status means; that 2 is wrong usage need not be said.
    """

    def __init__(self, *args: Any, examples: Sequence[str], statuses: Mapping[int, str], **settings: Any) -> None:  # noqa: ANN401 - click's own
        super().__init__(*args, **settings)
        self.examples = tuple(examples)
        self.statuses = dict(sorted(({WRONG_USAGE: "wrong usage"} | dict(statuses)).items()))

    def format_epilog(self, _ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write what stands below the options."""
        write_examples(formatter, self.examples)
        write_statuses(formatter, self.statuses)


def write_examples(formatter: click.HelpFormatter, examples: Iterable[str]) -> None:
    """Write the section with the examples; their lines are never folded."""
    with formatter.section("Examples"):
        for line in "\n".join(examples).splitlines():
            formatter.write(f"{'':{formatter.current_indent}}{line}\n")


def write_statuses(formatter: click.HelpFormatter, statuses: Mapping[int, str]) -> None:
    """Write the section with the exit statuses."""
    with formatter.section("Exit status"):
        formatter.write_dl([(str(status), meaning) for status, meaning in statuses.items()])
