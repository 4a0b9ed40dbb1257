"""The man pages and the completions that are installed with the program."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.deploy.manual import FILES_FOLDER, FOLDER

COMPLETIONS = FOLDER.parent / "completions"

BASH = """
source {script}
COMP_WORDS=({words})
COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1))
_sidecar sidecar
printf '%s\\n' "${{COMPREPLY[@]}}"
"""


def test_pages_are_those_of_the_commands() -> None:
    """The pages have the text of the help and of the documents: `python -m tests.deploy.manual` writes them."""
    # In a separate process: click keeps the help option of a command's first run, and other tests run commands.
    script = "import json, tests.deploy.manual as manual; print(json.dumps([dict(manual.pages()), dict(manual.file_pages())]))"
    made = json.loads(subprocess.check_output([sys.executable, "-c", script], cwd=FOLDER.parents[1]))
    assert [{path.stem: path.read_text() for path in folder.iterdir()} for folder in (FOLDER, FILES_FOLDER)] == made


@pytest.mark.parametrize("path", sorted((*FOLDER.iterdir(), *FILES_FOLDER.iterdir())), ids=lambda path: path.stem)
def test_pages_can_be_set(path: Path) -> None:
    """Groff prints no warning, and each page has all sections."""
    common = (b"NAME", b"DESCRIPTION", b"FILES", b"SEE ALSO")
    sections = common if path.suffix == ".5" else (*common, b"SYNOPSIS", b"EXAMPLES", b"EXIT STATUS", b"NO_COLOR")
    if shutil.which("groff") is None:
        pytest.skip("groff is not installed")
    done = subprocess.run(["groff", "-ww", "-man", "-Tutf8", "-P-cbou", path], capture_output=True, check=True)
    assert done.stderr == b""
    assert all(section in done.stdout for section in sections)


def test_the_page_of_a_group_has_what_the_help_of_its_commands_has() -> None:
    """Examples and exit statuses differ from command to command."""
    page = (FOLDER / "sidecar-fleet.1").read_text()
    part = page[page.index(".SH FLEET STATUS") : page.index(".SH FLEET HISTORY")]
    assert "sidecar fleet status \\-\\-json" in part
    assert "a node is behind" in part


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """A PATH with a `sidecar`."""
    program = tmp_path / "sidecar"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m sidecar "$@"\n')
    program.chmod(0o755)
    return {"PATH": f"{tmp_path}:/usr/bin:/bin", "PYTHONPATH": str(FOLDER.parents[1]), "HOME": str(tmp_path)}


@pytest.mark.parametrize(
    ("words", "completed"),
    [
        ("sidecar s", ["status", "stats", "suppression", "sign", "simulate"]),
        ("sidecar export ''", ["postfix", "sendmail"]),
        ("sidecar tail --type re", ["Reception", "Rejection"]),
        ("sidecar simulate --shape postf", ["postfix", "postfix-text"]),
        ("sidecar check --co", ["--config"]),
    ],
)
def test_completion(words: str, completed: list[str], environment: dict[str, str]) -> None:
    """Bash, and fish if it is installed, complete commands, options and values."""
    script = BASH.format(script=COMPLETIONS / "sidecar.bash", words=words)
    done = subprocess.run(["bash", "-c", script], env=environment, capture_output=True, text=True, check=True)
    assert (done.stdout.split(), done.stderr) == (completed, "")
    if shutil.which("fish") is not None:
        line = words.removesuffix("''")
        script = f"source {COMPLETIONS / 'sidecar.fish'}; complete -C '{line}'"
        done = subprocess.run(["fish", "-c", script], env=environment, capture_output=True, text=True, check=True)
        assert sorted(line.partition("\t")[0] for line in done.stdout.splitlines()) == sorted(completed)
