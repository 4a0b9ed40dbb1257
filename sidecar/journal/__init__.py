"""What is kept on disk: the journal, whose segments hold one record a line, and the quarantine of unparsable reports.

`write` and `read` share the layout of the files: how a packed segment begins and ends, and the mode of a finished one.
Both know only records, and nothing else of mail.
"""

import errno
import os
from pathlib import Path
from typing import Self

MAGIC = b"\x28\xb5\x2f\xfd"
"""The first bytes of a zstd frame (RFC 8878 section 3.1.1)."""

WINDOW_LIMIT = 64 * 1024 * 1024
"""Bytes of memory that unpacking can need: the window of level 21, the highest of KumoMTA's `compression_level`."""

END_OF_FRAME = b"\x01\x00\x00"
"""A last block without content (RFC 8878 section 3.1.1.2). Our frames have no checksum, so any program can end one with it."""

WRITE_BITS = 0o222
"""The mode bits that a finished segment does not have."""


class JournalError(Exception):
    """Records cannot be written or read; the text is one plain sentence for the operator, without a full stop."""

    @classmethod
    def because(cls, error: OSError, *, fact: str, path: Path, then: str) -> Self:
        """Return an error with the `fact` about `path`, the system's reason, and `then` what follows or what to do."""
        code = errno.errorcode.get(error.errno or 0, "no code")
        return cls(f"{fact} {path}: {error.strerror or error} ({code}); {then}")


def is_finished(state: os.stat_result) -> bool:
    """Return True if a segment is finished, by its mode: the sidecar's and KumoMTA's are read-only then."""
    # Not by access(2), which always permits root.
    return not state.st_mode & WRITE_BITS
