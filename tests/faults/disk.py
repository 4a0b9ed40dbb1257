"""A small disk for what the sidecar writes, which can be filled and freed, and made read-only.

Owns the mounts. Needs root.
"""

import errno
import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class Disk:
    """The file system mounted at `path`."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @contextmanager
    def full(self) -> Iterator[None]:
        """Take all the room that is left, for a while."""
        ballast = self.path / "ballast"
        try:
            with ballast.open("wb", buffering=0) as file:
                _fill(file.fileno())
            yield
        finally:
            ballast.unlink()

    @contextmanager
    def read_only(self) -> Iterator[None]:
        """Let no file be opened for writing there, for a while. Those that are open already stay so (mount(8))."""
        with tempfile.TemporaryDirectory() as aside:
            # A mount that is in use cannot become read-only, so it becomes so where no program writes.
            _run("mount", "--bind", self.path, aside)
            try:
                _run("mount", "--options", "remount,bind,ro", aside)
                _run("mount", "--bind", aside, self.path)
            finally:
                _run("umount", "--lazy", aside)
        try:
            yield
        finally:
            _run("umount", "--lazy", self.path)


def _fill(descriptor: int) -> None:
    try:
        while True:
            os.write(descriptor, b"\0" * 65536)
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise


@contextmanager
def small_disk(path: Path, *, megabytes: int) -> Iterator[Disk]:
    """Mount a new disk at `path`, a directory; it is gone in the end."""
    _run("mount", "--types", "tmpfs", "--options", f"size={megabytes}m,mode=0755", "sidecar-state", path)
    try:
        yield Disk(path)
    finally:
        _run("umount", "--lazy", path)


def mounts_permitted() -> bool:
    """Tell whether file systems may be mounted here; in a container even root may not."""
    with tempfile.TemporaryDirectory() as name:
        try:
            with small_disk(Path(name), megabytes=1):
                return True
        except subprocess.CalledProcessError:
            return False


def _run(*command: str | Path) -> None:
    subprocess.run(command, check=True, capture_output=True)
