"""The messages that a command line names: files, directories such as the quarantine, standard input."""

import os
import sys
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path

import click

from sidecar.core.text import printable

sender_option = click.option(
    "--from",
    "sender",
    metavar="ADDRESS",
    help="The envelope sender of each FILE; '' is the null sender. The default is its Return-Path.",
)
recipient_option = click.option(
    "--to", "recipient", metavar="ADDRESS", help="The envelope recipient of each FILE, with its address token."
)
messages_argument = click.argument("files", nargs=-1, required=True, type=click.Path(), metavar="FILE...")


def stored_messages(named: Iterable[str]) -> Iterator[tuple[str, bytes | None]]:
    """Yield the name and the content of each message. Report a file that cannot be read; its content is None.

    `-` is standard input. A directory stands for its files named *.eml.
    """
    for file in chain.from_iterable(map(_files, named)):
        name = os.fsencode(file).decode("utf-8", "replace")
        try:
            yield name, sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else str(error)
            click.echo(f"{printable(name)} cannot be read: {reason}. Name a file with a message.", err=True)
            yield name, None


def _files(named: str) -> list[str]:
    """Return the messages in a directory, or the file itself. An empty directory may be the wrong one, so it is reported."""
    if not Path(named).is_dir():
        return [named]
    found = sorted(str(path) for path in Path(named).glob("*.eml"))
    if not found:
        click.echo(f"{printable(named)} has no visible file named *.eml.", err=True)
    return found
