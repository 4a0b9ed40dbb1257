"""Settings files for tests: written, loaded, and their problems in short."""

from pathlib import Path

from sidecar.config import Loaded, load
from sidecar.core.findings import Finding
from sidecar.core.settings.settings import Settings

MAIN = "sidecar.toml"


def load_files(folder: Path, files: dict[str, str]) -> Loaded:
    """Write the files and load sidecar.toml; where that is not among them, one that names all of them, in order."""
    names = ", ".join(f'"{name}"' for name in files)
    for name, content in {MAIN: f"listener_domains = [{names}]\n", **files}.items():
        (folder / name).write_text(content, encoding="utf-8", newline="")
    return load(folder / MAIN, environ={})


def settings_of(folder: Path, files: dict[str, str]) -> Settings:
    """Load files that have no errors."""
    loaded = load_files(folder, files)
    assert loaded.settings is not None, loaded.problems
    return loaded.settings


def place(problem: Finding) -> tuple[str, int, str]:
    """Give a problem's file (its name alone), line and key path."""
    assert problem.file is not None
    assert problem.line is not None
    assert problem.key is not None
    return Path(problem.file).name, problem.line, problem.key
