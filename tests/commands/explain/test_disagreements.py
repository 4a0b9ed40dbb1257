"""`sidecar explain --record --disagreements`: what a log and a configuration do not agree on, once and followed."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import zstandard
from click.testing import CliRunner, Result

from sidecar.cli import main
from tests import ROOT, preloaded
from tests.commands.explain.test_record import lines, on_terminal
from tests.core.evaluate.recorded.samples import record, rejection
from tests.mta.processes import wait_until

DOMAINS = '["open.example"]\nrelay_to = true\n["bounce.example"]\nlog_oob = "LogThenDrop"\n'
ACCEPTED = record(recipient="x@closed.example")
REJECTED = rejection("RCPT TO:<x@open.example>")
ALIKE = record(id="3", recipient="x@open.example")
OUTGOING = record("Delivery", id="4")
LATER = rejection("RCPT TO:<x@open.example>", 451, "4.4.5 later")
UNKNOWN_USER = rejection("RCPT TO:<x@open.example>", 550, "5.1.1 user unknown")
OVER_HTTP = record(id="5", recipient="x@closed.example", reception_protocol="HTTP")
MAYBE = record(id="6", recipient="x@bounce.example")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "sidecar.toml").write_text('relay_hosts = ["127.0.0.1"]\nlistener_domains = ["listener_domains.toml"]\n')
    (tmp_path / "listener_domains.toml").write_text(DOMAINS)
    return tmp_path


def arguments(folder: Path, path: Path | str, *more: str) -> list[str]:
    return ["explain", "--config", str(folder / "sidecar.toml"), "--record", str(path), "--disagreements", *more]


def run(folder: Path, path: Path | str, *more: str, stdin: bytes | None = None) -> Result:
    return CliRunner().invoke(main, arguments(folder, path, *more), input=stdin)


PRINTED = """\
log:1 Reception, 2026-09-21T14:13:20.000000Z: peer 203.0.113.9, from <a@sender.test> to <x@closed.example>: accepted with 250
  This configuration rejects the recipient, because no listener domain matches closed.example; \
203.0.113.9 is not in relay_hosts (sidecar.toml:1 relay_hosts).
log:2 Rejection, 2026-09-21T14:13:20.000000Z: peer 203.0.113.9, from <a@sender.test> to <x@open.example>: rejected with \
550 relaying not permitted
  This configuration accepts the message, and relays it, because open.example accepts all mail from any host \
(listener_domains.toml:2 "open.example".relay_to).

3 answers compared; 2 would be decided otherwise: 1 accepted that this configuration rejects, \
1 rejected that it accepts.
Left out: 1 tempfailed, which is no decision of the policy; 1 rejected for another reason than the listener policy; \
1 not received by SMTP, so that the listener policy does not apply; 1 of which the record does not contain enough; \
1 of outgoing mail.

Disagreements by the rule that decides now, and what the log says
decided by                                       accepted  rejected
listener_domains.toml:2 "open.example".relay_to         0         1
no listener domain matches                              1         0
"""


def test_in_words(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each disagreement in two lines, what happened and what would now, by which rule; then totals, and what is left out."""
    monkeypatch.chdir(folder)
    (folder / "log").write_bytes(lines(ACCEPTED, REJECTED, ALIKE, OUTGOING, LATER, UNKNOWN_USER, OVER_HTTP, MAYBE))
    result = CliRunner().invoke(main, ["explain", "--config", "sidecar.toml", "--record", "log", "--disagreements"])
    assert (result.exit_code, result.stderr) == (1, "")
    assert result.stdout == PRINTED


def test_none(folder: Path) -> None:
    """A log that agrees is good news: exit status 0, and one sentence."""
    (folder / "log").write_bytes(lines(ALIKE))
    result = run(folder, folder / "log")
    assert (result.exit_code, result.output) == (0, "1 answer compared; none would be decided otherwise.\n")


def test_as_json(folder: Path) -> None:
    """Each disagreement in the shape that `explain --record --json` has, and at last the totals."""
    (folder / "log").write_bytes(lines(ACCEPTED, ALIKE, REJECTED, LATER))
    result = run(folder, folder / "log", "--json")
    assert result.exit_code == 1
    *printed, last = map(json.loads, result.stdout.splitlines())
    assert [(it["record"]["line"], it["happened"], it["agrees"]) for it in printed] == [
        (1, "accepted", False),
        (3, "rejected", False),
    ]
    assert printed[1]["decided"][0]["key"] == '"open.example".relay_to'
    assert last == {
        "totals": {
            "compared": 3,
            "same": 1,
            "would_reject": 1,
            "would_accept": 1,
            "left_out": {"tempfailed": 1},
            "outgoing": 0,
            "unreadable": 0,
        }
    }


def test_one_recipient_of_several(folder: Path) -> None:
    """The rejected one is named, with its own reason."""
    (folder / "log").write_bytes(lines(record(recipient=["x@open.example", "y\x1b@closed.example", "x@closed.example"])))
    printed = run(folder, folder / "log").stdout
    text = "This configuration rejects <y\\u001b@closed.example> among the recipients, because the recipient's address has"
    assert text in printed
    (folder / "log").write_bytes(lines(record(recipient=["x@open.example", "x@closed.example"])))
    first, _ = map(json.loads, run(folder, folder / "log", "--json").stdout.splitlines())
    assert first["decided"][0]["text"] == "no listener domain matches closed.example"


def test_a_folder_with_a_file_for_each_type(folder: Path) -> None:
    """KumoMTA may write each type of record into a folder of its own: what belongs together is found by time."""
    logs = folder / "logs"
    for name, made in (
        ("reception", record(recipient="x@bounce.example", session_id="s")),
        ("rejection", rejection("end", session_id="s")),
    ):
        (logs / name).mkdir(parents=True)
        (logs / name / "20260921-141320").write_bytes(zstandard.compress(lines(made)))
    result = run(folder, logs)
    assert (result.exit_code, result.output) == (0, "1 answer compared; none would be decided otherwise.\n")


def test_a_log_that_is_being_written(folder: Path, logs: Path) -> None:
    """The open end of a live segment is nothing to worry about; one that is finished and breaks off is damaged."""
    frame = zstandard.ZstdCompressor().compressobj()
    live = logs / "20260921-141320"
    live.write_bytes(frame.compress(lines(ALIKE)) + frame.flush(zstandard.COMPRESSOBJ_FLUSH_BLOCK))
    (logs / "20260921-141330").write_bytes(lines(ALIKE) + b'{"type":')
    result = run(folder, logs)
    assert (result.exit_code, result.output) == (0, "2 answers compared; none would be decided otherwise.\n")
    explained = CliRunner().invoke(main, [it for it in arguments(folder, logs) if it != "--disagreements"])
    assert (explained.exit_code, explained.stderr) == (0, "")
    live.chmod(0o440)
    assert run(folder, logs).exit_code == 1
    assert "breaks off" in run(folder, logs).stderr


def test_lines_that_are_no_records(folder: Path) -> None:
    """They are shown with their place, are left out, and cause exit status 1; only the first few are shown."""
    (folder / "log").write_bytes(lines(ALIKE) + b"no record \x1b[2J\n" * 9)
    result = run(folder, folder / "log")
    assert result.exit_code == 1
    assert "Left out: 9 lines that cannot be read." in result.stdout
    assert len(result.stderr.splitlines()) == 5
    assert "\x1b" not in result.output


@pytest.mark.parametrize("text", [b"", b"\n"])
def test_no_record_at_all(folder: Path, text: bytes) -> None:
    """A log without a record proves nothing, and that is bad news."""
    (folder / "log").write_bytes(text)
    result = run(folder, folder / "log")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "contains no record" in result.stderr


@pytest.mark.parametrize(
    "wrong",
    [["--disagreements"], ["--record", "log", "--follow"], ["--record", "-", "--disagreements", "--follow"], ["--follow"]],
)
def test_wrong_usage(folder: Path, wrong: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Without records there is nothing to compare, and standard input cannot be followed."""
    monkeypatch.chdir(folder)
    (folder / "log").write_bytes(b"")
    assert CliRunner().invoke(main, ["explain", "--config", "sidecar.toml", *wrong]).exit_code == 2


def test_standard_input(folder: Path) -> None:
    """A log can come through a pipe."""
    assert run(folder, "-", stdin=lines(ACCEPTED)).exit_code == 1


def test_text_of_strangers(folder: Path) -> None:
    """Nothing that a peer wrote reaches the terminal as it is."""
    (folder / "log").write_bytes(lines(record(sender="a\x1b[31m@x.test", recipient="b\u202e@y.test\nForged: line")))
    result = run(folder, folder / "log")
    assert not {character for character in result.output if not character.isprintable()} - {"\n"}
    assert "\nForged" not in result.output
    assert json.loads(run(folder, folder / "log", "--json").stdout.splitlines()[0])


def test_a_file_whose_name_is_no_text(folder: Path, logs: Path) -> None:
    """A disagreement in a file with any bytes in its name is shown, also in JSON."""
    (logs / os.fsdecode(b"20260921-141320\xff")).write_bytes(lines(ACCEPTED))
    first, _ = map(json.loads, run(folder, logs, "--json").stdout.splitlines())
    assert first["record"]["file"].endswith("20260921-141320\ufffd")
    assert "20260921-141320\ufffd:1 Reception" in run(folder, logs).stdout


def test_on_a_terminal(folder: Path) -> None:
    """What happened is bold; NO_COLOR is honoured, and a pipe gets no codes."""
    (folder / "log").write_bytes(lines(ACCEPTED))
    assert b"\x1b[1m" in on_terminal(folder, {}, "--disagreements", status=1)
    assert b"\x1b" not in run(folder, folder / "log").stdout_bytes


class Following:
    """The command at work on a log that grows."""

    def __init__(self, folder: Path, log: Path, *more: str) -> None:
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
        command = [sys.executable, "-m", "sidecar", *arguments(folder, log, "--follow", *more)]
        self.shown = folder / "shown"
        with self.shown.open("wb") as out:
            self.process = preloaded.popen(command, stdout=out, stderr=subprocess.STDOUT, env=environment)

    def sees(self, text: str) -> None:
        """Wait until a text is shown."""
        wait_until(lambda: text in self.shown.read_text(), f"{text} is printed")

    def end(self) -> str:
        """Press Ctrl-C; return everything that was shown."""
        self.process.send_signal(signal.SIGINT)
        assert self.process.wait(timeout=120) == 130
        return self.shown.read_text()


@pytest.fixture
def logs(folder: Path) -> Path:
    path = folder / "logs"
    path.mkdir()
    return path


def append(path: Path, *made: dict[str, Any]) -> None:
    with path.open("ab") as file:
        file.write(lines(*made))


def test_following(folder: Path, logs: Path) -> None:
    """Old and new records are shown at once, over a change of segments; Ctrl-C ends it with the totals."""
    append(logs / "20260921-141320", REJECTED, ALIKE)
    following = Following(folder, logs)
    following.sees("141320:1 Rejection")
    append(logs / "20260921-141320", REJECTED)
    following.sees("141320:3 Rejection")
    append(logs / "20260921-141330", REJECTED)
    following.sees("141330:1 Rejection")
    printed = following.end()
    assert "Traceback" not in printed
    assert "4 answers compared; 3 would be decided otherwise" in printed


def test_following_waits_for_what_belongs_together(folder: Path, logs: Path) -> None:
    """A Reception of KumoMTA's is shown when the log has grown for a while without a Rejection, and never with one."""
    following = Following(folder, logs, "--json")
    append(logs / "1", record(id="1", recipient="x@closed.example", session_id="s"))
    append(logs / "20260921-141320", record(id="1", recipient="x@closed.example", session_id="s", timestamp=100))
    append(logs / "20260921-141320", rejection("end", session_id="s", timestamp=100))
    append(logs / "20260921-141320", record(id="2", recipient="y@closed.example", session_id="t", timestamp=101))
    append(logs / "20260921-141320", record(id="3", recipient="x@open.example", session_id="u", timestamp=120))
    following.sees("y@closed.example")
    *printed, last = map(json.loads, following.end().splitlines())
    assert [it["record"]["to"] for it in printed] == [["y@closed.example"]]
    assert last["totals"]["would_reject"] == 1


def test_a_reader_that_has_seen_enough(folder: Path, logs: Path) -> None:
    """`| head` ends the following quietly."""
    append(logs / "20260921-141320", *[REJECTED] * 5000)
    command = [sys.executable, "-m", "sidecar", *arguments(folder, logs, "--follow")]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with preloaded.popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment) as process:
        assert process.stdout
        assert process.stderr
        process.stdout.readline()
        process.stdout.close()
        assert process.wait(timeout=120) == 1
        assert process.stderr.read() == b""
