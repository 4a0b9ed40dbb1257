"""What is kept on disk: the journal, whose segments hold one record a line, and the quarantine of unreadable reports.

Owns the files in their two directories. Never looks into a record or a message.
"""

from sidecar.journal.error import JournalError
from sidecar.journal.follow import Followed, Follower
from sidecar.journal.journal import Journal
from sidecar.journal.lines import Line, Skipped
from sidecar.journal.quarantine import Quarantine, QuarantineFullError
from sidecar.journal.reader import STDIN, kind_of, passed_over, read, stored_size
from sidecar.journal.segment import is_finished

__all__ = [
    "STDIN",
    "Followed",
    "Follower",
    "Journal",
    "JournalError",
    "Line",
    "Quarantine",
    "QuarantineFullError",
    "Skipped",
    "is_finished",
    "kind_of",
    "passed_over",
    "read",
    "stored_size",
]
