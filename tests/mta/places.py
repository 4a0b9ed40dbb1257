"""Directories of test programs.

Owns one directory for each and its removal, and unpacking packages. Never uses pytest's tmp_path: user postfix cannot enter it.
"""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

RUN_DIRECTORY = "TESTS_RUN_DIRECTORY"
"""The environment variable with the directory of this test run, which tests/conftest.py makes and removes."""


def new_directory(below: str | None = None) -> Path:
    """Make a directory that only this user can pass through. Its path is short: a UNIX socket's has 107 bytes at most."""
    # TMPDIR may be long, or closed to user postfix. no other user can guess the name that mkdtemp makes.
    return Path(tempfile.mkdtemp(prefix="sidecar-", dir=below or os.environ.get(RUN_DIRECTORY, "/tmp")))  # noqa: S108


def unpack(folder: Path, *packages: str) -> None:
    """Unpack packages of Debian into a folder, unless that exists."""
    subprocess.run([Path(__file__).with_name("unpack.sh"), folder, *packages], check=True)


@contextmanager
def private_directory(below: str | None = None) -> Iterator[Path]:
    """Make a directory that every user can pass through; remove it at the end, also after a failure."""
    directory = new_directory(below)
    try:
        directory.chmod(0o755)
        yield directory
    finally:
        shutil.rmtree(directory)
