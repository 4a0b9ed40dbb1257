"""What is declared as a dependency, and what is pinned: complete, and the same everywhere."""

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import packages_distributions, requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import sidecar
from tests import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
LIBMILTER = PROJECT["optional-dependencies"]["libmilter"]
DECLARED = [Requirement(line) for line in PROJECT["dependencies"] + LIBMILTER + PROJECT["optional-dependencies"]["fleet"]]

# Of these the program subclasses, replaces or calls what they do not document.
BOUNDED = {"click", "idna", "nats-py", "prometheus-client", "pymilter", "starlette", "structlog"}

# Their releases have only the source. That of nkeys is plain Python.
WITHOUT_WHEEL = {"nkeys", "pymilter"}

Pins = dict[str, tuple[str, list[str]]]


def imported() -> Iterator[str]:
    """Give the top-level modules that the program imports and Python does not have."""
    for path in Path(sidecar.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            yield from (name.partition(".")[0] for name in names)


def pins(name: str) -> Pins:
    """Read a file of pins: by name, the version and the hashes."""
    text = (ROOT / ".ci" / name).read_text().replace("\\\n", " ")
    found: Pins = {}
    for line in filter(None, (line.partition("#")[0].strip() for line in text.splitlines())):
        pinned = re.fullmatch(r"([\w.-]+)==([\w.]+)(?: ; [^\\]+?)?((?:\s+--hash=sha256:[0-9a-f]{64})*)", line)
        assert pinned is not None, line
        found[canonicalize_name(pinned[1])] = pinned[2], pinned[3].split()
    return found


def closure(names: list[str]) -> set[str]:
    """Give all distributions that these need on this machine, and they themselves."""
    found: set[Requirement] = set()
    left = [Requirement(name) for name in names]
    while left:
        one = left.pop()
        if one not in found:
            found.add(one)
            extras = one.extras or {""}
            needed = map(Requirement, requires(one.name) or [])
            left += [
                need
                for need in needed
                if need.marker is None or any(need.marker.evaluate({"extra": extra}) for extra in extras)
            ]
    return {canonicalize_name(one.name) for one in found}


def test_every_import_is_declared() -> None:
    """What the program imports does not only come with something else; plots, fleet and libmilter are extras."""
    distributions = packages_distributions()
    foreign = set(imported()) - set(sys.stdlib_module_names) - {"sidecar", "matplotlib"}
    used = {canonicalize_name(name) for module in foreign for name in distributions[module]}
    assert used == {canonicalize_name(one.name) for one in DECLARED}


def test_the_program_needs_no_compiler() -> None:
    """The one package without a wheel is an extra."""
    assert [Requirement(line).name for line in LIBMILTER] == ["pymilter"]
    assert "pymilter" not in closure(["sidecar"])


def test_upper_bounds() -> None:
    """A release that the tests have not seen is not installed where it could break the program without a word."""
    bounded = {canonicalize_name(one.name) for one in DECLARED if any(part.operator == "<" for part in one.specifier)}
    assert bounded == BOUNDED


@pytest.mark.parametrize(
    ("name", "needed"), [("program.txt", ["sidecar[fleet,libmilter]"]), ("build.txt", ["editables", "hatchling", "setuptools"])]
)
def test_pins(name: str, needed: list[str]) -> None:
    """Each package has hashes, of wheels and of the source; none is missing, and none has another version elsewhere."""
    found, constraints = pins(name), pins("constraints.txt")
    assert set(found) == closure(needed) - {"sidecar"}
    for package, (version, hashes) in found.items():
        assert constraints[package] == (version, [])
        assert len(hashes) == len(set(hashes)) > (package not in WITHOUT_WHEEL)


def test_no_pins_name_a_host() -> None:
    """Who has a registry of his own uses that."""
    assert not any("://" in path.read_text() for path in (ROOT / ".ci").glob("*.txt"))


def test_pins_fit_the_declaration() -> None:
    """The versions that are tested are among those that are allowed."""
    found = pins("program.txt")
    for one in DECLARED:
        assert found[canonicalize_name(one.name)][0] in one.specifier
