"""The standard streams of the program, and files that it writes for its user.

Owns that output arrives whole, or that one sentence says why not. Never decides what is written.
"""

import os
import sys
import tempfile
from contextlib import suppress
from io import TextIOWrapper
from pathlib import Path

import click

from sidecar.core.text import printable

_STANDARD = 2  # the descriptors up to this one


def prepare_streams() -> None:
    """Let every text be written, whatever the character set, and let streams that the caller has closed lead nowhere.

    Closed ones are taken, too: a file that is opened later must not become the output.
    """
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= _STANDARD:
        pass
    os.close(descriptor)
    # Python gives None for a stream that was closed when it began.
    sys.stdin = sys.stdin or _stream(0, "r")
    sys.stdout = sys.stdout or _stream(1, "w")
    sys.stderr = sys.stderr or _stream(2, "w")
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _stream(descriptor: int, mode: str) -> TextIOWrapper:
    made = open(descriptor, mode, encoding="utf-8", closefd=False)  # noqa: SIM115 - a descriptor, for the program's life
    assert isinstance(made, TextIOWrapper)  # noqa: S101 - of text modes open() makes nothing else
    return made


def write_file(path: Path, content: bytes, *, mode: int | None = None) -> None:
    """Write a file whole or not at all, with its content on the disk; where `path` is a link, the file that it names.

    What is no file (a pipe, /dev/stdout) is simply written to. `mode` is for a file that others must read; without it the umask
    decides. Raises click's error.
    """
    try:
        if path.exists() and not path.is_file():
            path.write_bytes(content)
        else:
            _replace(path.resolve(), content, 0o666 & ~_umask() if mode is None else mode)
    except OSError as error:
        fix = "Name a file in a folder that this user may write to."
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


def _umask() -> int:
    """Ask for it in the only way there is."""
    mask = os.umask(0o077)
    os.umask(mask)
    return mask
