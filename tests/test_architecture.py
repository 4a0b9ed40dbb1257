"""The layers: which package imports which, and where clocks, sockets and processes are known (deploy/docs/architecture.md)."""

import ast
import re
from collections import Counter
from functools import cache
from pathlib import Path

import pytest

import sidecar

HOUSE = Path(sidecar.__file__).parent

# What each package may import of the others.
MAY_IMPORT = {
    "core": set(),
    "machine": {"core"},
    "config": {"core", "machine"},
    "log": {"core"},
    "journal": {"core", "log"},
    "daemon": {"core", "machine", "config", "journal", "log"},
    "suppression": {"core", "config", "journal", "log"},
    "fleet": {"core", "config", "journal", "log"},
    "output": {"core", "machine", "config", "journal"},
    "commands": {"core", "machine", "config", "journal", "daemon", "suppression", "fleet", "output", "log"},
    "cli": {"core", "output"},
}
# These packages, and the readers of the journal, know no clock, no socket and no process.
PURE = ("core", "config", "journal/read")
# But for one: whether a folder has changed since its listing depends on the clock, which goes in steps.
READS_CLOCK = HOUSE / "journal" / "read" / "logs.py"
IMPURE = {"time", "socket", "subprocess", "multiprocessing", "random", "logging", "structlog"}


@cache
def nodes(module: Path) -> list[ast.AST]:
    """Return all nodes of the syntax tree of a module."""
    return list(ast.walk(ast.parse(module.read_text())))


def imported(module: Path) -> set[str]:
    """Return the full names that a module imports from, wherever in it."""
    names: set[str] = set()
    for node in nodes(module):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{module} imports relatively"
            names.add(node.module or "")
            names.update(f"{node.module}.{alias.name}" for alias in node.names if node.module == "sidecar")
    return names


def package_of(module: Path) -> str:
    return module.relative_to(HOUSE).parts[0].removesuffix(".py")


MODULES = [path for path in sorted(HOUSE.rglob("*.py")) if path not in {HOUSE / "__main__.py", HOUSE / "__init__.py"}]


@pytest.mark.parametrize("package", MAY_IMPORT)
def test_imports(package: str) -> None:
    """A package imports only the layers below it; no command imports another; only its engine imports libmilter's binding."""
    for module in (module for module in MODULES if package_of(module) == package):
        names = imported(module)
        parts = [parts for name in names if (parts := name.split("."))[0] == "sidecar" and len(parts) > 1]
        assert {part[1] for part in parts} - {package, "__version__"} <= MAY_IMPORT[package], module
        assert module == HOUSE / "daemon" / "milter" / "libmilter.py" or not names & {"milter", "Milter"}, module
        if package == "commands":
            own = module.relative_to(HOUSE / "commands").parts[0].removesuffix(".py")
            assert {part[2] for part in parts if part[1] == "commands" and len(part) > 2} <= {own}, module


@pytest.mark.parametrize("package", PURE)
def test_pure(package: str) -> None:
    """What decides and what reads gets the time and the world as arguments."""
    for module in {*(HOUSE / package).rglob("*.py")} - {READS_CLOCK}:
        assert not {name.split(".")[0] for name in imported(module)} & IMPURE, module


def test_no_group_repeats_possessively() -> None:
    """Python 3.11.2, Debian 12's own, keeps half a repetition of such a group; an atomic group around it is read rightly."""
    constants = ((module, node.value) for module in MODULES for node in nodes(module) if isinstance(node, ast.Constant))
    texts = ((module, value) for module, value in constants if isinstance(value, str | bytes))
    patterns = ((module, text.decode("latin-1") if isinstance(text, bytes) else text) for module, text in texts)
    possessive = re.compile(r"(?<!\\)\)(?:[*+?]|\{[0-9,]+\})\+")
    assert not [(module, pattern) for module, pattern in patterns if possessive.search(pattern)]


def test_every_package_has_its_layer() -> None:
    """A new package is a change of the architecture, and is made here."""
    packages = {package_of(path) for path in MODULES}
    assert packages == MAY_IMPORT.keys()


def test_no_class_name_has_two_meanings() -> None:
    """A reader who searches for a class finds one, private classes included."""
    names = Counter(node.name for module in MODULES for node in nodes(module) if isinstance(node, ast.ClassDef))
    assert not [name for name, count in names.items() if count > 1]
