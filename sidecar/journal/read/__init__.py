"""Reading records: the lines of files, folders and standard input, also while they grow."""

from sidecar.journal.read.checkpoints import Checkpoint, Checkpoints, ReaderState, SegmentMark
from sidecar.journal.read.follow import Followed, Follower, followers
from sidecar.journal.read.lines import Line, Skipped
from sidecar.journal.read.reader import STDIN, kind_of, line_at, passed_over, read, stored_size

__all__ = [
    "STDIN",
    "Checkpoint",
    "Checkpoints",
    "Followed",
    "Follower",
    "Line",
    "ReaderState",
    "SegmentMark",
    "Skipped",
    "followers",
    "kind_of",
    "line_at",
    "passed_over",
    "read",
    "stored_size",
]
