"""`sidecar tail` shows records as they are written."""

import json
import os
import pty
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import zstandard
from click.testing import CliRunner, Result

from sidecar.commands.tail.command import command
from sidecar.journal.write import Journal
from tests import preloaded

SIDECAR = [sys.executable, "-m", "sidecar", "tail"]
FIRST = "20260101-000000.000000.jsonl"


def record(number: int, **fields: Any) -> bytes:
    """Make the line of a record; its number is in the sender."""
    usual = {
        "type": "Rejection",
        "sender": f"s{number}@x.example",
        "recipient": "a@gmail.example",
        "response": {"code": 550, "content": "relaying not permitted"},
        "peer_address": {"name": "peer", "addr": "203.0.113.9"},
        "timestamp": 1767225600 + number,
        "event_time": f"2026-01-01T00:00:{number:02}Z",
        "meta": {"why": f"reason {number}"},
    }
    return json.dumps(usual | fields).encode() + b"\n"


LINE = "2026-01-01T00:00:{0:02}Z Rejection 550       203.0.113.9     s{0}@x.example -> a@gmail.example reason {0}\n"


def run(*arguments: str | Path, **options: Any) -> Result:
    return CliRunner().invoke(command, ["--no-follow", *map(str, arguments)], **options)


def write(folder: Path, *lines: bytes) -> Path:
    """Write a segment, and give the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / FIRST).write_bytes(b"".join(lines))
    return folder


def test_the_last_ten(tmp_path: Path) -> None:
    """Without a number the last ten records are shown, whole lines in a pipe."""
    done = run(write(tmp_path, *map(record, range(12))))
    assert done.output == "".join(LINE.format(number) for number in range(2, 12))
    assert done.exit_code == 0


@pytest.mark.parametrize(("number", "first"), [("0", 12), ("3", 9), ("99", 0), ("all", 0)])
def test_how_many(tmp_path: Path, number: str, first: int) -> None:
    """N records, or all."""
    done = run("-n", number, write(tmp_path, *map(record, range(12))))
    assert done.output == "".join(LINE.format(number) for number in range(first, 12))


@pytest.mark.parametrize(
    ("arguments", "shown"),
    [
        ([], [0, 1, 2]),
        (["--type", "oob"], [1]),
        (["--type", "oob", "--type", "Feedback"], [1, 2]),
        (["--peer", "198.51.100.0/24"], [1]),
        (["--domain", "*.example.com"], [2]),
        (["--reason", "REASON 1"], [1]),
        (["--type", "oob", "--reason", "reason 2"], []),
    ],
)
@pytest.mark.parametrize("number", ["10", "all"])
def test_filters(tmp_path: Path, arguments: list[str], shown: list[int], number: str) -> None:
    """What passes all of them is shown."""
    lines = [
        record(0),
        record(1, type="OOB", peer_address={"name": "x", "addr": "198.51.100.7"}),
        record(2, type="Feedback", recipient="fbl@in.example.com"),
    ]
    done = run("--json", "-n", number, *arguments, write(tmp_path, *lines))
    assert [json.loads(line)["sender"] for line in done.output.splitlines()] == [f"s{number}@x.example" for number in shown]


def test_json(tmp_path: Path) -> None:
    """Records pass as they were written, but for what a terminal could obey; what is none goes to standard error."""
    hostile = '{"type": "Reception",  "sender": "\x9b31m\u202e"}'.encode()
    done = run("--json", write(tmp_path, record(1), b"[]\n", hostile + b"\r\n", b'{"half'))
    assert done.stdout_bytes == record(1) + rb'{"type": "Reception",  "sender": "\u009b31m\u202e"}' + b"\n"
    names = [line.removeprefix(f"{tmp_path / FIRST}:") for line in done.stderr.splitlines()]
    assert names[0].startswith("2: it is no record: Expected `object`, got `array`")
    # Who writes it is not done yet, perhaps: without --no-follow it would be held back.
    assert names[1:] == ["4: the last line is not finished"]
    assert done.exit_code == 0


def test_standard_input() -> None:
    """All of what a pipe gives is shown, packed or not; or its last records."""
    lines = b"".join(map(record, range(12)))
    for content in (lines, zstandard.ZstdCompressor().compress(lines)):
        assert run("-", input=content).output == "".join(LINE.format(number) for number in range(12))
    assert run("-", "-n", "1", input=lines).output == LINE.format(11)
    assert run("-", "--type", "OOB", input=lines).output == ""


def test_settings_name_the_journal(tmp_path: Path) -> None:
    """Without a path the journal of the settings is read."""
    write(tmp_path / "journal", record(7))
    (tmp_path / "sidecar.toml").write_text(f'state_directory = "{tmp_path}"\n')
    assert run("--config", tmp_path / "sidecar.toml").output == LINE.format(7)


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (
            ["--config", "s.toml", "journal"],
            2,
            "Error: --config and PATH both name a log to read; write one of them.\n",
        ),
        (
            ["--json", "--full", "x"],
            2,
            "Error: --json prints whole records as they were written; remove --full and --local-time.\n",
        ),
        (["-n", "-1", "x"], 2, "Error: Invalid value for '-n' / '--lines': write a number, or all.\n"),
        (["--type", "Rejektion"], 2, "Error: There is no record type \"Rejektion\". Did you mean 'Rejection'?\n"),
        (["--peer", "10.0.0.1/8"], 2, 'Write "10.0.0.0/8" for the network or "10.0.0.1" for the one host.\n'),
        (
            ["nothing\x1b"],
            1,
            "Error: nothing\\u001b does not exist; write the path of a log, or remove --no-follow to wait for it.\n",
        ),
        (["x" * 300], 1, ": File name too long (ENAMETOOLONG); name a file or a journal directory that can.\n"),
        (["."], 1, "Error: There are no segments in .; name a folder with files such as 20261122-093000.123456.jsonl.\n"),
    ],
)
def test_errors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], status: int, message: str) -> None:
    """One sentence that says what to do."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "notes").touch()
    done = run(*arguments)
    assert done.stderr.endswith(message)
    assert done.exit_code == status


# --- following


class Output:
    """What a running `sidecar tail` has printed."""

    def __init__(self, process: subprocess.Popen[bytes], descriptor: int) -> None:
        self.process = process
        self._descriptor = descriptor
        self._text = b""
        os.set_blocking(descriptor, False)

    def until(self, condition: Callable[[bytes], bool]) -> bytes:
        """Wait for what must come, and give all that came."""
        deadline = time.monotonic() + 120
        while not condition(self._text):
            assert time.monotonic() < deadline, self._text
            try:
                self._text += os.read(self._descriptor, 1 << 20)
            except BlockingIOError:
                time.sleep(0.01)
        return self._text


@contextmanager
def following(*arguments: str | Path, terminal: bool = False, **environ: str) -> Iterator[Output]:
    """Run `sidecar tail`, its output into a pipe or onto a terminal of 80 columns; its errors with it."""
    read, write = pty.openpty() if terminal else os.pipe()
    settings = {"COLUMNS": "80", "TERM": "xterm", **environ} if terminal else environ
    with preloaded.popen(
        [*SIDECAR, *map(str, arguments)], stdout=write, stderr=write, stdin=subprocess.DEVNULL, env={**os.environ, **settings}
    ) as process:
        os.close(write)
        try:
            yield Output(process, read)
        finally:
            process.kill()
            os.close(read)


def test_what_real_journals_write_is_followed(tmp_path: Path) -> None:
    """From before the first segment on, through many of them: every record once, in order."""
    folder = tmp_path / "journal"
    with following("--json", folder) as output:
        output.until(lambda text: text == f"{folder} does not exist; waiting for it.\n".encode())
        journals = [Journal(folder, segment_size=700, segment_age=3600) for _ in range(2)]
        for number in range(40):
            journals[number % 2].write(record(number), durable=False)
        found = output.until(lambda text: text.count(b"\n") >= 41).splitlines(keepends=True)[1:]
        assert sorted(found) == sorted(map(record, range(40)))
        for journal in journals:
            journal.close()
    assert len(list(folder.iterdir())) > 10


def test_ctrl_c(tmp_path: Path) -> None:
    """It ends quietly, with the status that `tail -f` has."""
    with following(write(tmp_path, record(1))) as output:
        output.until(lambda text: text.endswith(b"\n"))
        output.process.send_signal(signal.SIGINT)
        assert output.process.wait(120) == 130
        assert output.until(bool) == LINE.format(1).encode()


def test_a_reader_that_has_seen_enough(tmp_path: Path) -> None:
    """`| head` ends it though nothing more is written, and without a word."""
    pipeline = f"{' '.join(SIDECAR)} {write(tmp_path, record(1))} 2>&1 | head -n 1"
    done = subprocess.run(["bash", "-c", pipeline], capture_output=True, timeout=120, check=False)
    assert done.stdout.decode() == LINE.format(1)
    assert done.stderr == b""


@pytest.mark.parametrize(("no_color", "red"), [("", b"\x1b[31mRejection"), ("1", b"Rejection")])
def test_a_terminal(tmp_path: Path, no_color: str, red: bytes) -> None:
    """It is in colour unless the operator wants none, no text of a peer controls it, and what is no record is named."""
    hostile = record(1, sender="a" * 300 + "@x.example", recipient="\x1b[2J@gmail.example", meta={"why": "\x1b[2J" * 99})
    with following(write(tmp_path, hostile, b"?\n"), terminal=True, **({"NO_COLOR": no_color} if no_color else {})) as output:
        text = output.until(lambda text: b":2: it is no record" in text and text.endswith(b"\n"))
    assert red in text
    assert b"\x1b[2J" not in text
    assert (b"\x1b[3" in text) is not bool(no_color)
    lines = re.sub(r"\x1b\[\d*m", "", text.decode()).splitlines()
    assert lines[0] == "01-01 00:00:01 Rejection 550       203.0.113.9"
    others = lines[1 : [":2: it is no record" in line for line in lines].index(True)]
    envelope = "a" * 300 + r"@x.example->\u001b[2J@gmail.example"
    assert "".join(others).replace(" ", "") == envelope + r"\u001b[2J" * 99
    assert all(line.startswith(" " * 9) and len(line) <= 80 for line in others)


LONG = "newsletter-2026-week-48-subscriber-00123@bounce.example.com"


@pytest.mark.parametrize(
    ("recipient", "why", "columns", "shown"),
    [
        (
            "a@gmail.example",
            "203.0.113.9 is not in relay_hosts, and no listener domain matches gmail.example, so that it is rejected",
            "80",
            """\
01-01 00:00:01 Rejection 550       203.0.113.9
         s1@x.example -> a@gmail.example
         203.0.113.9 is not in relay_hosts, and no listener domain matches
         gmail.example, so that it is rejected
""",
        ),
        (
            LONG,
            "not a report",
            "80",
            f"""\
01-01 00:00:01 Rejection 550       203.0.113.9
         s1@x.example ->
         {LONG}
         not a report
""",
        ),
        (
            LONG,
            "not a report",
            "100",
            f"""\
01-01 00:00:01 Rejection 550       203.0.113.9
         s1@x.example -> {LONG}
         not a report
""",
        ),
        (
            LONG,
            "not a report",
            "160",
            f"01-01 00:00:01 Rejection 550       203.0.113.9     s1@x.example -> {LONG} not a report\n",
        ),
        (
            "a@gmail.example",
            "not a report because",
            "40",
            """\
01-01 00:00:01 Rejection 550
         203.0.113.9
         s1@x.example -> a@gmail.example
         not a report because
""",
        ),
    ],
)
def test_lines_of_a_terminal(tmp_path: Path, recipient: str, why: str, columns: str, shown: str) -> None:
    """Addresses and reason are complete: in the first line, or each in lines of its own, wrapped between words."""
    folder = write(tmp_path, record(1, recipient=recipient, meta={"why": why}))
    with following(folder, terminal=True, NO_COLOR="1", COLUMNS=columns) as output:
        last = why.rsplit(maxsplit=1)[-1].encode()
        text = output.until(lambda text: last in text and text.endswith(b"\n"))
    lines = re.sub(r"\x1b\[\d*m", "", text.decode()).splitlines()
    assert lines == shown.splitlines()
    assert run(folder).output == LINE.format(1).replace("reason 1", why).replace("a@gmail.example", recipient, 1)


def test_full(tmp_path: Path) -> None:
    """With --full each record is a block, also in a pipe, where no line is wrapped."""
    meta = {"why": "because " * 20, "queue_id": "4QvJ1x", "dropped": ["b@x.example"]}
    folder = write(tmp_path, record(1, meta=meta), record(2))
    assert run("--full", "--queue-id", "4QvJ1x", folder).output.splitlines() == [
        "2026-01-01T00:00:01Z Rejection 550",
        f"  reason: {'because ' * 19}because",
        "  reply: relaying not permitted",
        "  peer: 203.0.113.9 (peer)",
        "  sender: s1@x.example",
        "  recipient: a@gmail.example",
        "  dropped: b@x.example",
        "  queue id: 4QvJ1x",
    ]


def test_idle_costs_next_to_nothing(tmp_path: Path) -> None:
    """A journal in which nothing happens takes less than a fiftieth of a processor's time."""
    with following(write(tmp_path, record(1))) as output:
        output.until(lambda text: text.endswith(b"\n"))
        before, begin = _processor_time(output.process.pid), time.monotonic()
        (tmp_path / "20260102-000000.000000.jsonl").write_bytes(record(2))
        output.until(lambda text: text.count(b"\n") == 2)
        while time.monotonic() < begin + 2:
            time.sleep(0.1)
        assert _processor_time(output.process.pid) - before < 0.02 * (time.monotonic() - begin) + 0.02


def _processor_time(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def test_files_that_are_passed_over_are_named(tmp_path: Path) -> None:
    """A file beside the segments is not read, and the commands that read folders say so in one sentence."""
    folder = write(tmp_path / "log", record(1))
    (folder / "plain.jsonl").write_bytes(record(2))
    settings = tmp_path / "sidecar.toml"
    settings.touch()
    commands: list[list[str | Path]] = [
        ["tail", "--no-follow", folder],
        ["stats", folder],
        ["diff", settings, settings, "--records", folder],
        ["explain", "--config", settings, "--record", folder],
    ]
    for arguments in commands:
        done = preloaded.run([*SIDECAR[:-1], *map(str, arguments)], text=True)
        warning = f"{folder}/plain.jsonl is not read, because its name is not that of a segment. To read it, name it as PATH.\n"
        assert done.stderr == warning, arguments
    (folder / "zzz").touch()
    assert "plain.jsonl and 1 other file are not read" in run(folder).stderr


def test_help_tells_of_waiting() -> None:
    """The help says that a path does not need to exist yet."""
    help_text = " ".join(CliRunner().invoke(command, ["--help"]).output.split())
    assert "PATH must exist; otherwise the command waits for it." in help_text
