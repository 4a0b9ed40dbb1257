"""`sidecar index`: its state in words and in JSON, and a new one, made by the command or by a sidecar that is running."""

import json
import time
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from sidecar.cli import main
from sidecar.config import load
from sidecar.journal.index.keeping import locked
from sidecar.journal.index.store import take_request
from tests.journal.index.records import record, write_segment


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "sidecar.toml"
    path.write_text('state_directory = "."\n[admin]\nconsole = true\n')
    return path


def call(config: Path, *words: str) -> Result:
    return CliRunner().invoke(main, ["index", *words, "--config", str(config)])


def test_state_and_rebuild(config: Path) -> None:
    settings = load(config).settings
    assert settings is not None
    missing = call(config, "status")
    assert (missing.exit_code, missing.stderr) == (
        1,
        f"Error: {settings.index_file} does not exist yet; the sidecar makes it.\n",
    )
    now = int(time.time())
    write_segment(settings, 1, [record(timestamp=now, event_time="")])
    assert call(config, "rebuild").stdout == "The index has all records of the journal.\n"
    found = json.loads(call(config, "status", "--json").stdout)
    assert found.keys() == {"newest", "caught_up", "size"}
    assert found["newest"] <= found["caught_up"]
    assert found["size"] == settings.index_file.stat().st_size
    words = call(config, "status")
    assert words.exit_code == 0
    assert f"The newest record is from {found['newest']}. All of the journal has been read.\n" in words.stdout


def test_a_sidecar_is_running(config: Path) -> None:
    """It gets the order, with its reason."""
    settings = load(config).settings
    assert settings is not None
    with locked(settings):
        result = call(config, "rebuild")
    assert (result.exit_code, result.stdout[:36]) == (0, "The sidecar makes the index again. `")
    assert take_request(settings.index_file) == "`sidecar index rebuild` was called"
    assert take_request(settings.index_file) is None


def test_no_console(config: Path) -> None:
    config.write_text('state_directory = "."\n[admin]\n')
    result = call(config, "status")
    assert (result.exit_code, result.stderr[-42:]) == (1, "e below [admin], and restart the sidecar.\n")
