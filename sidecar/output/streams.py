"""The standard streams of the program, and files that it writes for its user.

Owns that output is written completely, or that an error says why not.
"""

import os
import shutil
import sys
import tempfile
from collections.abc import Iterable
from contextlib import suppress
from io import TextIOWrapper
from pathlib import Path

import click
import msgspec

from sidecar.core.text import printable, printable_json
from sidecar.output.wrapping import hanging_indent, wrap_line

_STANDARD = 2  # the highest of the three standard descriptors


def prepare_streams() -> None:
    """Make every text writable in any character set, and connect streams that the caller closed to /dev/null."""
    # Otherwise a file that is opened later would become the output.
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= _STANDARD:
        pass
    os.close(descriptor)
    # A stream that was closed at the start is None.
    sys.stdin = sys.stdin or open(0, encoding="utf-8", closefd=False)  # noqa: SIM115 - a descriptor, for the program's life
    sys.stdout = sys.stdout or open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.stderr = sys.stderr or open(2, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def print_json(value: object) -> None:
    """Print a value as one line of JSON. Characters that control a terminal are escaped."""
    sys.stdout.buffer.write(printable_json(msgspec.json.encode(value)) + b"\n")


def print_lines(lines: Iterable[str]) -> None:
    """Print lines of external text, escaped. On a terminal they are wrapped between words, and in a pipe they stay whole."""
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    for line in map(printable, lines):
        wrapped = [line] if width is None else wrap_line(line, width, indent=hanging_indent(line))
        click.echo("\n".join(wrapped))


def write_file(path: Path, content: bytes, *, mode: int | None = None) -> None:
    """Replace a file in one step, with its content on disk. A link stays, and the file that it names is replaced.

    A pipe or a device such as /dev/stdout is written directly. Without `mode` the umask decides. Raise click.ClickException.
    """
    try:
        if path.exists() and not path.is_file():
            path.write_bytes(content)
        else:
            if mode is None:
                os.umask(mask := os.umask(0o077))  # the umask can only be read by setting it
                mode = 0o666 & ~mask
            _replace(path.resolve(), content, mode)
    except OSError as error:
        fix = "Name a file in a folder that this user can write to."
        raise click.ClickException(f"{printable(str(path))} cannot be written: {error.strerror}. {fix}") from error


def _replace(path: Path, content: bytes, mode: int) -> None:
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name[:100]}.", dir=path.parent)
    try:
        with open(descriptor, "wb") as file:  # noqa: PTH123 - a descriptor
            file.write(content)
            file.flush()
            os.fchmod(descriptor, mode)
            os.fsync(descriptor)
        Path(name).replace(path)
    except OSError:
        with suppress(OSError):
            Path(name).unlink()
        raise


def sentence(text: object) -> str:
    """Return the text of an error as an escaped sentence: with a capital, if it begins with a word, and a full stop."""
    words = printable(str(text))
    first = words.partition(" ")[0]
    return f"{words[:1].upper() if first.isalpha() else words[:1]}{words[1:]}."
