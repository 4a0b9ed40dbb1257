"""The one exception of this package. Owns its wording; never decides on mail."""

import errno
from pathlib import Path
from typing import Self


class JournalError(Exception):
    """Records could not be written or read; the text is one plain sentence for the operator, without a full stop."""

    @classmethod
    def because(cls, error: OSError, *, fact: str, path: Path, then: str) -> Self:
        """Say `fact` about `path`, the system's reason, and `then` what follows or what to do."""
        code = errno.errorcode.get(error.errno or 0, "no code")
        return cls(f"{fact} {path}: {error.strerror or error} ({code}); {then}")
