"""What is kept on disk: the journal, whose segments hold one record a line, and the quarantine of unparsable reports.

`write` and `read` share the layout of the files. Both know only records, and nothing else of mail.
"""

import errno
from pathlib import Path
from typing import Self


class JournalError(Exception):
    """Records cannot be written or read; the text is one plain sentence for the operator, without a full stop."""

    @classmethod
    def because(cls, error: OSError, *, fact: str, path: Path, then: str) -> Self:
        """Return an error with the `fact` about `path`, the system's reason, and `then` what follows or what to do."""
        code = errno.errorcode.get(error.errno or 0, "no code")
        return cls(f"{fact} {path}: {error.strerror or error} ({code}); {then}")
