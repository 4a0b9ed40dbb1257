"""The journal: records on disk, one JSON object a line, in segments that are only ever appended to.

Owns the files in the journal directory. Never looks into a record.
"""

from sidecar.journal.error import JournalError
from sidecar.journal.journal import Journal
from sidecar.journal.reader import Line, Skipped, read

__all__ = ["Journal", "JournalError", "Line", "Skipped", "read"]
