"""The wheel and the source archive: each holds what it must, and the program runs from the wheel alone."""

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

from sidecar import __version__
from sidecar.cli import COMMANDS
from tests import ROOT

SHARED = {
    *(f"share/man/man1/{path.name}" for path in (ROOT / "deploy/man").iterdir()),
    *(f"share/man/man5/{path.name}" for path in (ROOT / "deploy/man5").iterdir()),
    "share/bash-completion/completions/sidecar",
    "share/zsh/site-functions/_sidecar",
    "share/fish/vendor_completions.d/sidecar.fish",
    "share/doc/sidecar/examples/sidecar.toml",
    "share/doc/sidecar/examples/listener_domains.toml",
}


def build(target: str, source: Path, folder: Path) -> Path:
    """Build a wheel or an sdist of the source, and return the file."""
    subprocess.run([sys.executable, "-m", "hatchling", "build", "-t", target, "-d", folder], cwd=source, check=True)
    (built,) = folder.iterdir()
    return built


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build("wheel", ROOT, tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The unpacked source archive."""
    folder = tmp_path_factory.mktemp("sdist")
    subprocess.run(["tar", "--extract", "--file", build("sdist", ROOT, folder / "built")], cwd=folder, check=True)
    return folder / f"sidecar-{__version__}"


@pytest.fixture(scope="module")
def environment(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A new virtual environment with the wheel. Its dependencies are those of this Python: nothing is downloaded."""
    folder = tmp_path_factory.mktemp("environment")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    pip = [sys.executable, "-m", "pip", "--python", str(folder / "bin/python")]
    install = ["install", "--quiet", "--no-index", "--no-deps", "--no-compile", str(wheel)]
    subprocess.run([*pip, *install], env=plain_environ(), check=True)
    # A directory of a .pth file is searched last, and .pth files in it do not count: not the one of an editable sidecar.
    (packages,) = folder.glob("lib/python*/site-packages")
    (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n" + sysconfig.get_path("platlib") + "\n")
    return folder


def plain_environ() -> dict[str, str]:
    """Return the environment without what shows Python another sidecar, or pip a requirement."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "PIP_"))}


@pytest.fixture
def sidecar(environment: Path, tmp_path: Path) -> "Installed":
    return Installed(environment, tmp_path)


class Installed:
    """The program in a virtual environment, run in a folder with settings."""

    def __init__(self, environment: Path, folder: Path) -> None:
        self._environment, self._folder = environment, folder
        (folder / "sidecar.toml").write_text(
            'listener_domains = ["domains.toml"]\nstate_directory = "state"\n[milter]\nsocket = "unix:s"\n'
        )
        (folder / "domains.toml").write_text('["bounce.example"]\nlog_oob = "LogThenDrop"\n')

    def run(self, *arguments: str) -> str:
        """Run a command and return its output; it must succeed and write no error."""
        command = [str(self._environment / "bin/sidecar"), *arguments]
        done = subprocess.run(command, cwd=self._folder, env=plain_environ(), capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout


def test_version(sidecar: Installed) -> None:
    assert __version__ in sidecar.run("--version")


def test_the_program_is_that_of_the_wheel(environment: Path, tmp_path: Path) -> None:
    command = [str(environment / "bin/python"), "-c", "import sidecar; print(sidecar.__file__)"]
    found = subprocess.run(command, cwd=tmp_path, env=plain_environ(), stdout=subprocess.PIPE, text=True, check=True)
    assert Path(found.stdout.strip()).is_relative_to(environment)


def test_check(sidecar: Installed) -> None:
    sidecar.run("check", "--config", "sidecar.toml")


def test_explain(sidecar: Installed) -> None:
    reason = sidecar.run(
        "explain", "--config", "sidecar.toml", "--peer", "203.0.113.9", "--from", "", "--to", "x@bounce.example"
    )
    assert "log_oob" in reason


def test_every_command_is_there(environment: Path, tmp_path: Path) -> None:
    """The program of the wheel describes each command."""
    code = f"import sidecar.cli; [sidecar.cli.main([name, '--help'], standalone_mode=False) for name in {list(COMMANDS)}]"
    described = subprocess.check_output([environment / "bin/python", "-c", code], cwd=tmp_path, env=plain_environ(), text=True)
    assert re.findall(r"(?m)^Usage: sidecar (\w+)", described) == list(COMMANDS)


def test_man_pages_and_completions(environment: Path) -> None:
    assert {name for name in SHARED if not (environment / name).is_file()} == set()


def test_what_the_wheel_holds(wheel: Path) -> None:
    """The package as it is in the repository, what is shared, and the metadata; no test and no cache."""
    with zipfile.ZipFile(wheel) as archive:
        held = {name: archive.read(name) for name in archive.namelist()}
    package = {str(path.relative_to(ROOT)): path.read_bytes() for path in (ROOT / "sidecar").rglob("*") if path.is_file()}
    data, metadata = f"sidecar-{__version__}.data/data/", f"sidecar-{__version__}.dist-info/"
    assert {name for name in package if "__pycache__" not in name} == {
        name for name in held if not name.startswith((data, metadata))
    }
    assert {name.removeprefix(data) for name in held if name.startswith(data)} == SHARED
    assert all(content == package[name] for name, content in held.items() if name in package)


def test_the_sdist_builds_the_same_wheel(wheel: Path, sdist: Path, tmp_path: Path) -> None:
    assert build("wheel", sdist, tmp_path).read_bytes() == wheel.read_bytes()


@pytest.mark.skipif(not (ROOT / ".git").exists() or shutil.which("git") is None, reason="this is no checkout")
def test_what_the_sdist_holds(sdist: Path) -> None:
    """Everything that is in the repository and not ignored, and the metadata."""
    command = ["git", "-c", "safe.directory=*", "ls-files", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True).stdout.splitlines()
    held = {str(path.relative_to(sdist)) for path in sdist.rglob("*") if path.is_file()}
    assert held == {name for name in listed if (ROOT / name).exists()} | {"PKG-INFO"}
