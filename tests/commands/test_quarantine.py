"""`sidecar quarantine` lists, shows and deletes unparsable reports."""

import fcntl
import json
import os
import pty
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from sidecar.cli import main
from sidecar.journal.write import Quarantine
from sidecar.journal.write.quarantine import KeptMessage
from tests import ROOT, preloaded
from tests.mta.places import private_directory

# Another user cannot always pass through the folders of Python and of this project: the program is loaded first.
AS_NOBODY = """
import _strptime, os, sys
from sidecar.cli import main
import sidecar.commands.quarantine
os.setgroups([])
os.setresgid(65534, 65534, 65534)
os.setresuid(65534, 65534, 65534)
main(sys.argv[1:])
"""
IDS = ["1f3a92c07b44" + "0" * 20, "1f3a92c07b45" + "0" * 20, "9c01d5e8f3aa" + "0" * 20]
NAMES = [f"202609{day}-141320-{one}-cb007109" for day, one in zip((20, 21, 22), IDS, strict=True)]
MESSAGE = b"Subject: \x1b[2J\r\n\r\n\tna\xefve \xe2\x80\xae\r\n"
WHY = "the status part has no fields; it claims to be a report, so it is quarantined and not delivered"


def record(number: int) -> bytes:
    fields = {
        "type": "Reception",
        "id": IDS[number],
        "sender": "",
        "recipient": "x@b.example.com",
        "peer_address": {"name": "mx", "addr": f"203.0.113.{number}"},
        "meta": {"why": WHY, "quarantine": f"{NAMES[number]}.eml"},
    }
    return json.dumps(fields).encode() + b"\n"


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder with settings, and a quarantine with three messages; every user can pass through it."""
    with private_directory() as home:
        (home / "sidecar.toml").write_text('state_directory = "state"\n')
        kept = Quarantine(home / "state/quarantine", size=1 << 20, age=86400)
        for number, name in enumerate(NAMES):
            kept.keep(name, message=MESSAGE, record=record(number))
        yield home


def run(folder: Path, command: str, *arguments: str) -> Result:
    return CliRunner().invoke(main, ["quarantine", command, "--config", str(folder / "sidecar.toml"), *arguments])


def kept(folder: Path) -> list[str]:
    return sorted(path.stem for path in (folder / "state/quarantine").glob("*.eml"))


def test_list(folder: Path) -> None:
    """The oldest first: id, time, peer, size and reason."""
    lines = run(folder, "list").output.splitlines()
    assert lines[0].split() == ["id", "time", "peer", "size", "why"]
    assert lines[1].split("  ") == [IDS[0], "2026-09-20 14:13:20", "203.0.113.0", "29 bytes", WHY]
    assert len(lines) == 4


def test_list_json(folder: Path) -> None:
    """One object a line. A message without a record is listed too."""
    (folder / f"state/quarantine/{NAMES[1]}.json").unlink()
    (folder / f"state/quarantine/{NAMES[2]}.json").write_text("{")
    (folder / "state/quarantine/notes.eml").touch()
    first, second, third = map(json.loads, run(folder, "list", "--json").output.splitlines())
    assert first == {
        "id": IDS[0],
        "file": f"{NAMES[0]}.eml",
        "time": "2026-09-20T14:13:20Z",
        "size": len(MESSAGE),
        "peer": "203.0.113.0",
        "sender": "",
        "recipients": ["x@b.example.com"],
        "why": WHY,
    }
    assert (second["id"], second["peer"], third["why"]) == (IDS[1], None, None)
    assert "its record cannot be read" in run(folder, "list").output


def test_an_empty_quarantine(tmp_path: Path) -> None:
    """A quarantine without messages, or one that does not exist yet, is no error."""
    (tmp_path / "sidecar.toml").write_text('state_directory = "state"\n')
    for _ in range(2):
        done = run(tmp_path, "list")
        assert (done.exit_code, done.output) == (0, f"The quarantine in {tmp_path}/state/quarantine is empty.\n")
        assert run(tmp_path, "delete", "--all").output == "0 messages deleted, 0 bytes freed.\n"
        (tmp_path / "state/quarantine").mkdir(parents=True, exist_ok=True)


def on_terminal(folder: Path, *arguments: str) -> tuple[str, int]:
    """Run a command on a terminal of 80 columns."""
    reading, writing = pty.openpty()
    program = [sys.executable, "-m", "sidecar", "quarantine", *arguments, "--config", str(folder / "sidecar.toml")]
    settings = {**os.environ, "COLUMNS": "80", "TERM": "dumb", "NO_COLOR": "1"}
    with preloaded.popen(program, stdout=writing, stderr=writing, stdin=subprocess.DEVNULL, env=settings) as process:
        os.close(writing)
        text = b""
        try:
            while more := os.read(reading, 1 << 16):
                text += more
        except OSError:  # the other end is closed
            pass
        os.close(reading)
    return text.decode().replace("\r\n", "\n"), process.returncode


def test_list_on_a_terminal(folder: Path) -> None:
    """An id has so many digits that all are different, and the reason is wrapped between words."""
    text, status = on_terminal(folder, "list")
    lines = text.splitlines()
    assert status == 0
    assert lines[1].startswith("1f3a92c07b44  2026-09-20 14:13:20  203.0.113.0  29 bytes  ")
    assert all(len(line) <= 80 for line in lines)
    assert {word for line in lines[1:] for word in line[58:].split()} == set(WHY.split())


def test_show(folder: Path) -> None:
    """The record as JSON, then the message, with everything escaped that controls a terminal."""
    text = run(folder, "show", IDS[0]).output
    shown, _, message = text.partition("\n\n")
    assert json.loads(shown) == json.loads(record(0))
    assert message == "Subject: \\u001b[2J\n\n\tna\\xefve \\u202e\n"
    (folder / f"state/quarantine/{NAMES[0]}.json").unlink()
    assert run(folder, "show", IDS[0]).output == f"null\n\n{message}"
    fields = json.loads(run(folder, "show", "--json", IDS[1]).output)
    assert (fields["id"], fields["file"], fields["record"]) == (IDS[1], f"{NAMES[1]}.eml", json.loads(record(1)))
    assert fields["message"] == MESSAGE.decode("utf-8", "replace")


def test_show_raw(folder: Path) -> None:
    """The bytes of the message, but never to a terminal."""
    assert run(folder, "show", "--raw", f"{NAMES[0]}.eml").stdout_bytes == MESSAGE
    text, status = on_terminal(folder, "show", "--raw", IDS[0])
    assert text == "Error: A raw message can contain characters that control a terminal. Write it into a file: > FILE\n"
    assert status == 1


@pytest.mark.parametrize(
    ("command", "arguments", "status", "error"),
    [
        ("show", ["1f3a92c07b4"], 1, "'1f3a92c07b4' is the beginning of 2 ids. Write more digits."),
        ("show", ["1f3a92c07b46" + "0" * 20], 1, f"Did you mean '{IDS[1]}'?"),
        ("show", ["x\x1b"], 1, "`sidecar quarantine list` shows all ids."),
        ("show", ["../../sidecar.toml"], 1, "`sidecar quarantine list` shows all ids."),
        ("show", [""], 1, "`sidecar quarantine list` shows all ids."),
        ("show", ["--raw", "--json", "1"], 2, "--raw and --json exclude each other. Write one of them."),
        ("delete", [IDS[0], "7"], 1, "`sidecar quarantine list` shows all ids."),
        ("delete", [], 2, "Name the messages: write their ids, or --older-than AGE, or --all."),
        ("delete", ["--all", IDS[0]], 2, "Name the messages: write their ids, or --older-than AGE, or --all."),
        ("delete", ["--older-than", "7"], 2, "'7' is no age; write one such as 90m, 12h, 7d or 2w."),
    ],
)
def test_errors(folder: Path, command: str, arguments: list[str], status: int, error: str) -> None:
    """One sentence that says what to write; nothing is deleted."""
    done = run(folder, command, *arguments)
    assert done.exit_code == status
    assert done.stderr.rstrip("\n").endswith(error)
    assert "\x1b" not in done.stderr
    assert kept(folder) == NAMES


def test_a_misspelled_command(folder: Path) -> None:
    """The nearest one is named."""
    assert run(folder, "delte").stderr.endswith("Error: No such command 'delte'. Did you mean 'delete'?\n")


def test_delete(folder: Path) -> None:
    """Both files of a message are removed, and the output says which and how much."""
    done = run(folder, "delete", "1f3a92c07b44", f"{NAMES[2]}.eml")
    assert done.output.splitlines() == [
        f"deleted {IDS[0]}, of 2026-09-20 14:13:20 UTC",
        f"deleted {IDS[2]}, of 2026-09-22 14:13:20 UTC",
        "2 messages deleted, 16.0 KiB freed.",
    ]
    assert kept(folder) == [NAMES[1]]
    assert json.loads(run(folder, "delete", "--all", "--json").output) == {"deleted": [IDS[1]], "bytes_freed": 8192}
    assert [path.name for path in (folder / "state/quarantine").iterdir()] == [".bytes"]


def test_delete_by_age(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A message is as old as its time says; an age of thousands of years is one too."""
    # 2026-09-22T14:00:00Z
    monkeypatch.setattr("time.time", lambda: 1_790_085_600.0)
    assert run(folder, "delete", "--older-than", "999999w").output == "0 messages deleted, 0 bytes freed.\n"
    assert run(folder, "delete", "--older-than", "1D").exit_code == 0
    assert kept(folder) == NAMES[1:]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can run a command as another user")
@pytest.mark.parametrize(
    ("place", "mode", "arguments", "right"),
    [
        ("state", 0o700, ["list"], "enter"),
        ("state/quarantine", 0o700, ["list"], "enter"),
        ("state/quarantine", 0o711, ["list"], "read"),
        (f"state/quarantine/{NAMES[0]}.eml", 0o600, ["show", IDS[0]], "read"),
        ("state/quarantine", 0o755, ["delete", "--all"], "write to"),
    ],
)
def test_missing_rights(folder: Path, place: str, mode: int, arguments: list[str], right: str) -> None:
    """The error names the right that this user does not have, where, and who has it."""
    for path in (folder / "state", folder / "state/quarantine", *(folder / "state/quarantine").iterdir()):
        path.chmod(0o777 if path.suffix != ".eml" else 0o644)
    (folder / place).chmod(mode)
    done = subprocess.run(
        [sys.executable, "-c", AS_NOBODY, "quarantine", *arguments, "--config", folder / "sidecar.toml"],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    sentence = (
        f"user nobody is not permitted to {right} {folder / place} (owner root, group root, mode {mode:04o}); run this as root"
    )
    assert sentence in done.stderr
    assert done.stderr.startswith("Error: ")
    assert done.returncode == 1
    assert kept(folder) == NAMES


@pytest.mark.parametrize("kind", ["link", "pipe"])
def test_what_the_user_of_the_sidecar_put_there(folder: Path, kind: str) -> None:
    """Root's command follows no link and waits for no pipe: in place of a message it is an error, of a record it is missing."""
    quarantine = folder / "state/quarantine"
    secret = folder / "secret"
    secret.write_bytes(b"secret")

    def replace_by(path: Path) -> None:
        path.unlink()
        if kind == "link":
            path.symlink_to(secret)
        else:
            os.mkfifo(path)

    replace_by(quarantine / f"{NAMES[0]}.json")
    listed = run(folder, "list")
    assert listed.exit_code == 0
    assert "its record cannot be read" in listed.output
    shown = run(folder, "show", IDS[0])
    assert shown.exit_code == 1
    assert f"{NAMES[0]}.json cannot be read" in shown.output
    assert "secret" not in shown.output.replace(str(folder), "")


# --- hostile content: the user of the workers can put anything there, and root's commands meet it


@pytest.mark.parametrize("arguments", [["list"], ["list", "--json"], ["show", IDS[0]], ["show", "--json", IDS[0]]])
def test_hostile_content(folder: Path, arguments: list[str]) -> None:
    """Names and values that control a terminal are left out or escaped, and the other messages are shown."""
    quarantine = folder / "state/quarantine"
    for name in ("\x1b[2J.eml", f"{NAMES[0]}\x1b[2J.eml", f"99999999-999999-{IDS[0]}.eml", f"{NAMES[0]}.eml\n"):
        (quarantine / name).write_bytes(MESSAGE)
    (quarantine / f"20260923-141320-{'a' * 32}.eml").mkdir()
    hostile = {
        "type": "\x1b]0;x\x07",
        "sender": "\x9b2J",
        "recipient": "\x1b[2J",
        "peer_address": {"name": "", "addr": "\x1b[2J"},
    }
    (quarantine / f"{NAMES[0]}.json").write_text(json.dumps(hostile | {"meta": {"why": "\u202e\x1b[2J"}}))
    done = run(folder, *arguments)
    assert done.exit_code == 0
    assert not {"\x1b", "\x9b", "\x07", "\u202e"} & set(done.output)
    assert arguments[0] == "show" or all(one in done.output for one in IDS)


def test_huge_files(folder: Path) -> None:
    """They do not fill the memory: a record is missing then, and `--raw` copies a message in pieces."""
    for suffix in ("json", "eml"):
        os.truncate(folder / f"state/quarantine/{NAMES[0]}.{suffix}", 384 << 20)
    listed = run(folder, "list")
    assert "384.0 MiB  its record cannot be read" in listed.output.splitlines()[1]
    shown = run(folder, "show", IDS[0])
    assert shown.exit_code == 1
    assert shown.stderr.endswith(f"{NAMES[0]}.eml cannot be read: it has more than 64.0 MiB; show it with --raw.\n")
    # The peak of a process counts that of the process that it was forked from: in between is a small one.
    program = [sys.executable, "-m", "sidecar", "quarantine", "show", "--raw", IDS[0], "--config", str(folder / "sidecar.toml")]
    measured = (
        f"import resource, subprocess; subprocess.run({program!r}, stdout=subprocess.DEVNULL, check=True); "
        "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
    )
    assert int(subprocess.run([sys.executable, "-c", measured], stdout=subprocess.PIPE, check=True).stdout) < 300 << 10


def test_a_message_that_is_deleted_meanwhile(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker or another operator was faster: a sentence, and no traceback."""
    find = Quarantine.messages

    def then_gone(it: Quarantine) -> list[KeptMessage]:
        found = find(it)
        (folder / f"state/quarantine/{NAMES[0]}.eml").unlink()
        return found

    monkeypatch.setattr(Quarantine, "messages", then_gone)
    done = run(folder, "show", IDS[0])
    assert done.exit_code == 1
    assert done.stderr.endswith(f"{NAMES[0]}.eml cannot be read: No such file or directory.\n")


@pytest.mark.parametrize("command", ["list", "delete"])
def test_a_folder_that_is_none(folder: Path, command: str) -> None:
    shutil.rmtree(folder / "state/quarantine")
    (folder / "state/quarantine").touch()
    done = run(folder, command, *(["--all"] if command == "delete" else []))
    assert (done.exit_code, done.stderr) == (1, f"Error: {folder}/state/quarantine cannot be read: Not a directory.\n")


def test_delete_beside_a_hostile_ledger(folder: Path) -> None:
    """Nothing is written through a link, and the error says what to do."""
    ledger = folder / "state/quarantine/.bytes"
    ledger.unlink()
    ledger.symlink_to(folder / "elsewhere")
    done = run(folder, "delete", "--all")
    fix = ".bytes is a symbolic link: remove it, and the sidecar makes a new one"
    assert (done.exit_code, done.stderr) == (1, f"Error: {ledger} cannot be changed: {fix}.\n")
    assert not (folder / "elsewhere").exists()
    ledger.unlink()
    assert run(folder, "delete", "--all").exit_code == 0


def test_delete_does_not_wait_for_ever(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that hangs has the ledger locked."""
    monkeypatch.setattr("sidecar.journal.write.quarantine.LOCK_WITHIN", 0.05)
    with (folder / "state/quarantine/.bytes").open("rb") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        done = run(folder, "delete", "--all")
    assert done.exit_code == 1
    assert "another process keeps .bytes locked" in done.stderr
    assert kept(folder) == NAMES


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make links for others")
def test_root_follows_no_folder_of_others(folder: Path) -> None:
    """The user of one sidecar must not have root delete the messages of another one. A link of root is the operator's."""
    quarantine, other = folder / "state/quarantine", folder / "other"
    quarantine.rename(other)
    quarantine.symlink_to(other)
    assert run(folder, "list").exit_code == 0
    os.chown(quarantine, 65534, 65534, follow_symlinks=False)
    done = run(folder, "delete", "--all")
    assert done.exit_code == 1
    assert "is a symbolic link of user nobody: root does not follow it" in done.stderr
    assert len(list(other.glob("*.eml"))) == 3
