"""What is kept on disk: the journal, whose segments hold one record a line, and the quarantine of unreadable reports.

Owns the files in their two directories. Never looks into a record or a message.
"""

from sidecar.journal.error import JournalError
from sidecar.journal.journal import Journal
from sidecar.journal.quarantine import Quarantine, QuarantineFullError
from sidecar.journal.reader import Line, Skipped, read

__all__ = ["Journal", "JournalError", "Line", "Quarantine", "QuarantineFullError", "Skipped", "read"]
