"""The behaviour that all commands share. A new command needs a call in `CALLS`; all tests here then run for it."""

import json
import os
import pty
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result
from msgspec import Struct

from sidecar.cli import COMMANDS, EXAMPLES, STATUSES, main
from sidecar.output.help import Command
from tests import ROOT
from tests.forked import Forks

SIDECAR = [sys.executable, "-m", "sidecar"]
HOSTILE = "na\u00efve\u202e\x1b[31m"

RECORD = {
    "type": "Rejection",
    "sender": f"{HOSTILE}@x.example",
    "recipient": "a@gmail.example",
    "response": {"code": 550, "content": HOSTILE},
    "peer_address": {"name": HOSTILE, "addr": "203.0.113.9"},
    "timestamp": 1767225600,
    "event_time": "2026-01-01T00:00:00Z",
    "meta": {"why": HOSTILE},
}
KEPT = "state/quarantine/20260101-000000-0123456789abcdef0123456789abcdef"
FILES = {
    # Another program of this machine can listen on the default port.
    "sidecar.toml": 'listener_domains = ["domains.toml"]\nstate_directory = "state"\n[milter]\nsocket = "unix:s"\n[verify]\n',
    "new.toml": 'listener_domains = ["domains.toml"]\nstate_directory = "state"\nrelay_hosts = ["10.0.0.0/8"]\n',
    "signed.toml": '[verify]\nsecret_files = ["secret"]\n',
    "console.toml": 'state_directory = "state"\n[admin]\nconsole = true\n',
    "secret": "the-secret-of-the-tests-is-no-secret\n",
    "bad.toml": "relay_hostz = []\n",
    "domains.toml": '["example.com"]\nlog_oob = true\n["m\u00fcnchen.example"]\nlog_arf = true\n',
    "mail.eml": f"From: {HOSTILE} <a@x.example>\nTo: b@example.com\nSubject: {HOSTILE}\n\n{HOSTILE}\n",
    f"{KEPT}.eml": f"Subject: {HOSTILE}\n\n{HOSTILE}\n",
    f"{KEPT}.json": json.dumps(RECORD, ensure_ascii=False),
    "main.cf": f"smtpd_milters = inet:127.0.0.1:8893\nmyhostname = {HOSTILE}\n",
    "log.jsonl": json.dumps(RECORD, ensure_ascii=False) + "\n",
}


class Call(Struct, frozen=True):
    """The arguments of a command without a running sidecar, and the exit status."""

    arguments: str
    status: int = 0
    as_json: bool = True
    config: bool = True


CALLS = {
    "run": Call("--config bad.toml", status=1, as_json=False),
    "status": Call("--config sidecar.toml", status=1),
    "index": Call("rebuild --config console.toml", as_json=False, config=False),
    "explain": Call("--config sidecar.toml --peer ::1 --from '' --to a@b.example --message mail.eml"),
    "tail": Call("--no-follow log.jsonl", config=False),
    "stats": Call("log.jsonl", config=False),
    "parse": Call("--config sidecar.toml mail.eml"),
    "verify": Call("--config sidecar.toml mail.eml", status=1),
    "check": Call("--config sidecar.toml"),
    "diff": Call("--records log.jsonl sidecar.toml new.toml", status=1, config=False),
    "replay": Call("--config sidecar.toml mail.eml"),
    "sign": Call("--config signed.toml news@example.com", config=False),
    "keys": Call("list --config signed.toml", config=False),
    "doctor": Call("--config sidecar.toml --postfix main.cf", status=1),
    "export": Call("postfix --config sidecar.toml", as_json=False),
    "simulate": Call("--list", config=False),
    "quarantine": Call("list --config sidecar.toml"),
    "fleet": Call("status --config sidecar.toml", status=1, as_json=False),
    "suppression": Call("simulate --config sidecar.toml --records log.jsonl"),
}
EACH = pytest.mark.parametrize("name", COMMANDS)
WRITING = pytest.mark.parametrize("name", [name for name in COMMANDS if name not in {"run", "fleet"}])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the files that the calls name."""
    (tmp_path / KEPT).parent.mkdir(parents=True)
    for name, text in FILES.items():
        (tmp_path / name).write_text(text)
    (tmp_path / "secret").chmod(0o600)
    return tmp_path


def words_of(name: str, *more: str) -> list[str]:
    return [name, *shlex.split(CALLS[name].arguments), *more]


def environment(**more: str) -> dict[str, str]:
    bare = {key: text for key, text in os.environ.items() if key not in {"NO_COLOR", "FORCE_COLOR"}}
    return bare | {"PYTHONPATH": str(ROOT), "COLUMNS": "80"} | more


def start(folder: Path, name: str, *more: str, around: str = "{}", **variables: str) -> subprocess.CompletedProcess[bytes]:
    """Start the program in the shell with a command of the table, with `around` around it."""
    return subprocess.run(
        ["bash", "-c", around.format(shlex.join([*SIDECAR, *words_of(name, *more)]))],
        cwd=folder,
        env=environment(**variables),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=120,
        check=False,
    )


def call_inside(name: str, *more: str) -> Result:
    """Run a command of the table in this process and in this folder."""
    return CliRunner().invoke(main, [name, *shlex.split(CALLS[name].arguments), *more])


def command_of(name: str) -> Command:
    found = main.get_command(click.Context(main), name)
    assert isinstance(found, Command)
    return found


def test_every_command_is_called() -> None:
    """The tests here run for every command."""
    assert CALLS.keys() == COMMANDS.keys()


# --- help


@pytest.mark.parametrize("name", ["", *COMMANDS])
def test_help(name: str) -> None:
    """Usage, options, examples and exit statuses, in this order, on a terminal of 80 columns."""
    result = CliRunner().invoke(main, [name, "--help"] if name else ["--help"], terminal_width=80)
    assert result.exit_code == 0
    headings = re.findall(r"^(Usage|Options|Examples|Exit status):", result.output, re.MULTILINE)
    assert headings == ["Usage", "Options", "Examples", "Exit status"]
    assert max(map(len, result.output.splitlines())) <= 80
    assert re.search(r"^  2 +\S", result.output, re.MULTILINE)
    # The summary of each command of a group is complete.
    commands = result.output.partition("\nCommands:\n")[2].partition("\n\n")[0]
    assert "..." not in commands


@EACH
def test_summary(name: str) -> None:
    """The list of commands has each with its complete summary."""
    width = max(map(len, COMMANDS))
    assert f"  {name:{width}}  {COMMANDS[name]}\n" in CliRunner().invoke(main, ["--help"]).output


@EACH
def test_examples_can_be_called(name: str) -> None:
    """The options in the examples exist."""
    command = command_of(name)
    leaves = list(command.commands.values()) if isinstance(command, click.Group) else [command]
    known = {option for leaf in leaves for parameter in leaf.params for option in (*parameter.opts, *parameter.secondary_opts)}
    for example in command.examples:
        words = shlex.split(example.replace("\\\n", "").partition("sidecar ")[2].partition(" |")[0])
        assert words[0] == name
        assert not isinstance(command, click.Group) or words[1] in command.commands
        assert {word for word in words if word.startswith("-") and word != "-"} <= known


def test_examples_of_the_program() -> None:
    """The commands in the examples exist."""
    assert {example.split()[1] for example in EXAMPLES} <= COMMANDS.keys()
    assert set(STATUSES) == {0, 1, 2, 130}


def test_help_loads_no_command() -> None:
    """The list of commands loads no command."""
    loaded = (
        "import sys; from sidecar.cli import COMMANDS, main; main(['--help'], standalone_mode=False);"
        "sys.exit(any(f'sidecar.commands.{name}' in sys.modules for name in COMMANDS))"
    )
    subprocess.run([sys.executable, "-c", loaded], stdout=subprocess.DEVNULL, check=True)


# --- output


@EACH
@pytest.mark.parametrize("variables", [{"PYTHONIOENCODING": "ascii", "NO_COLOR": "1"}, {"TERM": "dumb"}], ids=str)
def test_a_pipe(name: str, variables: Mapping[str, str], folder: Path, loaded: Forks) -> None:
    """In a pipe output has no colours, is not cut, and external text is escaped, in any character set."""
    done = loaded.run(words_of(name), folder=folder, environ=environment(**variables))
    assert done.returncode == CALLS[name].status
    assert not re.search(rb"[\x00-\x09\x0b-\x1f\x7f]", (done.stdout + done.stderr).replace(b"\t", b""))
    assert "\u202e".encode() not in done.stdout + done.stderr
    assert b"Traceback" not in done.stderr


@pytest.mark.parametrize("name", [name for name, called in CALLS.items() if called.as_json])
def test_json(name: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With --json each line is JSON, and the exit status is the same."""
    monkeypatch.chdir(folder)
    done = call_inside(name, "--json")
    assert done.exit_code == CALLS[name].status
    assert [json.loads(line) for line in done.stdout.splitlines()]
    assert "\x1b" not in done.stdout
    assert "\u202e" not in done.stdout


@EACH
def test_closed_streams(name: str, folder: Path, loaded: Forks) -> None:
    """With closed streams the exit status is the same."""
    done = loaded.run(words_of(name), folder=folder, environ=environment(), closed=[0, 1, 2])
    assert done.returncode == CALLS[name].status
    done = loaded.run(words_of(name), folder=folder, environ=environment(), closed=[1])
    assert done.returncode == CALLS[name].status
    assert b"Traceback" not in done.stderr


@pytest.mark.parametrize(
    "call_of", [*((name,) for name in COMMANDS if name not in {"run", "fleet"}), ("explain", "--help")], ids=" ".join
)
def test_output_that_cannot_be_written(call_of: Sequence[str], folder: Path, loaded: Forks) -> None:
    """A full disk behind the output is one sentence and exit status 1."""
    with open("/dev/full", "wb") as full:  # noqa: PTH123
        done = loaded.run(words_of(*call_of), folder=folder, environ=environment(), streams={1: full.fileno()})
    assert done.stderr.endswith(b"Error: The output cannot be written: No space left on device.\n")
    assert b"Traceback" not in done.stderr
    assert done.returncode == 1


@WRITING
def test_a_reader_that_is_gone(name: str, folder: Path, loaded: Forks, monkeypatch: pytest.MonkeyPatch) -> None:
    """Output into a pipe without a reader prints no error."""
    monkeypatch.chdir(folder)
    reading, writing = os.pipe()
    os.close(reading)
    done = loaded.run(words_of(name), folder=folder, environ=environment(), streams={1: writing})
    os.close(writing)
    assert set(done.stderr.decode().splitlines()) <= set(call_inside(name).stderr.splitlines())


@pytest.mark.parametrize("name", ["tail", "doctor"])
@pytest.mark.parametrize(
    ("around", "variables", "closed"),
    [
        ("{}", {"PYTHONIOENCODING": "ascii", "NO_COLOR": "1"}, ()),
        ("{}", {"LC_ALL": "C", "LANG": "C", "TERM": "dumb"}, ()),
        ("{} <&- >&- 2>&-", {}, (0, 1, 2)),
        ("{} >&-", {}, (1,)),
    ],
    ids=str,
)
def test_a_start(
    name: str, around: str, variables: Mapping[str, str], closed: Sequence[int], folder: Path, loaded: Forks
) -> None:
    """A program that is started does with its streams the same as its fork in the tests above."""
    done = start(folder, name, around=around, **variables)
    forked = loaded.run(words_of(name), folder=folder, environ=environment(**variables), closed=closed)
    assert (done.returncode, done.stdout, done.stderr) == (forked.returncode, forked.stdout, forked.stderr)


def test_a_start_whose_output_cannot_be_written(folder: Path) -> None:
    done = start(folder, "tail", around="{} >/dev/full")
    assert (done.returncode, done.stderr) == (1, b"Error: The output cannot be written: No space left on device.\n")


# --- errors


@EACH
def test_wrong_usage(name: str) -> None:
    """An option that does not exist is exit status 2, and the last line says which."""
    result = CliRunner().invoke(main, [name, "--no-such"])
    assert result.exit_code == 2
    assert re.match(r"Error: No such option.*--no-such", result.stderr.splitlines()[-1])


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ("explian", "No such command 'explian'. Did you mean 'explain'?"),
        ("Check", "No such command 'Check'. Did you mean 'check'?"),
        ("sim", "No such command 'sim'. Did you mean 'simulate'?"),
        ("xyz", "No such command 'xyz'. `sidecar --help` lists the commands."),
        ("\x1b[31m", "No such command '\\x1b[31m'. `sidecar --help` lists the commands."),
        ("--verison", "No such option '--verison'. Did you mean '--version'?"),
    ],
)
def test_a_misspelled_word(arguments: str, error: str) -> None:
    """The exit status is 2, and the error names the nearest command or option."""
    result = CliRunner().invoke(main, arguments.split())
    assert result.exit_code == 2
    assert result.stderr.splitlines()[-1] == f"Error: {error}"


@pytest.mark.parametrize("name", [name for name, called in CALLS.items() if called.config and name not in {"run", "status"}])
def test_missing_settings(name: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A missing settings file is exit status 1, and the error names it."""
    (folder / "sidecar.toml").unlink()
    monkeypatch.chdir(folder)
    done = call_inside(name)
    assert done.exit_code == 1
    assert isinstance(done.exception, SystemExit)
    assert 'error: The file "sidecar.toml" does not exist. ' in done.output


def test_a_start_with_missing_settings(folder: Path) -> None:
    """The same for the service, which reads its settings in another process."""
    (folder / "bad.toml").unlink()
    done = start(folder, "run")
    assert done.returncode == 1
    assert b'error: The file "bad.toml" does not exist. ' in done.stderr
    assert b"Traceback" not in done.stderr


@EACH
def test_ctrl_c(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C ends any command without output, with the usual status."""

    def interrupted(**_arguments: Any) -> None:
        raise KeyboardInterrupt

    command = command_of(name)
    name_of_leaf, leaf = next(iter(command.commands.items())) if isinstance(command, click.Group) else ("", command)
    monkeypatch.setattr(leaf, "callback", interrupted)
    monkeypatch.setattr(leaf, "params", [])
    result = CliRunner().invoke(main, [name] if leaf is command else [name, name_of_leaf])
    assert (result.exit_code, result.output) == (130, "")


@pytest.mark.parametrize(
    "arguments",
    ["parse -", "stats -", "tail -", "explain --record -", "explain --batch -", "doctor --postfix -"],
)
def test_ctrl_c_while_it_waits(arguments: str) -> None:
    """The same while a command waits for its input."""
    terminal, end = pty.openpty()
    with subprocess.Popen([*SIDECAR, *arguments.split()], stdin=end, stderr=subprocess.PIPE, start_new_session=True) as program:
        os.close(end)
        try:
            _wait_until_it_reads(program.pid)
            program.send_signal(signal.SIGINT)
            _, errors = program.communicate(timeout=120)
        finally:
            program.kill()
    os.close(terminal)
    assert program.returncode == 130
    assert b"Traceback" not in errors


def _wait_until_it_reads(pid: int) -> None:
    """Wait until the process sleeps in a read of its standard input."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        # The system call in which it sleeps, and its arguments. Only a read of standard input has 0 as the first.
        if Path(f"/proc/{pid}/syscall").read_text().split()[1:2] == ["0x0"]:
            return
        time.sleep(0.01)
    raise AssertionError("the process never reads")
