"""What commands that read a log share: following it, and the files of a folder that are not read.

Owns the interval between two polls. Never reads a line.
"""

import errno
import select
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import click

from sidecar.core.text import counted, printable
from sidecar.journal.read import Followed, Follower, passed_over

_PAUSE = 0.2  # seconds between two polls; longer after a slow poll, which is to use at most a twentieth of the time
_PAUSE_FACTOR = 20


def polls(follower: Follower) -> Iterator[list[Followed]]:
    """Return, at each poll, the files with new lines. Read them before the next poll.

    Ends only with BrokenPipeError, when the reader of the output is gone, or with JournalError.
    """
    while True:
        began = time.monotonic()
        yield follower.look()
        # The wait ends as soon as the reader of the output is gone, as in `| head -1`.
        output = select.poll()
        output.register(sys.stdout, 0)  # poll(2) always reports errors and hang-ups
        if output.poll(1000 * max(_PAUSE, _PAUSE_FACTOR * (time.monotonic() - began))):
            raise BrokenPipeError(errno.EPIPE, "the reader of the output is gone")


def warn_of_skipped_files(path: Path) -> None:
    """Name on standard error a file whose name is not that of a segment, and which is not read. Raise JournalError."""
    if (found := passed_over(path)) is None:
        return
    file, count = found
    if count == 1:
        text = f"{file} is not read, because its name is not that of a segment. To read it, name it as PATH."
    else:
        others = counted(count - 1, "other file")
        text = f"{file} and {others} are not read, because their names are not those of segments. To read one, name it as PATH."
    click.echo(printable(text), err=True)
