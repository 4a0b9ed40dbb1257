"""Where the programs of a test live.

Owns one directory for each, and its end. Never uses pytest's: user postfix may not come through that.
"""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def private_directory(below: str = "/tmp") -> Iterator[Path]:  # noqa: S108 - mkdtemp makes a name that nobody can guess
    """Give a new directory that every user may pass; remove it in the end, whatever happened."""
    # A UNIX socket's path has 107 bytes at most, and TMPDIR may be long or closed to others.
    directory = Path(tempfile.mkdtemp(prefix="sidecar-", dir=below))
    try:
        directory.chmod(0o755)
        yield directory
    finally:
        shutil.rmtree(directory)
