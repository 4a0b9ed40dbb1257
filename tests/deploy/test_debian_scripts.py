"""The maintainer scripts of the Debian package, with stubs in place of the system's commands and folders."""

import os
import re
import subprocess
from pathlib import Path

import pytest

from tests import ROOT

DEBIAN = ROOT / "deploy/debian"


def run(folder: Path, script: str, argument: str, **stubs: str) -> subprocess.CompletedProcess[str]:
    """Run a script whose folders are all below `folder`, with shell commands in place of programs."""
    programs = folder / "stubs"
    programs.mkdir(exist_ok=True)
    for name, text in stubs.items():
        (programs / name).write_text(f"#!/bin/sh\n{text}\n")
        (programs / name).chmod(0o755)
    text = (DEBIAN / script).read_text()
    for place in ("/var/lib/sidecar", "/usr/lib/sidecar", "/run/systemd/system"):
        text = text.replace(place, f"{folder}{place}")
    environ = {"PATH": f"{programs}:{os.environ['PATH']}"}
    return subprocess.run(["sh", "-c", text, script, argument], env=environ, capture_output=True, text=True, check=False)


def test_the_check_has_no_terminal(tmp_path: Path) -> None:
    """The check of the settings runs as user sidecar, in a session of its own: no process of this user gets root's terminal."""
    (tmp_path / "run/systemd/system").mkdir(parents=True)
    nothing = dict.fromkeys(("systemd-sysusers", "chgrp", "install", "py3compile", "deb-systemd-helper", "systemctl"), "exit 0")
    asked = f"ps -o sid= -p $$ | tr -d ' ' >{tmp_path}/session; readlink /proc/$$/fd/0 >>{tmp_path}/session"
    done = run(tmp_path, "postinst", "configure", **nothing, runuser=asked, **{"deb-systemd-invoke": "exit 0"})
    assert done.returncode == 0, done.stderr
    session, stdin = (tmp_path / "session").read_text().split()
    assert int(session) != os.getsid(0)
    assert stdin == "/dev/null"


def test_the_first_steps_are_those_of_the_readme() -> None:
    """The message of the first installation has the command of the README for changed settings."""
    (steps,) = re.findall(r"(?m)^sidecar:   (sidecar check .*)$", (DEBIAN / "postinst").read_text())
    assert f"   {steps}\n" in (ROOT / "README.md").read_text()


@pytest.mark.parametrize("argument", ["remove", "upgrade"])
def test_a_folder_of_the_program_that_is_gone(tmp_path: Path, argument: str) -> None:
    """The package can be removed, also twice."""
    assert run(tmp_path, "prerm", argument).returncode == 0
    cache = tmp_path / "usr/lib/sidecar/sidecar/__pycache__"
    cache.mkdir(parents=True)
    for _ in range(2):
        assert run(tmp_path, "prerm", argument).returncode == 0
        assert not cache.exists()


def test_a_state_directory_that_cannot_be_removed(tmp_path: Path) -> None:
    """A file system is mounted there: the purge is complete, and says what it left."""
    done = run(tmp_path, "postrm", "purge", rm="exit 1", **{"deb-systemd-helper": "exit 0"})
    assert done.returncode == 0
    assert f"{tmp_path}/var/lib/sidecar is not removed" in done.stderr


def test_a_purge_follows_no_link(tmp_path: Path) -> None:
    """Whatever user sidecar links to stays; the purge can be repeated."""
    state, other = tmp_path / "var/lib/sidecar", tmp_path / "other"
    state.mkdir(parents=True)
    other.mkdir()
    (other / "file").touch()
    (state / "journal").symlink_to(other)
    for _ in range(2):
        assert run(tmp_path, "postrm", "purge", **{"deb-systemd-helper": "exit 0"}).returncode == 0
        assert not state.exists()
    assert (other / "file").exists()
