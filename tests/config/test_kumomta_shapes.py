"""Shapes of listener domains files: what KumoMTA does with each, and what the sidecar does.

Each line of `tests/data/kumomta/files.jsonl` is one file. `kumod` says if KumoMTA `loads` it. `fact` is `contract` if its
documents or a running node show that, and `source` if only its source does. `content` has one character for each byte.
`entries` has the keys of each entry by listener and domain, or null if the sidecar reports errors.
"""

import json
from pathlib import Path
from typing import Any, Final

import pytest
from msgspec import Struct

from sidecar.config import load
from sidecar.core.settings.values import DomainEntry, LogMode, Network
from tests import DATA
from tests.config.helpers import MAIN


class Shape(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One file."""

    what: str
    name: str
    content: str
    kumod: str
    fact: str
    entries: dict[str, dict[str, Any]] | None
    findings: list[str]


SHAPES: Final = [Shape(**json.loads(line)) for line in (DATA / "kumomta/files.jsonl").read_text("utf-8").splitlines()]

# The sidecar is wider or stricter here on purpose: names compare without case, and UTF-8 needs no half characters.
LOADED_HERE: Final = {"half a character in JSON"}
REJECTED_HERE: Final = {"one domain in two spellings"}


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.what)
def test_shape(tmp_path: Path, shape: Shape) -> None:
    """The file has these entries and these findings, each with its line and a fix."""
    (tmp_path / shape.name).write_bytes(shape.content.encode("latin-1"))
    (tmp_path / MAIN).write_text(f'listener_domains = ["{shape.name}"]\n', encoding="utf-8")
    loaded = load(tmp_path / MAIN, environ={})
    assert [f"{one.level} {one.code} {one.line}" for one in loaded.problems] == shape.findings
    assert all(one.file == shape.name and one.fix for one in loaded.problems)
    found = None if loaded.settings is None else {_name(entry): _values(entry) for entry in loaded.settings.domains}
    assert found == shape.entries


def _name(entry: DomainEntry) -> str:
    return f"{entry.listener} {entry.domain}"


def _values(entry: DomainEntry) -> dict[str, Any]:
    return {key: _plain(getattr(entry, key)) for key in entry.steps if key}


def _plain(value: object) -> object:
    match value:
        case LogMode():
            return value.value
        case tuple():
            return [item.text if isinstance(item, Network) else item for item in value]
        case _:
            return value


def test_what_kumomta_loads_is_loaded() -> None:
    """Each shape that KumoMTA loads is loaded here, and the other way round, with named exceptions."""
    assert {shape.what for shape in SHAPES if shape.kumod == "loads" and shape.entries is None} == REJECTED_HERE
    assert {shape.what for shape in SHAPES if shape.kumod == "fails" and shape.entries is not None} == LOADED_HERE
    assert {shape.kumod for shape in SHAPES} == {"loads", "fails"}
    assert {shape.fact for shape in SHAPES} == {"contract", "source"}
