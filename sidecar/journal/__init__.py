"""What is kept on disk: the journal, whose segments hold one record a line, and the quarantine of unparsable reports.

`write` and `read` share the layout of the files. Neither knows anything of mail but its records.
"""

from sidecar.journal.error import JournalError

__all__ = ["JournalError"]
