"""Listener domains files that have not changed are not parsed again, and the result is the same."""

from collections.abc import Callable
from pathlib import Path

import pytest

from sidecar.config import Reading
from sidecar.core.settings.domain_table import DomainTable

FIRST = '["a.example"]\nlog_oob = true\n[listener."10.0.0.1:25"."*.b.example"]\nrelay_from = ["10.0.0.0/8"]\n'
SECOND = '{"a.example": {"log_arf": "LogThenDrop"}, "": {"log_arf": "LogThenDrop"}}'


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "first.toml").write_text(FIRST)
    (tmp_path / "second.json").write_text(SECOND)
    write(tmp_path, "first.toml", "second.json")
    return tmp_path


def write(folder: Path, *files: str, more: str = "") -> None:
    (folder / "sidecar.toml").write_text(f"listener_domains = {list(files)}\n{more}")


def domains(folder: Path, known: DomainTable | None = None) -> DomainTable:
    """Return the domains, which are as a reading without `known` has them, and so is all else."""
    readings = [Reading(folder / "sidecar.toml", environ={}, known=each) for each in (known, None)]
    found, expected = [one.loaded for one in readings]
    assert found == expected
    assert found.settings is not None
    assert isinstance(found.settings.domains, DomainTable)
    assert readings[0].warnings() == readings[1].warnings()
    return found.settings.domains


def test_a_change_of_other_settings(folder: Path) -> None:
    """The same table serves."""
    known = domains(folder)
    (folder / "sidecar.toml").write_text(f"decide = 'end'\n{(folder / 'sidecar.toml').read_text()}")
    assert domains(folder, known) is known


def test_other_names(folder: Path) -> None:
    """As in a revision with the same files: the places of the entries have the new names."""
    known = domains(folder)
    (folder / "7").mkdir()
    for name in ("first.toml", "second.json"):
        (folder / name).rename(folder / "7" / name)
    write(folder, "7/first.toml", "7/second.json")
    table = domains(folder, known)
    entry = table.listeners["*"]["a.example"]
    assert [str(entry.where(key)) for key in ("log_oob", "log_arf", "")] == [
        "7/first.toml:2",
        "7/second.json:1",
        "7/second.json:1",
    ]
    assert str(table.listeners["10.0.0.1:25"]["*.b.example"].where("relay_from")) == "7/first.toml:4"
    assert str(known.listeners["*"]["a.example"].where("log_oob")) == "first.toml:2"
    assert [one.name for one in domains(folder, table).origin] == ["7/first.toml", "7/second.json"]


def _append(folder: Path) -> None:
    with (folder / "first.toml").open("a") as file:
        file.write('["c.example"]\nrelay_to = true\n')


def _swap(folder: Path) -> None:
    write(folder, "second.json", "first.toml")


def _remove(folder: Path) -> None:
    write(folder, "first.toml")


def _add(folder: Path) -> None:
    (folder / "third.toml").write_text('["c.example"]\n')
    write(folder, "first.toml", "second.json", "third.toml")


def _as_toml(folder: Path) -> None:
    (folder / "second.json").write_text("")
    (folder / "second.toml").write_text("")
    write(folder, "first.toml", "second.toml")


@pytest.mark.parametrize("change", [_append, _swap, _remove, _add, _as_toml])
def test_a_change_of_the_files(folder: Path, change: Callable[[Path], None]) -> None:
    """They are parsed again."""
    known = domains(folder)
    change(folder)
    assert list(domains(folder, known)) != list(known)


def test_files_with_warnings(folder: Path) -> None:
    """They are parsed again, so that no warning is lost."""
    (folder / "first.toml").write_text('["a.example"]\nttl = "5m"\n')
    known = domains(folder)
    assert known.origin == ()
    assert domains(folder, known) is not known


def test_a_file_that_is_missing(folder: Path) -> None:
    known = domains(folder)
    (folder / "second.json").unlink()
    (problem,) = Reading(folder / "sidecar.toml", environ={}, known=known).loaded.problems
    assert (problem.code, problem.line) == ("unreadable_file", 1)
