"""`sidecar replay`, as an operator calls it."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests import DATA, preloaded

SIDECAR = [sys.executable, "-m", "sidecar", "replay"]
REPORTS = DATA / "reports"
MARK = b"From MAILER-DAEMON  Sun Nov 22 19:34:47 2026\n"
OOB = b"Delivered-To: x@bounce.example\n" + (REPORTS / "oob-postfix.eml").read_bytes()
SPAM = b"Delivered-To: x%d@s%d.example\nSubject: spam\n\nBuy\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder with settings and an mbox of two messages."""
    (tmp_path / "sidecar.toml").write_text('listener_domains = ["domains.toml"]\n')
    (tmp_path / "domains.toml").write_text('["bounce.example"]\nlog_oob = "LogThenDrop"\n')
    (tmp_path / "mbox").write_bytes(MARK + OOB + b"\n" + MARK + SPAM % (1, 1) + b"\n")
    return tmp_path


def run(folder: Path, *arguments: str | Path, **more: Any) -> subprocess.CompletedProcess[bytes]:
    command = [*SIDECAR, "--config", str(folder / "sidecar.toml"), *map(str, arguments)]
    return preloaded.run(command, **more)


def start(folder: Path, *arguments: str | Path) -> subprocess.Popen[bytes]:
    """Start it as a terminal would: in a process group of its own, with a pipe at each end."""
    command = [*SIDECAR, "--config", str(folder / "sidecar.toml"), *map(str, arguments)]
    pipe = subprocess.PIPE
    return preloaded.popen(command, stdin=pipe, stdout=pipe, stderr=pipe, start_new_session=True)


def children(pid: int) -> list[int]:
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except FileNotFoundError:
        return []


def until(condition: Callable[[], object]) -> None:
    end = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < end, "it did not come to that"
        time.sleep(0.01)


def workers_of(program: subprocess.Popen[bytes]) -> list[int]:
    """Wait until the program has workers, and give their ids."""
    until(lambda: children(program.pid))
    return children(program.pid)


def is_gone(pid: int) -> bool:
    """Return True if a process has ended, also if nothing has reaped it."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


@pytest.fixture
def full(folder: Path) -> Path:
    """Return the folder with an mbox whose lines are far more than all pipes on the way hold."""
    (folder / "full").write_bytes((MARK + OOB + b"\n") * 8_000)
    return folder


def test_totals(folder: Path) -> None:
    """The totals have a row for each outcome and reason, with the rule's place; in a pipe they are whole plain lines."""
    found = run(folder, folder / "mbox", folder / "mbox")
    assert (found.returncode, found.stderr) == (0, b"")
    lines = [line.rstrip() for line in found.stdout.decode().splitlines()]
    assert lines[0].startswith("4 messages, ")
    assert lines[1] == "Accepted reports: 2 bounce reports."
    rule = 'log them and drops them (domains.toml:2 "bounce.example".log_oob)'.replace("log them", "logs them")
    assert lines[3:] == [
        "disposition         messages  reason",
        f"logged and dropped         2  bounce.example accepts bounce reports from any host, {rule}",
        "rejected at RCPT           2  no listener domain matches s1.example",
    ]
    assert found.stdout.isascii()
    assert b"\x1b" not in found.stdout


def test_json(folder: Path) -> None:
    """With --json there is a line a message, in the order of the mail however many workers there are."""
    mails = [folder / f"{number:03}.eml" for number in range(300)]
    for number, mail in enumerate(mails):
        mail.write_bytes(SPAM % (number, number % 7) if number % 5 else OOB)
    (folder / "big").write_bytes(b"".join(MARK + SPAM % (n, n) + b"x" * 10_000 + b"\n\n" for n in range(300)))
    found = run(folder, "--json", "--from", "", *mails, folder / "big", folder / "missing")
    assert found.returncode == 1
    lines = [json.loads(line) for line in found.stdout.splitlines()]
    assert [line["file"] for line in lines[:300]] == [str(mail) for mail in mails]
    assert [line["to"] for line in lines[300:600]] == [[f"x{n}@s{n}.example"] for n in range(300)]
    offsets = [line["offset"] for line in lines[300:600]]
    assert offsets == sorted(offsets)
    assert (lines[600]["not_judged"], lines[600]["reason"]["text"]) == ("unreadable", "No such file or directory")
    assert len(lines) == 601
    assert found.stderr.decode() == f"1 file could not be read: {folder / 'missing'}: No such file or directory\n"


def test_standard_input(folder: Path) -> None:
    """A dash is one message from standard input."""
    found = run(folder, "--json", "--from", "", "-", input=OOB)
    line = json.loads(found.stdout)
    assert (line["file"], line["disposition"], line["size"]) == ("-", "logged_and_dropped", len(OOB))


def test_many_reasons(folder: Path) -> None:
    """The table has the most frequent reasons, and a line for how many there are besides."""
    domains = "".join(f'["s{number}.example"]\nrelay_to = true\n' for number in range(25))
    (folder / "domains.toml").write_text(domains)
    (folder / "many").write_bytes(
        b"".join(MARK + SPAM % (n, n) + b"\n" for n in range(25)) + (MARK + SPAM % (0, 0) + b"\n") * 3
    )
    lines = run(folder, folder / "many").stdout.decode().splitlines()
    assert lines[4].split()[:2] == ["relayed", "4"]
    assert len(lines) == 25
    assert lines[-1] == "5 more messages, for 5 other reasons: --json has the reason of each."


def test_no_mail(folder: Path) -> None:
    """Where there is no mail, the totals say so, and it is no error."""
    (folder / "empty").mkdir()
    found = run(folder, folder / "empty")
    assert (found.returncode, found.stderr) == (0, b"")
    assert found.stdout.startswith(b"0 messages, 0 bytes in ")


def test_skipped_and_guessed(folder: Path) -> None:
    """A message without an envelope is skipped, and guessed ones are counted; neither is an error."""
    (folder / "none.eml").write_bytes(b"Subject: x\n\n")
    (folder / "guess.eml").write_bytes(b"From: a@b\nTo: x@bounce.example\n\n")
    found = run(folder, folder / "none.eml", folder / "guess.eml")
    assert found.returncode == 0
    assert b"1 envelope guessed from From and To: name them with --from and --to.\n" in found.stdout
    assert re.search(rb"(?m)^skipped +1  no header field has its recipient; name one with --to", found.stdout)


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ([], "Missing argument 'PATH...'."),
        (["--peer", "x\x1b", "-"], "'x\\x1b' does not appear to be an IPv4 or IPv6 address."),
        (["--listener", "10.0.0.1", "-"], "'10.0.0.1' has no port; a listener is IP:port, such as 127.0.0.1:25 or [::1]:25."),
        (["--from", "\udcff", "-"], "An argument is not UTF-8. Write it in UTF-8."),
    ],
)
def test_wrong_usage(folder: Path, arguments: list[str], error: str) -> None:
    """Wrong usage is one sentence and exit status 2."""
    found = run(folder, *arguments)
    assert found.returncode == 2
    assert found.stderr.decode().splitlines()[-1] == f"Error: {error}"


def test_rules_of_one_listener(folder: Path) -> None:
    """Where the answer may depend on the listener, and none is given, that is said."""
    (folder / "domains.toml").write_text('[listener."10.1.1.1:25"."bounce.example"]\nlog_oob = "LogThenDrop"\n')
    assert (
        b"Some rules apply only to one listener; without --listener, they are not used." in run(folder, folder / "mbox").stderr
    )
    found = run(folder, "--listener", "10.1.1.1:25", folder / "mbox")
    assert (found.stderr, found.stdout.count(b"logged and dropped")) == (b"", 1)


def test_names_are_escaped(folder: Path) -> None:
    """Names of files and text from outside cannot control the terminal."""
    (folder / "x\x1b[31m.eml").write_bytes(b"Delivered-To: a@b\x9b31m\nFrom: \x1b[31m@x\n\n")
    found = run(folder, folder / "x\x1b[31m.eml", folder / "gone\x1b[31m")
    assert b"\x1b" not in found.stdout + found.stderr
    assert b"gone\\u001b[31m: No such file" in found.stderr


def test_interrupt(folder: Path) -> None:
    """Ctrl-C ends all processes at once, and the totals so far are shown."""
    with start(folder, folder / "mbox", *[folder / "mbox"] * 70, "-") as program:
        workers = workers_of(program)
        os.killpg(program.pid, signal.SIGINT)
        out, error = program.communicate(timeout=120)
    assert program.returncode == 130
    assert error == b"Interrupted: the result is not complete.\n"
    assert b" messages, " in out
    assert all(map(is_gone, workers))


def test_a_killed_worker(folder: Path) -> None:
    """A worker that is killed, as where memory is short, ends the run with one sentence, the totals so far, and status 1."""
    with start(folder, "-") as program:
        (worker,) = workers_of(program)
        os.kill(worker, signal.SIGKILL)
        out, error = program.communicate(timeout=120)
    assert program.returncode == 1
    sentence = (
        "A worker process was killed, as the kernel does when memory is short. It was reading -, or a file soon after it.\n"
    )
    assert error.decode() == sentence
    assert out.startswith(b"0 messages, ")


def test_a_reader_that_has_seen_enough(full: Path) -> None:
    """`| head` ends all processes, quietly."""
    with start(full, "--json", full / "full") as program:
        assert program.stdout is not None
        assert program.stderr is not None
        assert json.loads(program.stdout.readline())["disposition"] == "logged_and_dropped"
        workers = children(program.pid)
        program.stdout.close()
        assert program.stderr.read() == b""
        program.wait(120)
    assert workers
    assert all(map(is_gone, workers))


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_no_orphans(full: Path, how: signal.Signals) -> None:
    """Workers end by themselves when the program is killed or terminated."""
    with start(full, "--json", full / "full") as program:
        assert program.stdout is not None
        assert program.stdout.readline()
        workers = children(program.pid)
        program.send_signal(how)
        program.wait(120)
    assert workers
    until(lambda: all(map(is_gone, workers)))


def test_a_full_disk(folder: Path) -> None:
    """Lines that cannot be written are one sentence and exit status 1."""
    with Path("/dev/full").open("wb") as disk:
        command = [*SIDECAR, "--json", "--config", str(folder / "sidecar.toml"), str(folder / "mbox")]
        found = preloaded.run(command, stdout=disk, stderr=subprocess.PIPE)
    assert (found.returncode, found.stderr) == (1, b"Error: The output cannot be written: No space left on device.\n")
