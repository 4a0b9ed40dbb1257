"""The table [journal]: KumoMTA's ideas under our names, and what of them is refused."""

from pathlib import Path

import pytest

from sidecar.core.settings.values import RECORD_TYPES, JournalSettings, RecordSettings
from tests.config.helpers import MAIN, load_files, place, settings_of

FULL = """\
[journal]
format = "zstd"
compression_level = 21
meta = ["why", "x_*"]
[journal.Reception]
suffix = "_recv"
[journal.OOB]
directory = "bounces"
suffix = ".zst"
[journal.Any]
suffix = "_rest"
"""


def journal_of(folder: Path, text: str) -> JournalSettings:
    """Load a settings file, and give its journal."""
    return settings_of(folder, {MAIN: text}).journal


def test_every_key(tmp_path: Path) -> None:
    """Each type has its own table or the one for any; paths start in the settings file's folder."""
    journal = journal_of(tmp_path, f'state_directory = "s"\n{FULL}')
    assert journal == JournalSettings(
        directory=tmp_path / "s" / "journal",
        format="zstd",
        compression_level=21,
        meta=("why", "x_*"),
        Reception=RecordSettings(suffix="_recv"),
        OOB=RecordSettings(directory=tmp_path / "bounces", suffix=".zst"),
        Rejection=RecordSettings(suffix="_rest"),
        Feedback=RecordSettings(suffix="_rest"),
    )


@pytest.mark.parametrize(
    ("text", "places"),
    [
        ("", ["j .jsonl", "j .jsonl", "j .jsonl", "j .jsonl"]),
        ('format = "zstd"', ["j ", "j ", "j ", "j "]),
        ('format = "zstd"\n[journal.Any]\nsuffix = ".zst"', ["j .zst", "j .zst", "j .zst", "j .zst"]),
        ('[journal.OOB]\nsuffix = ""\n[journal.Feedback]\ndirectory = "f"', ["j .jsonl", "j .jsonl", "j ", "f .jsonl"]),
        ("[journal.Rejection]\nenabled = false", ["j .jsonl", None, "j .jsonl", "j .jsonl"]),
        ('[journal.Any]\nsuffix = "_a"\n[journal.OOB]', ["j _a", "j _a", "j .jsonl", "j _a"]),
    ],
)
def test_places(tmp_path: Path, text: str, places: list[str | None]) -> None:
    """Where each type goes, and under which names; KumoMTA's own have no suffix."""
    journal = journal_of(tmp_path, f'[journal]\ndirectory = "j"\n{text}\n')
    told = [journal.place(record_type) for record_type in RECORD_TYPES]
    assert [one and f"{one[0].name} {one[1]}" for one in told] == places
    assert journal.directories[0] == tmp_path / "j"
    assert set(journal.directories) == {tmp_path / "j", *(one[0] for one in told if one)}


@pytest.mark.parametrize(
    ("text", "key", "wrong"),
    [
        ('[journal]\nformat = "gzip"', "journal.format", '"gzip" is not one of "plain" or "zstd".'),
        ("[journal]\ncompression_level = 22", "journal.compression_level", "22 is out of range."),
        ('[journal]\nmeta = [""]', "journal.meta", '"" is not the name of an entry.'),
        ('[journal.OOB]\nsuffix = "/x"', "journal.OOB.suffix", '"/x" is not a suffix of a file name.'),
        ('[journal.OOB]\nsuffix = "7z"', "journal.OOB.suffix", '"7z" is not a suffix of a file name.'),
        ("[journal.OOB]\nsuffix = 1", "journal.OOB.suffix", "1 is not a suffix of a file name."),
        ("[journal.OOB]\nenable = true", "journal.OOB.enable", '"enable" is not a known key.'),
        ("[journal.Delivery]\nenabled = true", "journal.Delivery", '"Delivery" is not a known key.'),
    ],
)
def test_errors(tmp_path: Path, text: str, key: str, wrong: str) -> None:
    """Each mistake is one error with its place."""
    loaded = load_files(tmp_path, {MAIN: text})
    (problem,) = (one for one in loaded.problems if one.level == "error")
    assert (place(problem)[2], problem.text) == (key, wrong)


@pytest.mark.parametrize(
    ("text", "keys"),
    [
        ("[journal.OOB]\nenabled = false", ["journal.OOB.enabled"]),
        ("[journal.Feedback]\nenabled = false", ["journal.Feedback.enabled"]),
        ("[journal.Any]\nenabled = false", ["journal.Any.enabled"] * 2),
        ("[journal.Any]\nenabled = false\n[journal.OOB]", ["journal.Any.enabled"]),
    ],
)
def test_records_of_reports_cannot_be_turned_off(tmp_path: Path, text: str, keys: list[str]) -> None:
    """A report is answered 250 only after its records are on disk, so there must be some."""
    errors = [problem for problem in load_files(tmp_path, {MAIN: text}).problems if problem.level == "error"]
    assert [place(problem)[2] for problem in errors] == keys
    assert all("the report would be lost" in problem.text for problem in errors)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", True),
        ('compat = "kumomta"', False),
        ('compat = "kumomta"\nreject_at_connect = true', True),
        ("reject_at_connect = false", False),
    ],
)
def test_kumomta_refuses_nobody_at_connect(tmp_path: Path, text: str, expected: bool) -> None:
    """Nor does the program with `compat`, unless the file says so itself."""
    assert settings_of(tmp_path, {MAIN: text}).reject_at_connect is expected


@pytest.mark.parametrize(("keep_size", "warned"), [(0, False), (16383, True), (16384, False)])
def test_a_journal_that_keeps_hardly_anything(tmp_path: Path, keep_size: int, warned: bool) -> None:
    """A keep_size below four segments is a warning; 0 is no limit."""
    text = f"[journal]\nsegment_size = 4096\nkeep_size = {keep_size}\n"
    problems = load_files(tmp_path, {MAIN: text}).problems
    assert [problem.code for problem in problems] == ["short_retention"] * warned
