"""`sidecar stats`, as an operator calls it."""

import fcntl
import json
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from sidecar.commands.stats.collector import Collector
from sidecar.commands.stats.command import _whole_records, command
from sidecar.core.records import Logged, decode
from sidecar.journal.write import Journal
from tests import ROOT, preloaded

NOON = 1_795_348_800  # 2026-11-22T12:00:00Z
SIDECAR = [sys.executable, "-m", "sidecar", "stats"]


def record(kind: str = "Rejection", **fields: Any) -> bytes:
    whole = {
        "type": kind,
        "recipient": "x@gmail.example",
        "timestamp": NOON,
        "response": {"code": 550, "content": "relaying not permitted for 203.0.113.9:4444"},
        "peer_address": {"name": "WIN-CLJ1B0GQ6JP", "addr": "203.0.113.9"},
        "meta": {
            "why": "no listener domain matches gmail.example; 203.0.113.9 is not in relay_hosts (sidecar.toml:1 relay_hosts)"
        },
    }
    return json.dumps(whole | fields).encode() + b"\n"


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """Write an hour of records, one a minute, with an OOB and a Feedback among them."""
    path = tmp_path / "log.jsonl"
    lines = [record(timestamp=NOON + 60 * minute) for minute in range(60)]
    lines.append(record("OOB", created=NOON + 60, bounce_classification="InvalidRecipient"))
    lines.append(record("Feedback", feedback_report={"feedback_type": "abuse", "user_agent": "Looper/1.0"}, size=1200))
    path.write_bytes(b"".join(lines))
    return path


def run(*arguments: object, stdin: bytes = b"") -> tuple[int, str, str]:
    result = CliRunner().invoke(command, list(map(str, arguments)), input=stdin)
    return result.exit_code, result.stdout, result.stderr


def on_terminal(*arguments: object, columns: int, **environment: str) -> str:
    """Run it on a terminal of so many columns, and give what it wrote there."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))
    variables = {"PATH": os.environ["PATH"], "TERM": "xterm-256color", "PYTHONPATH": str(ROOT), "LANG": "C.UTF-8"} | environment
    with preloaded.popen([*SIDECAR, *map(str, arguments)], stdin=slave, stdout=slave, stderr=slave, env=variables) as program:
        os.close(slave)
        written = b""
        while True:
            try:
                written += os.read(master, 65536)
            except OSError:  # the other end is closed
                break
        os.close(master)
        assert program.wait() == 0
    return written.decode().replace("\r\n", "\n")


def test_words(log: Path) -> None:
    """In a pipe there are plain lines: what, how many, why, from which peers, for which domains, and when."""
    status, words, errors = run(log)
    assert (status, errors) == (0, "")
    lines = words.splitlines()
    assert lines[0] == "62 records, 1 message, 2026-11-22 12:00:00 to 2026-11-22 12:59:00 UTC, 1.1 KiB received"
    assert re.fullmatch(r"type +count +in 30 seconds, over time +most +at", lines[2])
    assert re.fullmatch(r"Rejection +60 +█[█ ]+ +1 +11-22 12:00:00", lines[3])
    for line in (
        "60  96.8 %  Rejection  no listener domain matches <domain>; <ip> is not in relay_hosts",
        "                       (sidecar.toml:1 relay_hosts)",
        " 1   1.6 %  OOB        550 relaying not permitted for <ip>",
        "62  100.0 %  203.0.113.9",
        "61  100.0 %  gmail.example",
        "1  100.0 %  InvalidRecipient",
        "1  50.0 %  Looper/1.0",
        "1  100.0 %  abuse",
    ):
        assert line in lines
    assert "\x1b" not in words
    assert max(map(len, lines)) <= 100
    assert not any(line.endswith(" ") for line in lines)


def test_a_long_reason_in_a_pipe(tmp_path: Path) -> None:
    """Nothing of it is lost: its lines have at most 100 columns, and end between words."""
    why = "; ".join(f'no entry has "{name * 9}", and nothing matches (a.toml:3 "{name * 9}")' for name in "abcdefghijk")
    (tmp_path / "log").write_bytes(record(meta={"why": why}))
    words = run(tmp_path / "log")[1]
    assert max(map(len, words.splitlines())) <= 100
    assert why in " ".join(words.split())


def test_json(log: Path) -> None:
    """For machines there is one JSON object with the same figures, in which no external text can control a terminal."""
    evil = record("OOB", peer_address={"name": "\x9b31m\u202e\u2028mx", "addr": "::1"}, created=NOON)
    status, printed, _ = run("--json", log, "-", stdin=evil)
    assert status == 0
    assert printed.isascii()
    assert printed.count("\n") == 1
    figures = json.loads(printed)
    assert (figures["records"], figures["types"]["top"][0]) == (63, {"name": "Rejection", "count": 60})
    assert {"name": "\x9b31m\u202e\u2028mx", "count": 1} in figures["reporting_mtas"]["top"]
    assert figures["timeline"]["seconds"] == 30
    assert sum(figures["timeline"]["series"]["OOB"]) == 2


@pytest.mark.parametrize(
    ("options", "count"),
    [
        (["--since", "2026-11-22T12:30"], 30),
        (["--until", "2026-11-22T12:30"], 32),
        (["--since", "2026-11-22T13:10+01:00", "--until", "2026-11-22T13:20:30+01:00"], 11),
        (["--since", "2026-11-22", "--until", "2026-11-23"], 62),
    ],
)
def test_range(options: list[str], count: int, log: Path) -> None:
    """Only the records of the range count; a time is UTC, unless it has another offset."""
    status, printed, _ = run("--json", *options, log)
    assert (status, json.loads(printed)["records"]) == (0, count)


@pytest.mark.parametrize("options", [[], ["--json"]])
def test_nothing_in_the_range(options: list[str], log: Path) -> None:
    """An empty range is said in one sentence, with what the log has; files that were not even opened are looked at for that."""
    os.utime(log, (NOON, NOON))
    folder = log.parent / "journal"
    folder.mkdir()
    log.rename(folder / "20261122-120000.000000.jsonl")
    status, printed, _ = run(*options, "--since", "2026-11-23", folder)
    assert status == 0
    if options:
        figures = json.loads(printed)
        assert (figures["records"], figures["log_first"]) == (0, "2026-11-22T12:00:00Z")
    else:
        assert printed == (
            "There are no records from 2026-11-23 00:00:00 UTC; "
            "the log has records from 2026-11-22 12:00:00 to 2026-11-22 12:59:00 UTC.\n"
        )


def test_the_journal_of_the_settings(tmp_path: Path) -> None:
    """Without a PATH it is the journal that the settings name; one that holds nothing is no error."""
    settings = tmp_path / "sidecar.toml"
    settings.write_text(f'state_directory = "{tmp_path}/state"\n[journal]\ndirectory = "{tmp_path}/journal"\n')
    journal = Journal(tmp_path / "journal", segment_size=10**6, segment_age=10**6)
    (tmp_path / "journal").mkdir()
    status, words, _ = run("--config", settings)
    assert (status, words) == (0, "There are no records in the log.\n")
    journal.write(record() * 3, durable=False)
    assert run("--config", settings)[1].startswith("3 records, ")
    journal.close()


def test_lines_that_are_no_records(log: Path) -> None:
    """The first line that cannot be read is reported; the rest counts. A line that is being written is not there yet."""
    with log.open("ab") as file:
        file.write(b'{"type": 7}\nno json \x1b[31m\n' + record() + b'{"type": "Rec')
    status, words, errors = run(log)
    assert status == 0
    assert words.startswith("63 records, ")
    assert errors.startswith(f"Some lines are no records; the first is {log}:63: ")
    assert json.loads(run("--json", log)[1])["unreadable"] == 2


@pytest.mark.parametrize(
    ("arguments", "status", "sentence"),
    [
        (["--since", "soon"], 2, "'soon' is no time; write one such as 2026-11-22, "),
        (["--since", "\x1b[31m"], 2, r"'\x1b[31m' is no time"),
        (["--since", "2026-11-22", "--until", "2026-11-21"], 2, "--since, 2026-11-22T00:00:00Z, is not before --until, "),
        (["--config", "sidecar.toml", "log.jsonl"], 2, "--config and PATH both name logs to read; write one of them."),
        (["missing\x1b[31m.jsonl"], 1, r"missing\u001b[31m.jsonl: No such file or directory (ENOENT); name a file"),
        (["--config", "missing.toml"], 1, "missing.toml"),
    ],
)
def test_wrong(arguments: list[str], status: int, sentence: str) -> None:
    """What is wrong is one sentence that says what to do instead; wrong usage is status 2, what cannot be read 1."""
    found, words, errors = run(*arguments)
    assert (found, words) == (status, "")
    assert sentence in errors
    assert "\x1b" not in errors


def test_page_and_picture(log: Path, tmp_path: Path) -> None:
    """The page and the picture are written whole, beside the words, with the mode that the umask leaves; nothing else stays."""
    out = tmp_path / "out"
    out.mkdir()
    (out / "new.html").symlink_to("old.html")
    (out / "old.html").write_text("old")
    status, words, errors = run("--html", out / "new.html", "--png", out / "a.png", log)
    assert (status, errors) == (0, "")
    assert words.startswith("62 records")
    assert (out / "new.html").is_symlink()
    assert (out / "old.html").read_text().startswith("<!DOCTYPE html>")
    assert (out / "a.png").read_bytes().startswith(b"\x89PNG")
    assert sorted(path.name for path in out.iterdir()) == ["a.png", "new.html", "old.html"]


@pytest.fixture
def quick_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Draw nothing: the test is about the file, and a picture takes 0.3 seconds."""
    monkeypatch.setattr("sidecar.commands.stats.plots.timeline_svg", lambda *_, **__: b"<svg/>")


@pytest.mark.usefixtures("quick_pictures")
def test_page_that_cannot_be_written(log: Path, tmp_path: Path) -> None:
    """A page that cannot be written leaves no half of it behind, and is one sentence."""
    status, _, errors = run("--html", tmp_path / "none" / "a.html", log)
    assert status == 1
    assert "a.html cannot be written: No such file or directory. Name a file in a folder that this user can write to." in errors


@pytest.mark.usefixtures("quick_pictures")
def test_a_device_is_not_replaced(log: Path) -> None:
    """What is no file, such as /dev/null, is written to, and stays what it is."""
    assert run("--html", "/dev/null", log)[0] == 0
    assert Path("/dev/null").is_char_device()


def test_page_of_nothing(log: Path, tmp_path: Path) -> None:
    """A script that asks for the page of an empty range gets one that says so."""
    status, _, errors = run("--until", "2020-01-01", "--html", tmp_path / "a.html", "--png", tmp_path / "a.png", log)
    assert (status, errors) == (0, "")
    assert "There are no records until 2020-01-01 00:00:00 UTC" in (tmp_path / "a.html").read_text()


def test_without_matplotlib(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where matplotlib is not installed, that is said before anything is read, with what to install; tables need none."""
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.delitem(sys.modules, "sidecar.commands.stats.plots", raising=False)
    status, words, errors = run("--html", "a.html", log)
    assert (status, words) == (1, "")
    assert "Install sidecar[plots] (with the Debian package: python3-matplotlib), or remove --html and --png." in errors
    assert run(log)[0] == 0


def test_no_plots_unless_asked(log: Path) -> None:
    """Who wants no picture does not wait for the library that draws it."""
    code = f"import sys; from sidecar.commands.stats.command import command; command([{str(log)!r}], standalone_mode=False)"
    code = f"try:\n {code.replace('; ', chr(10) + ' ')}\nexcept SystemExit:\n assert 'matplotlib' not in sys.modules\n"
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL, env={"PYTHONPATH": str(ROOT)})


@pytest.mark.parametrize("columns", [80, 120])
@pytest.mark.parametrize("environment", [{}, {"NO_COLOR": "1"}], ids=["colour", "plain"])
def test_terminal(columns: int, environment: Mapping[str, str], log: Path) -> None:
    """On a terminal no line is wider than it is, no number and no time is folded; colours only where they are wanted."""
    written = on_terminal(log, columns=columns, **environment)
    assert ("\x1b[3" in written) == (not environment)
    lines = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", written).split("\n")
    assert max(map(len, lines)) <= columns
    assert any(re.match(r"Rejection +60 +[█▄ ]+ +\d+ +11-22 12:\d\d:\d\d", line) for line in lines)
    assert any("InvalidRecipient" in line for line in lines)
    assert any("Peers" in line and "Recipient domains" in line for line in lines) == (columns == 120)


def test_another_character_set(tmp_path: Path) -> None:
    """A terminal that has neither bars nor the letters of a name gets others instead."""
    (tmp_path / "log").write_bytes(record(peer_address={"name": "é", "addr": "日本"}))
    program = preloaded.run(
        [*SIDECAR, str(tmp_path / "log")],
        check=True,
        env={"PYTHONIOENCODING": "ascii", "PYTHONPATH": str(ROOT)},
    )
    assert b"\\u65e5\\u672c" in program.stdout
    assert b" @ " in program.stdout


def test_a_reader_that_has_seen_enough(tmp_path: Path) -> None:
    """`| head` ends it without a word."""
    (tmp_path / "log").write_bytes(b"".join(record(bounce_classification=f"{number}" * 50) for number in range(500)))
    with preloaded.popen(
        [*SIDECAR, "--json", str(tmp_path / "log")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={"PYTHONPATH": str(ROOT)},
    ) as program:
        assert program.stdout is not None
        assert program.stderr is not None
        program.stdout.close()
        assert program.stderr.read() == b""


def test_a_reader_that_has_seen_enough_gets_the_files(log: Path, tmp_path: Path) -> None:
    """The page and the picture are written, whoever reads what is printed: `| head` does not keep them away."""
    page, picture = tmp_path / "a.html", tmp_path / "a.png"
    with preloaded.popen(
        [*SIDECAR, "--html", str(page), "--png", str(picture), str(log)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={"PYTHONPATH": str(ROOT)},
    ) as program:
        assert program.stdout is not None
        assert program.stderr is not None
        program.stdout.close()
        assert program.stderr.read() == b""
    assert page.exists()
    assert picture.exists()


def test_an_interrupt_in_the_middle_of_a_record() -> None:
    """The record is counted whole, then the interrupt is raised."""

    class Slow(Collector):
        def add(self, record: Logged) -> None:
            signal.raise_signal(signal.SIGINT)
            super().add(record)

    collector = Slow(None, None)
    with pytest.raises(KeyboardInterrupt), _whole_records(collector) as add:
        add(decode(record()))
    assert collector.summary().records == 1
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_interrupted(tmp_path: Path) -> None:
    """Ctrl-C ends the reading: what was counted is shown, said not to be the whole, and not put into files."""
    page = tmp_path / "a.html"
    with preloaded.popen(
        [*SIDECAR, "--html", str(page), "-"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={"PYTHONPATH": str(ROOT)},
    ) as program:
        assert program.stdin is not None
        assert program.stdout is not None
        assert program.stderr is not None
        # More than a pipe and a buffer hold: once it is written, the program is reading.
        program.stdin.write(record() * 4000)
        program.stdin.flush()
        program.send_signal(signal.SIGINT)
        words, errors = program.stdout.read(), program.stderr.read()
    assert program.returncode == 130
    assert re.match(rb"[\d,]+ records, 2026-11-22 12:00:00", words)
    assert errors == b"Interrupted: the figures are incomplete, and no file was written.\n"
    assert not page.exists()
