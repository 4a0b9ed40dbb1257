"""The plan of the house: data flows one way, and each room imports only what it may."""

import ast
import re
from pathlib import Path

import pytest

import sidecar

HOUSE = Path(sidecar.__file__).parent

# What each room may import of the others; what a room is for stands in its __init__.py.
MAY_IMPORT = {
    "settings": set(),
    "classifier": {"settings"},
    "policy": {"settings", "classifier"},
    "reports": set(),
    "records": {"reports"},
    "session": {"settings", "policy", "reports", "records"},
    "hindsight": {"settings", "policy", "records", "session"},
    "diff": {"settings", "policy", "records", "hindsight"},
    "mta": {"settings", "policy"},
    "journal": {"log"},
    "tail": {"settings", "policy", "records", "journal"},
    "simulate": {"settings", "policy", "records", "session", "journal"},
    "stats": {"settings", "records"},
    "milter": {"settings", "records", "session", "journal", "log"},
    "metrics": {"policy", "records", "session"},
    "admin": {"settings", "policy", "records", "session", "metrics", "log"},
    "supervisor": {"settings", "policy", "records", "session", "journal", "metrics", "milter", "admin", "log"},
    "replay": {"settings", "policy", "records", "session"},
    "log": set(),
}
# Nothing between the doors reads a clock, a file, a socket or a process. The settings room reads the settings' files.
IMPURE = {"time", "os", "socket", "subprocess", "random", "tempfile", "shutil", "logging", "structlog"}
PURE = {"classifier", "stats", "tail", "policy", "reports", "records", "session", "hindsight", "diff", "mta"}


def imported(module: Path) -> set[str]:
    """Give the full names that a module imports from, wherever in it."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(module.read_text())):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{module} imports relatively"
            names.add(node.module or "")
            names.update(f"{node.module}.{alias.name}" for alias in node.names if node.module == "sidecar")
    return names


def room_of(module: Path) -> str:
    return module.relative_to(HOUSE).parts[0].removesuffix(".py")


MODULES = [path for path in sorted(HOUSE.rglob("*.py")) if path.parent != HOUSE or path.name == "log.py"]


@pytest.mark.parametrize("module", MODULES, ids=lambda path: str(path.relative_to(HOUSE)))
def test_imports(module: Path) -> None:
    """A room imports only the rooms that come before it on a message's way; only the milter room knows libmilter."""
    room, names = room_of(module), imported(module)
    rooms = {parts[1] for name in names if (parts := name.split("."))[0] == "sidecar" and len(parts) > 1} - {room}
    if room in MAY_IMPORT:
        assert rooms <= MAY_IMPORT[room]
    assert room == "milter" or not names & {"milter", "Milter"}
    if room in PURE:
        assert not {name.split(".")[0] for name in names} & IMPURE


@pytest.mark.parametrize("module", MODULES, ids=lambda path: str(path.relative_to(HOUSE)))
def test_no_group_repeats_possessively(module: Path) -> None:
    """Python 3.11.2, Debian 12's own, keeps half a repetition of such a group; an atomic group around it is read rightly."""
    texts = (node.value for node in ast.walk(ast.parse(module.read_text())) if isinstance(node, ast.Constant))
    patterns = [text.decode("latin-1") if isinstance(text, bytes) else text for text in texts if isinstance(text, str | bytes)]
    assert not [pattern for pattern in patterns if re.search(r"(?<!\\)\)(?:[*+?]|\{[0-9,]+\})\+", pattern)]


def test_every_room_is_in_the_plan() -> None:
    """A new room is a change of the plan, and is made here."""
    rooms = {path.name for path in HOUSE.iterdir() if (path / "__init__.py").exists()}
    assert rooms == (MAY_IMPORT.keys() | {"cli"}) - {"log"}
