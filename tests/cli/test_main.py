"""What all commands have in common."""

import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from sidecar.cli import COMMANDS, main

SIDECAR = [sys.executable, "-m", "sidecar"]


@pytest.mark.parametrize("name", COMMANDS)
def test_help(name: str) -> None:
    """Each command has a help text."""
    result = CliRunner().invoke(main, [name, "--help"])
    assert result.exit_code == 0
    assert result.output.startswith("Usage:")


@pytest.mark.parametrize(
    "arguments", [["check"], ["parse", "-"], ["explain", "--peer", "::1", "--from", "", "--to", "a@b.example"]]
)
def test_output_that_cannot_be_written(arguments: list[str]) -> None:
    """A full disk behind the output is one sentence and exit status 1."""
    with Path("/dev/full").open("wb") as full:
        result = subprocess.run(
            [*SIDECAR, *arguments], stdin=subprocess.DEVNULL, stdout=full, stderr=subprocess.PIPE, check=False
        )
    assert result.stderr == b"Error: The output cannot be written: No space left on device.\n"
    assert result.returncode == 1


def test_a_reader_that_has_seen_enough() -> None:
    """Output into a pipe that nobody reads is no error worth a word."""
    with subprocess.Popen([*SIDECAR, "--help"], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as program:
        assert program.stdout is not None
        assert program.stderr is not None
        program.stdout.close()
        assert program.stderr.read() == b""
