"""A Debian 12 for tests: made once by debootstrap below build/, and a writable layer over it for each test.

Owns its mounts and processes. Never changes what debootstrap made, and shares no network with this machine.
"""

import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self

from tests import ROOT
from tests.mta.processes import owned, stop_group, wait_until

FOLDER = ROOT / "build" / "machines"
# What the packages depend on, and what the documents use: nothing is downloaded when they are installed. No compiler.
PACKAGES = ("curl", "haproxy", "libmilter1.0.1", "pipx", "postfix", "procps", "python3", "systemd", "systemd-sysv")
_ENVIRON = ("PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C.UTF-8", "HOME=/root", "DEBIAN_FRONTEND=noninteractive")
_NSPAWN = ("systemd-nspawn", "--quiet", "--register=no", "--keep-unit", "--private-network", "--resolv-conf=off", "--boot")


def base() -> Path:
    """Return the Debian that all machines begin with. Make it if it is missing or has other packages."""
    root, stamp = FOLDER / "base", FOLDER / "base.packages"
    wanted = " ".join(PACKAGES)
    if not stamp.exists() or stamp.read_text() != wanted:
        FOLDER.mkdir(parents=True, exist_ok=True)
        stamp.unlink(missing_ok=True)
        shutil.rmtree(root, ignore_errors=True)
        # From where this machine has its own packages.
        targets = ["apt-get", "indextargets", "--format", "$(REPO_URI)", "Created-By: Packages", "Codename: bookworm"]
        sources = subprocess.run(targets, stdout=subprocess.PIPE, text=True, check=True).stdout.split()
        command = ["debootstrap", "--variant=minbase", f"--include={','.join(PACKAGES)}", "bookworm", str(root), *sources[:1]]
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
        assert done.returncode == 0, done.stdout[-3000:]
        stamp.write_text(wanted)
    return root


class Machine:
    """A Debian that a test can change. `root` is its root folder; `boot` starts its systemd. `outputs` is for tests."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.outputs: dict[str, str] = {}
        self._container: subprocess.Popen[bytes] | None = None

    def path(self, path: str) -> Path:
        """Return a path of the machine, as this machine sees it. A booted machine has file systems of its own."""
        return (self.root if self._container is None else Path(f"/proc/{self._leader()}/root")) / path.lstrip("/")

    def run(self, *command: str, status: int = 0) -> str:
        """Run a command as root, and return all of its output. It must end with the status."""
        if self._container is None:
            proc = f"--mount-proc={self.root}/proc"
            enter = ["unshare", "--mount", "--pid", "--fork", "--kill-child", proc, "chroot", str(self.root)]
        else:
            enter = ["nsenter", "--all", "--target", str(self._leader()), "--"]
        done = subprocess.run(
            [*enter, "/usr/bin/env", "-i", *_ENVIRON, *command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        assert done.returncode == status, (command, done.returncode, done.stdout)
        return done.stdout

    def succeeds(self, *command: str) -> bool:
        """Return True if a command succeeds."""
        try:
            self.run(*command)
        except AssertionError:
            return False
        return True

    def install(self, package: Path) -> str:
        """Install or upgrade a package as an administrator does, who keeps what he has changed. Return the output."""
        target = self.path(f"/root/{package.name}")
        shutil.copy(package, target)
        keep = "--option=Dpkg::Options::=--force-confold"
        return self.run("apt-get", "install", "--yes", keep, f"/root/{package.name}")

    def boot(self) -> Self:
        """Start systemd, and wait until it has started everything."""
        self._container = owned([*_NSPAWN, f"--directory={self.root}", "--console=pipe"])
        wait_until(lambda: self._has_leader() and self.succeeds("systemctl", "is-system-running"), "systemd runs")
        return self

    def _has_leader(self) -> bool:
        assert self._container is not None
        assert self._container.poll() is None, "systemd-nspawn has ended"
        return bool(self._children())

    def _children(self) -> list[str]:
        assert self._container is not None
        pid = self._container.pid
        return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()

    def _leader(self) -> int:
        return int(self._children()[0])

    def halt(self) -> None:
        """Stop systemd, if it runs."""
        if self._container is not None:
            stop_group(self._container, signal.SIGTERM)
            self._container = None


@contextmanager
def machine() -> Iterator[Machine]:
    """Yield a machine, and remove all of it."""
    lower = base()
    layers = FOLDER / "layers"
    upper, work, root = (layers / name for name in ("upper", "work", "root"))
    # What a test left that was killed.
    subprocess.run(["umount", "--recursive", "--quiet", root], stderr=subprocess.DEVNULL, check=False)
    shutil.rmtree(layers, ignore_errors=True)
    for folder in (upper, work, root):
        folder.mkdir(parents=True)
    options = f"lowerdir={lower},upperdir={upper},workdir={work}"
    subprocess.run(["mount", "-t", "overlay", "-o", options, "overlay", root], check=True)
    one = Machine(root)
    try:
        yield one
    finally:
        one.halt()
        subprocess.run(["umount", "--recursive", root], check=True)
        shutil.rmtree(layers)
