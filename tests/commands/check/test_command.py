"""`sidecar check` says whether the settings are in order, and the other commands print problems in the same way."""

import json
import os
import pty
import re
import subprocess
import sys
import termios
from pathlib import Path

import click
import pytest
from click.testing import CliRunner
from hypothesis import example, given, settings
from hypothesis import strategies as st

from sidecar.commands.check.command import command
from sidecar.core.findings import Finding
from sidecar.output.problems import config_option, settings_or_exit


@pytest.fixture(autouse=True)
def _idle_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave this machine out: another program can have the default port. The tests of run time ask it."""
    monkeypatch.setattr("sidecar.commands.check.command.runtime_findings", lambda *_: [])


def write(folder: Path, domains: str, main: str = 'listener_domains = "d.toml"\n') -> str:
    """Write a settings file and its listener domains, and give the path of the former."""
    (folder / "d.toml").write_text(domains, encoding="utf-8")
    (folder / "s.toml").write_text(main, encoding="utf-8")
    return str(folder / "s.toml")


GOOD = '["a.com"]\nrelay_to = true\n[listener."127.0.0.1:25"."a.com"]\n'
WARNED = '["a.com"]\nttl = 5\nrelay_to = true\n'
BAD = '["a.com"]\nrelay_to = "\\u001b[31m"\nttl = 5\n'


def test_fine(tmp_path: Path) -> None:
    """Valid settings: one line with the number of entries, and exit status 0."""
    done = CliRunner().invoke(command, ["--config", write(tmp_path, GOOD)])
    assert done.output == "The settings are valid: 2 listener domains (1 of them for 1 listener only), 2 relay hosts.\n"
    assert done.exit_code == 0


def test_defaults() -> None:
    """Without a settings file the defaults are checked."""
    done = CliRunner().invoke(command, [])
    assert (done.stdout, done.exit_code) == ("The settings are valid: 0 listener domains, 2 relay hosts.\n", 0)


def test_warnings(tmp_path: Path) -> None:
    """Warnings are printed and leave exit status 0."""
    done = CliRunner().invoke(command, ["--config", write(tmp_path, WARNED)])
    assert done.output.splitlines() == [
        'd.toml:2: warning: "a.com".ttl: ttl has no effect: a reload reads the domains again. Remove it.',
        "The settings are valid, with 1 warning: 1 listener domain, 2 relay hosts.",
    ]
    assert done.exit_code == 0


def test_errors(tmp_path: Path) -> None:
    """Errors are printed with file, line, key path and fix, without control characters, and exit status 1."""
    done = CliRunner().invoke(command, ["--config", write(tmp_path, BAD)])
    assert done.output.splitlines() == [
        'd.toml:2: error: "a.com".relay_to: "\\u001b[31m" is neither true nor false. Write true or false, without quotes.',
        'd.toml:3: warning: "a.com".ttl: ttl has no effect: a reload reads the domains again. Remove it.',
        "The settings have 1 error and 1 warning: the program does not start with them.",
    ]
    assert done.exit_code == 1


def test_a_hostile_file_name_is_printed_safely(tmp_path: Path) -> None:
    """The name of a file is escaped too."""
    (tmp_path / "\x1b.toml").write_text("[", encoding="utf-8")
    done = CliRunner().invoke(command, ["--config", write(tmp_path, "", 'listener_domains = ["d.toml"]\nx\\u001b = 1\n')])
    assert "\x1b" not in done.output
    done = CliRunner().invoke(command, ["--config", str(tmp_path / "\x1b.toml")])
    assert "\\u001b.toml:1: error: This is not TOML" in done.output
    assert "\x1b" not in done.output


@pytest.mark.parametrize(("domains", "status", "strict"), [(GOOD, 0, 0), (WARNED, 0, 1), (BAD, 1, 1)])
def test_json(tmp_path: Path, domains: str, status: int, strict: int) -> None:
    """--json prints one object with all findings; --strict changes only the exit status."""
    arguments = ["--json", "--config", write(tmp_path, domains)]
    done, strictly = (CliRunner().invoke(command, more) for more in (arguments, [*arguments, "--strict"]))
    assert (done.exit_code, strictly.exit_code, done.output) == (status, strict, strictly.output)
    answer = json.loads(done.output)
    assert list(answer) == ["findings"]
    assert [finding["level"] for finding in answer["findings"]] == {
        GOOD: [],
        WARNED: ["warning"],
        BAD: ["error", "warning"],
    }[domains]
    for finding in answer["findings"]:
        assert list(finding) == ["level", "code", "file", "line", "key", "text", "fix", "more", "lines"]
        assert finding["file"] == "d.toml"
        assert finding["code"] == {"error": "wrong_type", "warning": "deprecated"}[finding["level"]]


def test_json_shows_nothing_raw(tmp_path: Path) -> None:
    """The name of a file is escaped in JSON too, and keeps its value."""
    path = tmp_path / "s\x7f\x85.toml"
    path.write_text("x = 1\n", encoding="utf-8")
    done = CliRunner().invoke(command, ["--json", "--config", str(path)])
    assert done.output.rstrip("\n").isprintable()
    assert json.loads(done.output)["findings"][0]["file"] == str(path)


def test_this_machine_is_asked(tmp_path: Path) -> None:
    """Only this command checks the accounts and addresses of the machine; others print no warnings."""
    path = write(tmp_path, '[listener."192.0.2.77:25"."a.com"]\nrelay_to = true\n')
    done = CliRunner().invoke(command, ["--json", "--config", path])
    assert ([finding["code"] for finding in json.loads(done.output)["findings"]], done.exit_code) == (["unknown_listener"], 0)
    assert CliRunner().invoke(other, ["--config", path]).stderr == ""


def test_many_alike_are_a_few_lines(tmp_path: Path) -> None:
    """Thousands of findings of one kind are a few lines; the last of them counts the others."""
    text = "".join(f'["d{number}.com"]\nlog_oob = true\n' for number in range(1000))
    done = CliRunner().invoke(command, ["--config", write(tmp_path, text)])
    *first, last, summary = done.output.splitlines()
    assert [line.partition(" ")[0] for line in (*first, last)] == [f"d.toml:{line}:" for line in range(2, 12, 2)]
    assert not any("more like this" in line for line in first)
    assert "(and 995 more like this)." in last
    assert summary.startswith("The settings are valid, with 1,000 warnings:")


def test_a_reader_that_is_gone(tmp_path: Path) -> None:
    """`| head` ends the command quietly."""
    shell = f"{sys.executable} -m sidecar check --config {write(tmp_path, GOOD)} | true"
    done = subprocess.run(["bash", "-c", shell], capture_output=True, text=True, timeout=120, check=False)
    assert done.stderr == ""


def test_a_missing_file(tmp_path: Path) -> None:
    """A missing settings file is an error like any other."""
    done = CliRunner().invoke(command, ["--json", "--config", str(tmp_path / "none.toml")])
    (finding,) = json.loads(done.output)["findings"]
    assert (finding["file"], finding["line"], done.exit_code) == (None, None, 1)


@click.command()
@config_option
def other(config: Path | None) -> None:
    """Another command."""
    click.echo(len(settings_or_exit(config).domains))


@pytest.mark.parametrize(
    ("domains", "stdout", "errors", "status"),
    [(GOOD, "2\n", 0, 0), (WARNED, "1\n", 0, 0), (BAD, "", 1, 1)],
)
def test_other_commands(tmp_path: Path, domains: str, stdout: str, errors: int, status: int) -> None:
    """Other commands get their settings, or print the errors to standard error and exit with status 1."""
    done = CliRunner().invoke(other, ["--config", write(tmp_path, domains)])
    assert (done.stdout, len(done.stderr.splitlines()), done.exit_code) == (stdout, errors, status)


FILES = st.sampled_from(["s.toml", "d.toml", "d.json"])
WORDS = ['"{"', '"a.com"', '"listener"', '"[::1]:25"', "log_oob", "true", "null", "0", *"{}[]:,=.#\"'\\\n"]
TEXTS = st.text(max_size=40) | st.lists(st.sampled_from(WORDS), max_size=12).map("".join)


@settings(deadline=None, derandomize=True, max_examples=300)
@given(FILES, TEXTS)
@example("d.json", '{"{": "{", "a": {}}')
def test_any_text_gives_findings(tmp_path_factory: pytest.TempPathFactory, name: str, text: str) -> None:
    """No text in a settings file ends the command with a traceback."""
    folder = tmp_path_factory.getbasetemp() / "any"
    folder.mkdir(exist_ok=True)
    main = f'listener_domains = "{name}"\n' if name != "s.toml" else text
    (folder / "s.toml").write_text(main, encoding="utf-8")
    (folder / name).write_text(text, encoding="utf-8")
    done = CliRunner().invoke(command, ["--config", str(folder / "s.toml"), "--json"])
    assert done.exit_code in {0, 1}
    assert done.exception is None or isinstance(done.exception, SystemExit)
    assert json.loads(done.output) is not None


RELAYS = """\
["default"]
["*"]
relay_to = true
["send.example.com"]
relay_from = ["0.0.0.0/0"]
"""


def test_open_relays_are_never_called_valid(tmp_path: Path) -> None:
    """Open relays are before other warnings, and the last line names them first."""
    done = CliRunner().invoke(command, ["--config", write(tmp_path, RELAYS)])
    *findings, summary = done.output.splitlines()
    assert [line.partition(" ")[0] for line in findings] == ["d.toml:3:", "d.toml:5:", "d.toml:1:"]
    assert summary == (
        "These settings are an open relay: 2 open relays and 1 other warning. They have 3 listener domains, 2 relay hosts."
    )
    assert "valid" not in done.output
    assert done.exit_code == 0


def test_errors_of_this_machine_are_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Errors, open relays, other warnings: in text and in JSON. The last line says that the program does not start."""
    error = Finding(level="error", code="port_in_use", text="Another program listens.", fix="Stop it.")
    monkeypatch.setattr("sidecar.commands.check.command.runtime_findings", lambda *_: [error])
    path = write(tmp_path, RELAYS)
    done = CliRunner().invoke(command, ["--config", path])
    *findings, summary = done.output.splitlines()
    assert findings[0] == "error: Another program listens. Stop it."
    assert summary == "The program does not start on this machine: 1 error, 2 open relays and 1 other warning."
    done = CliRunner().invoke(command, ["--config", path, "--json"])
    assert [each["code"] for each in json.loads(done.output)["findings"]] == [
        *("port_in_use", "open_relay", "open_relay", "never_matches"),
    ]
    assert done.exit_code == 1


@pytest.mark.parametrize(("domains", "status"), [(GOOD, 0), (WARNED, 1), (RELAYS, 1), (BAD, 1)])
def test_strict(tmp_path: Path, domains: str, status: int) -> None:
    """With --strict a warning is exit status 1 as well."""
    assert CliRunner().invoke(command, ["--strict", "--config", write(tmp_path, domains)]).exit_code == status


def on_terminal(line: list[str], *, columns: int) -> tuple[str, int]:
    """Run a command on a terminal of this width, and return what it shows and its exit status."""
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (50, columns))
    kept = {name: value for name, value in os.environ.items() if name not in {"NO_COLOR", "COLUMNS", "STATE_DIRECTORY"}}
    with subprocess.Popen(line, stdout=theirs, env={**kept, "TERM": "xterm"}) as running:
        os.close(theirs)
        shown = b""
        try:
            while piece := os.read(ours, 65536):
                shown += piece
        except OSError:
            pass  # Linux: the terminal's other end is closed
        finally:
            os.close(ours)
        return shown.decode(), running.wait(timeout=120)


def test_eighty_columns(tmp_path: Path) -> None:
    """On a terminal no line is longer than it, and the further lines of a finding are indented."""
    path = write(tmp_path, RELAYS, 'listener_domains = "d.toml"\nstate_directory = "state"\n[milter]\nsocket = "unix:s"\n')
    shown, status = on_terminal([sys.executable, "-m", "sidecar", "check", "--config", path], columns=80)
    assert status == 0
    lines = [re.sub("\x1b\\[[0-9;]*m", "", line) for line in shown.splitlines()]
    assert max(map(len, lines)) <= 80
    assert [line for line in lines if not line.startswith("  ")] == [
        'd.toml:3: warning: "*".relay_to: This is an open relay: every host can send any',
        'd.toml:5: warning: "send.example.com".relay_from: This is an open relay:',
        'd.toml:1: warning: "default": This entry matches only the domain "default". The',
        "These settings are an open relay: 2 open relays and 1 other warning. They have 3",
    ]
