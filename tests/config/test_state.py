"""The state directory is found even in a settings file that is broken, and every file that was read is named."""

import hashlib
from pathlib import Path

import pytest

from sidecar.config import load, state_directory
from sidecar.config.files import stamp_of
from tests.config.helpers import MAIN, load_files


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ('state_directory = "s"', "s"),
        ("\n\t\"state_directory\"='/var/lib/s'\n[milter", "/var/lib/s"),
        ('[\nstate_directory = "a\\u0062"', "ab"),
        ('{"milter": [, "state_directory": "s"', "s"),
        ('{"state_directory":"s"}', "s"),
        ('# state_directory = "s"', None),
        ("state_directory = 1", None),
        ('state_directory = "\\q"', None),
        ("[", None),
        ("\n" * 100_000, None),
    ],
)
def test_one_line_is_enough(tmp_path: Path, text: str, found: str | None) -> None:
    """Whatever stands around it; and without it the default holds."""
    path = tmp_path / MAIN
    path.write_text(text, encoding="utf-8")
    expected = Path("/default") if found is None else tmp_path / found
    assert state_directory(path, {"STATE_DIRECTORY": "/default"}) == expected


@pytest.mark.parametrize("name", [None, "none.toml", "."])
def test_without_a_file_the_default_holds(tmp_path: Path, name: str | None) -> None:
    path = None if name is None else tmp_path / name
    assert state_directory(path, {"STATE_DIRECTORY": "/default"}) == Path("/default")


def test_every_file_is_a_source_the_unreadable_ones_too(tmp_path: Path) -> None:
    """With the digest of its bytes where there are some, and what it looked like before it was read."""
    files = {"a.toml": '["a.example"]\n', "b.toml": "[", MAIN: 'listener_domains = ["a.toml", "b.toml", "none.toml"]\n'}
    sources = load_files(tmp_path, files).sources
    assert [source.path for source in sources] == [tmp_path / name for name in (MAIN, "a.toml", "b.toml", "none.toml")]
    assert [source.stamp for source in sources] == [stamp_of(source.path) for source in sources]
    digests = [hashlib.sha256(files[name].encode()).hexdigest() for name in (MAIN, "a.toml", "b.toml")]
    assert [source.digest for source in sources] == [*digests, None]
    assert sources[3].stamp is None


def test_the_defaults_come_from_no_file() -> None:
    assert load(None, environ={}).sources == ()
