"""What the tests of the packages share: the packages, built once, and a Debian for each test."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from sidecar import __version__
from tests import ROOT
from tests.packages.machine import FOLDER, Machine, machine

VERSION = __version__
PREVIOUS = "0.0.9"


def build(source: Path, folder: Path) -> tuple[Path, Path]:
    """Build wheel and Debian package of a source tree into an empty folder."""
    folder.mkdir(parents=True)
    subprocess.run([sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder], cwd=source, check=True)
    (wheel,) = folder.glob("*.whl")
    environ = {**os.environ, "PIP_CACHE_DIR": str(ROOT / "build/pip")}
    subprocess.run([source / "deploy/debian/build", wheel, folder], env=environ, check=True)
    (package,) = folder.glob("*.deb")
    return wheel, package


@pytest.fixture(scope="session")
def built() -> Iterator[tuple[Path, Path]]:
    """The wheel and the package of this tree."""
    folder = FOLDER / "built"
    shutil.rmtree(folder, ignore_errors=True)
    yield build(ROOT, folder)
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def wheel(built: tuple[Path, Path]) -> Path:
    return built[0]


@pytest.fixture(scope="session")
def package(built: tuple[Path, Path]) -> Path:
    return built[1]


@pytest.fixture(scope="session")
def previous() -> Iterator[Path]:
    """A package of this tree with a lower version, other texts in a settings file, and other rules for bounces."""
    source = FOLDER / "previous"
    shutil.rmtree(source, ignore_errors=True)
    for name in ("sidecar", "deploy", "systemd", ".ci"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("README.md", "CHANGELOG.md", "LICENSE", "pyproject.toml"):
        shutil.copy(ROOT / name, source)
    for name, old, new in (
        ("sidecar/__init__.py", f'__version__ = "{VERSION}"', f'__version__ = "{PREVIOUS}"'),
        ("deploy/etc/sidecar.toml", "# The settings", "# These are the settings"),
        ("deploy/etc/listener_domains.toml", "# The domains", "# These are the domains"),
        ("sidecar/config/iana.toml", "[rules]", "# older\n[rules]"),
    ):
        path = source / name
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new, 1))
    yield build(source, source / "built")[1]
    shutil.rmtree(source)


@pytest.fixture
def debian() -> Iterator[Machine]:
    with machine() as one:
        yield one
