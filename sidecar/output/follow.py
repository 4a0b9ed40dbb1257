"""Looking at a log again and again while it is written.

Owns how long is waited between two looks. Never reads a line.
"""

import errno
import select
import sys
import time
from collections.abc import Iterator

from sidecar.journal.read import Followed, Follower

_PAUSE = 0.2  # seconds between two looks; more, where a look takes long: it may use a twentieth of the time
_PAUSE_FACTOR = 20


def looks(follower: Follower) -> Iterator[list[Followed]]:
    """Give the files that have something new, at each look; to be read before the next.

    Never ends, but for BrokenPipeError, when nobody reads the output any more. Raises JournalError.
    """
    while True:
        began = time.monotonic()
        yield follower.look()
        if _reader_leaves(max(_PAUSE, _PAUSE_FACTOR * (time.monotonic() - began))):
            raise BrokenPipeError(errno.EPIPE, "nobody reads the output any more")


def _reader_leaves(seconds: float) -> bool:
    """Wait; tell whether whoever reads the output goes away meanwhile, as in `| head -1`."""
    poll = select.poll()
    poll.register(sys.stdout, 0)  # of an error or a hang-up, poll(2) tells unasked
    return bool(poll.poll(seconds * 1000))
