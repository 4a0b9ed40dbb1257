"""If systemd's journal reads the log, each line has its priority, and nothing else changes."""

import json
import os
import re
from collections.abc import Iterator
from io import StringIO
from pathlib import Path

import pytest

from sidecar import log

LOG = log.get("test")


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    yield
    log.configure(level="warning")


def written(path: Path, monkeypatch: pytest.MonkeyPatch, *, named: str = "{0}:{1}", format: str = "auto") -> list[str]:  # noqa: A002 - the setting's name
    """Log a line of each level to a file that JOURNAL_STREAM names. Return its lines."""
    with path.open("w") as file:
        found = os.fstat(file.fileno())
        monkeypatch.setenv("JOURNAL_STREAM", named.format(found.st_dev, found.st_ino))
        log.configure(level="debug", format=format, stream=file)
        for write in (LOG.debug, LOG.info, LOG.warning, LOG.error):
            write("happened", text="a\n<0>b")
    return path.read_text().splitlines()


@pytest.mark.parametrize("format", ["auto", "json"])
def test_each_line_is_a_priority_and_json(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, format: str) -> None:  # noqa: A002 - likewise
    lines = written(tmp_path / "log", monkeypatch, format=format)
    assert [line[:3] for line in lines] == ["<7>", "<6>", "<4>", "<3>"]
    assert [json.loads(line[3:])["level"] for line in lines] == ["debug", "info", "warning", "error"]


def test_lines_for_people_have_it_too_each_of_an_exception_as_well(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "log"
    lines = written(path, monkeypatch, format="console")
    assert [line[:3] for line in lines] == ["<7>", "<6>", "<4>", "<3>"]
    with path.open("w") as file:
        log.configure(format="console", stream=file)
        LOG.error("it failed", exc_info=ValueError("text"))
    lines = path.read_text().splitlines()
    assert len(lines) > 1
    assert all(re.match("<3>.", line) for line in lines)


@pytest.mark.parametrize("named", ["", "{0}:1", "{1}:{0}", "x"])
def test_any_other_stream_has_plain_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, named: str) -> None:
    """The variable is inherited: standard error may by now be another program's file."""
    assert {line[0] for line in written(tmp_path / "log", monkeypatch, named=named)} == {"{"}


def test_a_stream_in_memory_is_no_journal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JOURNAL_STREAM", "1:1")
    stream = StringIO()
    log.configure(level="info", stream=stream)
    LOG.info("happened")
    assert stream.getvalue().startswith("{")
