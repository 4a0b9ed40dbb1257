"""Which settings file a command uses, which journal, and what it says if a right is missing."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from shutil import rmtree

import pytest

from sidecar.config import reader_environ
from sidecar.output import problems
from tests import ROOT
from tests.mta.places import new_directory

AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root can run a program as another user")


def test_a_named_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It is used whether it exists or not, and nothing is printed."""
    assert problems.config_file(tmp_path / "a.toml") == tmp_path / "a.toml"
    assert capsys.readouterr() == ("", "")


def test_the_usual_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Without a name the usual file is used if it exists; standard error says which it is."""
    usual = tmp_path / "sidecar.toml"
    monkeypatch.setattr(problems, "USUAL_FILE", usual)
    assert problems.config_file(None) is None
    assert capsys.readouterr() == ("", f"There is no {usual}: the built-in settings are used.\n")
    usual.touch()
    assert problems.config_file(None) == usual
    assert capsys.readouterr() == ("", f"The settings are in {usual}.\n")


def test_the_state_of_the_environment() -> None:
    """A set STATE_DIRECTORY always holds."""
    assert reader_environ({"STATE_DIRECTORY": "/s"}) == {"STATE_DIRECTORY": "/s"}


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that any user can enter."""
    folder = new_directory()
    folder.chmod(0o755)
    yield folder
    rmtree(folder)


# The folders of the interpreter and the program may be root's alone, so everything is imported first.
AS_NOBODY = """\
import encodings.idna, os, sys
import sidecar.commands.explain.command, sidecar.commands.stats.command, sidecar.commands.status, sidecar.commands.tail.command
from sidecar.cli import main
os.setgroups([])
os.setresgid(65534, 65534, 65534)
os.setresuid(65534, 65534, 65534)
main()
"""


def run_as_nobody(folder: Path, *arguments: str, home: str = "home", status: int = 1) -> str:
    """Return all that a command prints; it must end with this exit status."""
    environ = {"PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1", "HOME": str(folder / home)}
    command = [sys.executable, "-c", AS_NOBODY, *arguments]
    done = subprocess.run(
        command, check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environ, cwd=folder
    )
    assert done.returncode == status, done.stdout
    return done.stdout


def test_records_can_be_read_while_the_settings_have_errors(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The errors are printed, and the folder of a running sidecar is found. Without that folder the command ends."""
    config = tmp_path / "sidecar.toml"
    config.write_text('state_directory = "state"\nlistener_domains = ["none.toml"]\n', encoding="utf-8")
    with pytest.raises(SystemExit):
        problems.journal_or_exit(config)
    journal = tmp_path / "state" / "journal"
    journal.mkdir(parents=True)
    capsys.readouterr()
    assert problems.journal_or_exit(config) == journal
    lines = capsys.readouterr().err.splitlines()
    assert "none.toml" in lines[0]
    assert lines[1] == f"The settings have errors. The records are read from {journal}."


@AS_ROOT
@pytest.mark.parametrize("command", ["status", "tail --no-follow", "stats"])
def test_another_user_without_the_right(folder: Path, command: str) -> None:
    """The command names the folder, and who may enter it; it does not look in another place."""
    state = folder / "state"
    (state / "journal").mkdir(parents=True)
    (state / "status.json").touch()
    state.chmod(0o750)
    (folder / "sidecar.toml").write_text('state_directory = "state"\n', encoding="utf-8")
    output = run_as_nobody(folder, *command.split(), "--config", "sidecar.toml")
    owners = "(owner root, group root, mode 0750); run this as root or as a member of group root."
    assert f"user nobody is not permitted to enter {state} {owners}" in output


@AS_ROOT
def test_a_log_that_another_user_may_not_see(folder: Path) -> None:
    """`explain --record` does not say that a folder does not exist if only a right is missing."""
    (folder / "sidecar.toml").write_text("", encoding="utf-8")
    (folder / "state" / "journal").mkdir(parents=True)
    (folder / "state").chmod(0o750)
    named = ("explain", "--config", "sidecar.toml", "--record", str(folder / "state" / "journal"))
    output = " ".join(run_as_nobody(folder, *named, status=2).split())
    assert f"cannot be read: user nobody is not permitted to enter {folder / 'state'}" in output


@AS_ROOT
def test_another_user_finds_the_state_of_the_service(folder: Path) -> None:
    """Without a state directory in the settings it is the system's, and not one below the user's home."""
    (folder / "sidecar.toml").write_text("", encoding="utf-8")
    assert "/var/lib/sidecar" in run_as_nobody(folder, "status", "--config", "sidecar.toml")
    (folder / "closed").mkdir(mode=0o700)
    assert "/var/lib/sidecar" in run_as_nobody(folder, "status", "--config", "sidecar.toml", home="closed")
    own = folder / "home/.local/state/sidecar"
    own.mkdir(parents=True)
    assert str(own) in run_as_nobody(folder, "status", "--config", "sidecar.toml")
