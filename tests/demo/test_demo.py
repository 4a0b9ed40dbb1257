"""The demonstration shows the results, and its exit status is 1 if one is wrong."""

import importlib
import os
import signal
import subprocess
import sys
from itertools import takewhile
from pathlib import Path

import httpx
import pytest

from tests import ROOT
from tests.demo.console import TOKENS
from tests.demo.play import Played
from tests.demo.scenes import REAL_BOUNCE, SCENES
from tests.mta.client import Answer
from tests.mta.house import Outcome


@pytest.mark.mta
def test_the_demonstration_succeeds(tmp_path: Path) -> None:
    """`python -m tests.demo` shows every scene in 80 columns, and exits with 0."""
    environ = {**os.environ, "COLUMNS": "80"}
    command = [sys.executable, "-m", "tests.demo"]
    output = tmp_path / "output"
    try:
        with output.open("wb") as file:
            subprocess.run(command, cwd=ROOT, env=environ, stdout=file, stderr=subprocess.STDOUT, timeout=600, check=True)
        shown = output.read_text()
        assert "91.92.251.215" in shown
        assert "from external hosts, and this message is not one" in " ".join(shown.split())
        assert f"\n{len(SCENES) + 1}. " in shown
        assert max(map(len, shown.splitlines())) <= 80
        # No word is broken: each scene's addresses are there in one piece, and so are the places of the rules.
        words = {word.strip("<>(),") for word in shown.split()}
        scenes = (*SCENES, REAL_BOUNCE)
        assert {address for scene in scenes for address in (*scene.recipients, scene.sender)} <= words
        assert {"listener_domains.toml:10", '"customer.example".relay_to'} <= words
    except (subprocess.SubprocessError, AssertionError) as error:
        error.add_note(f"what the demonstration showed:\n{output.read_text()}")
        raise


@pytest.mark.mta
def test_the_console_runs_until_a_signal() -> None:
    """`python -m tests.demo.console` prints the address and the tokens, and stops all at a signal. A second says why not."""
    command = [sys.executable, "-m", "tests.demo.console", "0"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as console:
        assert console.stdout is not None
        lines = {line.strip() for line in takewhile(lambda line: "Ctrl-C" not in line, console.stdout)}
        (address,) = (line.removeprefix("The console: ") for line in lines if "The console: " in line)
        assert "Log in" in httpx.get(address, follow_redirects=True).text
        port = address.rstrip("/").rpartition(":")[2]
        second = subprocess.run([*command[:-1], port], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
        text = f"Another program listens on 127.0.0.1:{port}, perhaps this demonstration: end that first.\n"
        assert (second.returncode, second.stdout, second.stderr) == (1, text, "")
        console.send_signal(signal.SIGTERM)
        assert console.wait(timeout=60) == 0
    assert f"Token of the reader: {TOKENS['reader']}" in lines


def test_a_wrong_outcome_fails_the_demonstration(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """A wrong result is printed, and makes the exit status 1."""
    demo = importlib.import_module("tests.demo.__main__")
    outcome = Outcome(answers=None, refused=Answer(code=250, text="2.0.0 Ok"), records=[], delivered={})
    played = Played(scene=SCENES[0], outcome=outcome, faults=("the answer: '250' instead of '550'",))
    monkeypatch.setattr(demo, "play", lambda: iter([played]))
    monkeypatch.setattr(demo, "missing", lambda: None)
    assert demo.main() == 1
    assert "1 result is wrong" in capsys.readouterr().out
