"""Directories and ports of test programs.

Owns one directory for each and its removal, unpacking packages, and free ports. Never uses pytest's tmp_path: user postfix
cannot enter it.
"""

import os
import secrets
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

RUN_DIRECTORY = "TESTS_RUN_DIRECTORY"
"""The environment variable with the directory of this test run, which tests/conftest.py makes and removes."""


def new_directory(below: str | None = None) -> Path:
    """Make a directory that only this user can pass through. Its path is short: a UNIX socket's has 107 bytes at most."""
    # TMPDIR may be long, or closed to user postfix. no other user can guess the name that mkdtemp makes.
    return Path(tempfile.mkdtemp(prefix="sidecar-", dir=below or os.environ.get(RUN_DIRECTORY, "/tmp")))  # noqa: S108


def free_port() -> int:
    """Return a port of 127.0.0.1 on which nothing listens.

    It is below those that the kernel gives to outgoing connections: thousands of them could take it before a program listens.
    """
    first, _ = Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()
    while True:
        # Not of `random`: a property test sets its seed, and each process would try the same ports.
        port = int(first) // 2 + secrets.randbelow(int(first) // 2)
        with suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port


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
