"""`sidecar explain --record`: records from wherever they are, in words, as JSON and as totals."""

import json
import os
import pty
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import zstandard
from click.testing import CliRunner, Result

from sidecar.cli import main
from tests import ROOT, preloaded
from tests.core.evaluate.recorded.samples import ours, record, rejection

DOMAINS = """\
["*"]
relay_to = false
log_oob = true
log_arf = true
"""
FRAGMENT = """\
"type": "Reception", "sender": "test@test.com", "recipient": "mmiihhww09@gmail.com", "peer_address": {"name":
"WIN-CLJ1B0GQ6JP", "addr": "91.92.251.215"}, "response": {"code": 250}, "queue": "default@gmail.com"
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the configuration of the project's question."""
    (tmp_path / "sidecar.toml").write_text(
        'relay_hosts = ["127.0.0.1", "192.168.1.0/24"]\nlistener_domains = ["listener_domains.toml"]\n'
    )
    (tmp_path / "listener_domains.toml").write_text(DOMAINS)
    return tmp_path


def lines(*made: dict[str, Any]) -> bytes:
    return b"".join(json.dumps(it).encode() + b"\n" for it in made)


def run(folder: Path, path: Path | str, *arguments: str, stdin: bytes | None = None) -> Result:
    config = str(folder / "sidecar.toml")
    return CliRunner().invoke(main, ["explain", "--config", config, "--record", str(path), *arguments], input=stdin)


def piped(folder: Path, *arguments: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    """Run the program as a shell does, with pipes."""
    command = [sys.executable, "-m", "sidecar", "explain", "--config", "sidecar.toml", "--record", *arguments]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return preloaded.run(command, cwd=folder, input=stdin, env=environment)


def test_the_question_of_the_project(folder: Path) -> None:
    """The fragment that people paste is answered with the reason and the lines to write."""
    (folder / "record.json").write_text(FRAGMENT)
    result = run(folder, folder / "record.json")
    assert result.exit_code == 0
    assert not result.stderr
    head, gist, *rest = result.stdout.splitlines()
    assert head.endswith("peer 91.92.251.215, from <test@test.com> to <mmiihhww09@gmail.com>: accepted with 250")
    assert gist.startswith("This configuration accepts the recipient, but only for reports")
    assert rest[0] == 'Decided by: listener_domains.toml:3 "*".log_oob; listener_domains.toml:4 "*".log_arf.'
    text = "\n".join(rest)
    for printed in (
        "the decision is deferred to RCPT",
        "does not mean that the message was relayed",
        "log_oob = false",
        "log_arf = false",
        '["bounce.example.com"]',
        "Then it is rejected at RCPT at the latest.",
    ):
        assert printed in text


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("as_folder", [False, True])
def test_logs(folder: Path, *, packed: bool, as_folder: bool) -> None:
    """A file and a folder of segments, plain and packed, give one object a record, in order."""
    text = lines(ours(id="1"), rejection("rcpt"), record("Delivery", id="3"))
    log = folder / "journal" / "20260702-185538.250000.jsonl"
    log.parent.mkdir()
    log.write_bytes(zstandard.compress(text) if packed else text)
    result = run(folder, log.parent if as_folder else log, "--json")
    assert result.exit_code == 0, result.output
    printed = [json.loads(line) for line in result.stdout.splitlines()]
    assert [(it["record"]["line"], it["happened"], it["undecided"]) for it in printed] == [
        (1, "accepted", "content_unknown"),
        (2, "rejected", "content_unknown"),
        (3, "outgoing", None),
    ]


@pytest.mark.parametrize(
    "text",
    [FRAGMENT.encode(), b"{" + FRAGMENT.encode() + b"}", json.dumps([record(), record()], indent=2).encode(), lines(record())],
)
def test_standard_input(folder: Path, text: bytes) -> None:
    """A log or a paste can come through a pipe."""
    done = piped(folder, "-", "--json", stdin=text)
    assert (done.returncode, done.stderr) == (0, b"")
    assert {json.loads(line)["undecided"] for line in done.stdout.splitlines()} == {"content_unknown"}


def test_ten_are_told_and_eleven_counted(folder: Path) -> None:
    """Few records are explained one by one; more are put together by rule, by peer and by domain."""
    log = folder / "log"
    log.write_bytes(lines(*[record(id=str(number)) for number in range(10)]))
    assert run(folder, log).stdout.count("This configuration ") == 10
    log.write_bytes(lines(*[record(id=str(number), recipient=f"x@{number}.example") for number in range(11)]))
    result = run(folder, log)
    assert result.exit_code == 0
    out = result.stdout
    assert out.startswith("11 answers to 11 messages recorded: 11 accepted, 0 rejected, 0 tempfailed; none can be compared")
    # No answer is tempfailed or differs, so these columns are left out.
    assert 'accepted if a report  listener_domains.toml:3 "*".log_oob        11         0\n' in out
    assert not {"tempfailed", "differ"} & {*out.partition("By rule")[2].split()}
    assert "203.0.113.9" in out
    assert out.rstrip().endswith("and 1 more")
    assert not [line for line in out.splitlines() if line != line.rstrip() and "example" not in line and "listener" not in line]


@pytest.mark.parametrize(
    ("made", "label"),
    [
        (ours("Feedback", meta={"disposition": "logged_and_relayed"}), "logged and relayed"),
        (ours(meta={"disposition": "logged_and_relayed"}), "logged and relayed"),
        (record("OOB", sender="b@bounce.example"), "logged and relayed"),
        (ours(meta={"disposition": "relayed"}), "accepted if a report"),
    ],
)
def test_reports_have_their_disposition(folder: Path, made: dict[str, Any], label: str) -> None:
    """A record that shows that its message was a report is counted as one: by its type, or by its disposition."""
    (folder / "log").write_bytes(lines(*[made | {"id": str(one)} for one in range(11)]))
    out = run(folder, folder / "log").stdout
    assert re.search(rf"(?m)^{label} +listener_domains\.toml:", out)


@pytest.mark.parametrize("many", [0, 20])
def test_lines_that_are_no_records(folder: Path, many: int) -> None:
    """A line that cannot be judged is shown with its place, does not stop the rest, and causes exit status 1."""
    log = folder / "log"
    bad = [b'{"type": 7}\n', b"no json \x1b[2J\n", lines(record(peer_address=None)), lines(record(peer="nobody"))]
    log.write_bytes(lines(ours()) + b"".join(bad) + lines(*[ours()] * many))
    result = run(folder, log)
    assert result.exit_code == 1
    assert "\x1b" not in result.output
    for number in (2, 3, 4, 5):
        assert f"{log}:{number} cannot be judged: " in result.stderr
    result = run(folder, log, "--json")
    assert result.exit_code == 1
    printed = [json.loads(line) for line in result.stdout.splitlines()]
    assert [it["record"]["line"] for it in printed if "error" in it] == [2, 3, 4, 5]
    assert len(printed) == 5 + many


def test_what_cannot_be_judged_leaves_no_blank_line(folder: Path) -> None:
    """Standard output has the answers, with one blank line between two, and nothing where there is none."""
    bad = b'{"type": 7}\n'
    (folder / "log").write_bytes(bad * 9)
    result = run(folder, folder / "log")
    assert result.stdout == ""
    assert result.stderr.count("cannot be judged") == 9
    (folder / "log").write_bytes(lines(ours()) + bad * 2 + lines(ours()) + bad)
    out = run(folder, folder / "log").stdout
    assert (out.count("\n\n"), out.count("\n\n\n"), out[0] == "\n") == (1, 0, False)


@pytest.mark.parametrize("broken", [b'{"type": "Rece\n', b'{"type":\n', b'"id": "1"}\n'])
def test_a_log_whose_first_line_is_broken(folder: Path, broken: bytes) -> None:
    """The broken line is named, and the others are judged."""
    log = folder / "log"
    log.write_bytes(broken + lines(ours(id="1"), ours(id="2")))
    result = run(folder, log)
    assert result.exit_code == 1
    assert result.stderr.startswith(f"{log}:1 cannot be judged: ")
    assert [line.partition(" ")[0] for line in result.stdout.splitlines() if line.startswith(str(log))] == [
        f"{log}:2",
        f"{log}:3",
    ]


@pytest.mark.parametrize(
    ("made", "printed"),
    [
        (
            [ours(id=str(number)) for number in range(9)] + [record(id="a"), record(id="b")],
            "; none of the 9 that can be compared would be decided otherwise under this configuration, 2 cannot be compared (",
        ),
        ([ours(id=str(number)) for number in range(12)], "; none would be decided otherwise under this configuration."),
        ([record(id=str(number)) for number in range(12)], "; none can be compared with this configuration ("),
    ],
)
def test_the_first_line_tells_what_cannot_be_compared(folder: Path, made: list[dict[str, Any]], printed: str) -> None:
    """That nothing would be decided otherwise is said of what can be compared only."""
    (folder / "log").write_bytes(lines(*made))
    assert printed in run(folder, folder / "log").stdout.partition("\n")[0]


def test_a_journal_of_reports(folder: Path) -> None:
    """A report's OOB record is no answer of its own."""
    reports = [
        make for number in range(8) for make in (ours(id=str(number)), ours("OOB", id=str(number), sender="x@a.example"))
    ]
    (folder / "log").write_bytes(lines(*reports, ours("Rejection", answer=(550, "relaying not permitted", "CONNECT"))))
    assert run(folder, folder / "log").stdout.startswith("9 answers to 9 messages recorded: 8 accepted, 1 rejected, ")


def test_many_faults_are_not_all_told(folder: Path) -> None:
    """Of a file that is no log at all a few lines are named, and the rest counted."""
    (folder / "log").write_bytes(b"not a record\n" * 5000)
    result = run(folder, folder / "log")
    assert result.exit_code == 1
    assert len(result.stderr.splitlines()) == 6
    assert "5,000 lines" in result.stderr


@pytest.mark.parametrize("text", [b"", b"\n\n", b"[]"])
def test_no_record_at_all(folder: Path, text: bytes) -> None:
    """A log without a record is bad news, and says so."""
    (folder / "log").write_bytes(text)
    result = run(folder, folder / "log")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "contains no record" in result.stderr
    assert run(folder, folder / "log", "--json").exit_code == 1


def test_text_of_strangers(folder: Path) -> None:
    """Nothing that a peer wrote reaches the terminal as it is."""
    (folder / "log").write_bytes(
        lines(
            record(sender="a\x1b[31m@x.test", recipient="b\u202e@y.test\nForged: line", meta={"why": "\x9b2J"}),
            record(id="\x1b]0;x\x07", recipient="c@\x85.test"),
        )
    )
    result = run(folder, folder / "log")
    assert result.exit_code == 0
    assert not {character for character in result.output if not character.isprintable()} - {"\n"}
    assert "\nForged" not in result.output


@pytest.mark.parametrize(
    "arguments", [["--peer", "203.0.113.9"], ["--to", "x@y.example"], ["--batch", "-"], ["--message", "sidecar.toml"]]
)
def test_wrong_usage(folder: Path, arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Records are the questions: another question beside them is wrong usage, as is a path that does not exist."""
    monkeypatch.chdir(folder)
    (folder / "log").write_bytes(lines(record()))
    assert run(folder, "log", *arguments).exit_code == 2
    assert run(folder, "absent").exit_code == 2


def test_a_folder_that_is_no_journal(folder: Path) -> None:
    """A folder without segments is named as what it is, in a sentence."""
    result = run(folder, folder)
    assert result.exit_code == 1
    assert "Traceback" not in result.output
    assert result.stderr.startswith("Error: ")


def test_a_long_paste(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is not one record a line and too long to be pasted is rejected with a word on what to do."""
    monkeypatch.setattr("sidecar.commands.explain.entries._PASTED_LIMIT", 100)
    (folder / "log").write_text(json.dumps([record()] * 9))
    result = run(folder, folder / "log")
    assert result.exit_code == 1
    assert "one on each line" in result.stderr


def test_a_paste_of_tiny_objects(folder: Path) -> None:
    """Five megabytes of objects that are no records are not looked at one by one: that would take long."""
    (folder / "log").write_bytes(b'{"a":\n1}\n' + b'{"a":1}\n' * 650_000)
    result = run(folder, folder / "log")
    assert result.exit_code == 1
    assert "one on each line" in result.stderr


def test_a_reader_that_has_seen_enough(folder: Path) -> None:
    """`| head` ends the program quietly."""
    (folder / "log").write_bytes(lines(*[ours()] * 20_000))
    command = f"{sys.executable} -m sidecar explain --config sidecar.toml --json --record log | head -n 1"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, shell=True, cwd=folder, capture_output=True, check=False, timeout=120, env=environment)  # noqa: S602 - a pipe is what it is about
    assert len(done.stdout.splitlines()) == 1
    assert done.stderr == b""


def test_a_pipe_gets_no_codes_and_whole_lines(folder: Path) -> None:
    """In a pipe there is no colour, no bar, and no line is cut; on a terminal NO_COLOR is honoured."""
    (folder / "log").write_bytes(
        lines(*[record(recipient=f"{'x' * 200}@{number}.example", id=str(number)) for number in range(3)])
    )
    done = piped(folder, "log")
    assert b"\x1b" not in done.stdout + done.stderr
    assert done.stdout.count(b"x" * 200 + b"@1.example") == 2
    assert b"\x1b[1m" in on_terminal(folder, {})
    assert not re.search(rb"\x1b\[[0-9;]*[34][0-9]", on_terminal(folder, {"NO_COLOR": "1"}))


def on_terminal(folder: Path, environment: dict[str, str], *more: str, status: int = 0) -> bytes:
    """Run it on a terminal of its own; give what stands there."""
    ours_end, its_end = pty.openpty()
    command = [sys.executable, "-m", "sidecar", "explain", "--config", "sidecar.toml", "--record", "log", *more]
    everything = {**os.environ, "TERM": "xterm", "PYTHONPATH": str(ROOT), **environment}
    for name in {"NO_COLOR", "FORCE_COLOR"} - environment.keys():
        everything.pop(name, None)
    with preloaded.popen(command, cwd=folder, stdout=its_end, stderr=subprocess.DEVNULL, env=everything) as running:
        os.close(its_end)
        shown = b""
        try:
            while piece := os.read(ours_end, 65536):
                shown += piece
        except OSError:
            pass  # Linux: the terminal's other end is closed
        finally:
            os.close(ours_end)
        assert running.wait(timeout=120) == status
    return shown


def test_rules_in_80_columns(folder: Path) -> None:
    """The usual rule of a bounce domain has room for whole words."""
    (folder / "listener_domains.toml").write_text('["bounce.example.com"]\nlog_oob = "LogThenDrop"\n')
    (folder / "log").write_bytes(lines(*[record(id=str(each), recipient="x@bounce.example.com") for each in range(11)]))
    words = on_terminal(folder, {"COLUMNS": "80", "NO_COLOR": "1"}).decode().partition("By rule")[2].split()
    assert {"listener_domains.toml:2", '"bounce.example.com".log_oob'} <= {*words}


def test_mail_over_http_has_no_decision(folder: Path) -> None:
    """The policy does not apply to it, so nothing says which rule decides, or how to reject it."""
    injected = record(peer_address={"name": "", "addr": "127.0.0.1"}, reception_protocol="HTTP")
    (folder / "log").write_bytes(lines(injected))
    words = run(folder, folder / "log").stdout.splitlines()
    assert words[1:] == ["The message did not arrive by SMTP. The listener policy does not apply to it."]
    found = json.loads(run(folder, folder / "log", "--json").stdout)
    assert (found["happened"], found["disposition"], found["decided"], found["fix"]) == ("accepted", None, [], None)
    (folder / "log").write_bytes(lines(*[injected | {"id": str(number)} for number in range(11)]))
    assert "none         not received by SMTP        11         0\n" in run(folder, folder / "log").stdout
