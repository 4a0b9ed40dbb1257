"""`sidecar diff`: two configurations and recorded envelopes, in words and in JSON."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from sidecar.cli import main
from tests import preloaded

SIDECAR = [sys.executable, "-m", "sidecar"]

OLD = '["*.example.com"]\nlog_oob = true\n["same.example.org"]\nlog_arf = true\n'
NEW = OLD + 'relay_to = true\n["a.b.example.com"]\nlog_oob = true\n'


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with two configurations, `old` and `new`, and a log."""
    for name, domains in {"old": OLD, "new": NEW}.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "domains.toml").write_text(domains)
        (tmp_path / name / "sidecar.toml").write_text('relay_hosts = ["::1"]\nlistener_domains = "domains.toml"\n')
    (tmp_path / "log.jsonl").write_bytes(
        b"".join(
            [
                record("x@same.example.org"),
                record("x@same.example.org"),
                record("x@b.example.com"),
                record("x@example.net"),
                b"no record\n",
                record("x@example.net", type="Delivery"),
            ]
        )
    )
    return tmp_path


def record(recipient: str, type: str = "Rejection", sender: str = "s@b.example") -> bytes:  # noqa: A002 - the field's name
    made = {
        "type": type,
        "id": "",
        "sender": sender,
        "recipient": recipient,
        "peer_address": {"name": "h", "addr": "203.0.113.9"},
        "event_time": "2026-08-01T12:00:00Z",
    }
    return json.dumps(made).encode() + b"\n"


def run(folder: Path, *arguments: str, old: str = "old", new: str = "new", stdin: bytes | None = None) -> Result:
    files = (str(folder / old / "sidecar.toml"), str(folder / new / "sidecar.toml"))
    return CliRunner().invoke(main, ["diff", *files, *arguments], input=stdin)


def told(result: Result) -> dict[str, Any]:
    answer: dict[str, Any] = json.loads(result.stdout)
    return answer


def test_words(folder: Path) -> None:
    """The gist comes first, then what opens with its danger, then what closes and why, each with file and line."""
    result = run(folder)
    since = 'because "a.b.example.com" was added (/new/domains.toml:6)'
    assert result.stdout.replace(str(folder), "").splitlines() == [
        "2 rules change: 1 opens, 1 neither opens nor closes.",
        "DANGER: 1 change permits something to most of the internet.",
        "",
        "Opens (1)",
        '  /new/domains.toml:5: "same.example.org".relay_to: false -> true (was /old/domains.toml:3)',
        "      DANGER: every host can relay to same.example.org.",
        "",
        "Closes (2)",
        '  /old/domains.toml:1: *.a.b.example.com: finds nothing, found "*.example.com" before',
        f"      bounce reports to *.a.b.example.com are no longer accepted from external hosts, {since}.",
        '  /old/domains.toml:1: b.example.com and *.b.example.com: finds nothing, found "*.example.com" before',
        f"      bounce reports to b.example.com are no longer accepted from external hosts, {since}.",
        "",
        "Neither opens nor closes (1)",
        '  /new/domains.toml:6: "a.b.example.com" (entry added)',
        '      no effect for a.b.example.com: "*.example.com" permitted the same.',
    ]
    assert result.exit_code == 1


def test_verdicts_in_words(folder: Path) -> None:
    """Recorded envelopes are told by what would become of them, by which rule, with peers, domains and an example."""
    result = run(folder, "--records", str(folder / "log.jsonl"))
    lines = result.stdout.replace(str(folder), "").splitlines()
    assert lines[0] == (
        "2 rules change: 1 opens, 1 neither opens nor closes; "
        "of 4 recorded envelopes 3 have another decision: 2 newly accepted, 1 newly rejected."
    )
    start = lines.index("Other decisions")
    example = "203.0.113.9 from <s@b.example> to <x@same.example.org>"
    assert lines[start + 1 : start + 6] == [
        "  2  accepted if a report -> relayed",
        '      now by /new/domains.toml:5 "same.example.org".relay_to',
        '      before by /old/domains.toml:4 "same.example.org".log_arf',
        "      peers 203.0.113.9 (2); to same.example.org (2)",
        f"      such as 2026-08-01T12:00:00Z, {example}: same.example.org accepts all mail from any host",
    ]
    assert lines[-2:] == ["Not compared, because they did not arrive by SMTP: Delivery (1).", "1 line is no record."]


def test_json(folder: Path) -> None:
    """For machines there is one object with all changes and verdicts in their parts."""
    result = run(folder, "--json", "--records", str(folder / "log.jsonl"))
    answer = told(result)
    assert list(answer) == ["old", "new", "rules", "dangers", "changes", "verdicts"]
    assert (answer["rules"], answer["dangers"]) == ({"opens": 1, "closes": 0, "neither": 1}, 1)
    assert list(answer["changes"][0]) == ["kind", "action", "effect", "danger", "listener", "key", "old", "new", "text"]
    assert answer["changes"][0]["new"] == {"value": True, "file": str(folder / "new" / "domains.toml"), "line": 5}
    assert list(answer["verdicts"]) == [
        "records", "unreadable", "passed_over", "envelopes", "unknown_listener", "differ", "newly_accepted", "newly_rejected",
        "delivery_changed", "rejected_elsewhere", "groups",
    ]  # fmt: skip
    assert list(answer["verdicts"]["groups"][0]) == [
        "effect", "what", "old_disposition", "new_disposition", "undecided", "count", "old_rule", "new_rule", "peers",
        "domains", "example",
    ]  # fmt: skip
    assert result.exit_code == 1


def test_no_difference(folder: Path) -> None:
    """The same rules, wherever and in whatever order they stand: one line, and exit status 0."""
    (folder / "new" / "domains.toml").write_text(
        '["same.example.org"]\nlog_arf = true\n# more\n["*.Example.com"]\nlog_oob = true\n'
    )
    result = run(folder)
    assert (result.output, result.exit_code) == ("No rule changes.\n", 0)
    result = run(folder, "--records", "-", stdin=record("x@a.example.com"))
    assert result.output == "No rule changes; of 1 recorded envelope none has another decision.\n"
    assert result.exit_code == 0
    assert told(run(folder, "--json"))["verdicts"] is None


@pytest.mark.parametrize("side", ["old", "new"])
def test_settings_with_errors(folder: Path, side: str) -> None:
    """Settings with errors are trouble, told from a difference by exit status 2; every error is printed."""
    (folder / side / "domains.toml").write_text('["x"]\nrelay_to = 3\nlog_oob = 4\n')
    result = run(folder)
    assert (result.exit_code, result.stdout) == (2, "")
    assert len(result.stderr.splitlines()) == 3
    assert result.stderr.endswith("has errors. Fix them first.\n")


@pytest.mark.parametrize("arguments", [[], ["--records", "none"], ["--colour"]])
def test_trouble(folder: Path, arguments: list[str]) -> None:
    """Wrong usage, and files that are not there, are exit status 2."""
    assert run(folder, *arguments, new="none").exit_code == 2


def test_records_that_cannot_be_read(folder: Path) -> None:
    """Records that cannot be read are one sentence and exit status 2: nothing was compared to the end."""
    result = run(folder, "--records", "/proc/self/mem")
    assert (result.exit_code, result.stdout) == (2, "")
    (line,) = result.stderr.splitlines()
    assert line.startswith("Error: Records could not be read from /proc/self/mem: ")


def test_much_is_shortened(folder: Path) -> None:
    """Of many changes the first are shown and the rest counted; --all and --json have them all."""
    many = "".join(f'["a{number}.example.net"]\nlog_oob = true\n' for number in range(50))
    (folder / "new" / "domains.toml").write_text(NEW + many)
    result = run(folder)
    assert "Opens (51)\n" in result.stdout
    assert "\n  and 31 more; --all lists them\n" in result.stdout
    # The dangerous one comes first, wherever it stands.
    assert "relay_to" in result.stdout.partition("Opens (51)\n")[2].splitlines()[0]
    assert "a49.example.net" in run(folder, "--all").stdout
    assert len(told(run(folder, "--json"))["changes"]) == 54


def test_hostile_text_is_escaped(folder: Path) -> None:
    """What strangers wrote, and a file's own name, never reaches the terminal raw."""
    hostile = record("x@same.example.org", sender="\x1b[2J\u202e\x07\x9b@x")
    (folder / "\x1b").mkdir()
    for name in ("sidecar.toml", "domains.toml"):
        (folder / "\x1b" / name).write_bytes((folder / "new" / name).read_bytes())
    for arguments in ([], ["--json"]):
        result = run(folder, "--records", "-", *arguments, new="\x1b", stdin=hostile)
        assert result.exit_code == 1
        assert not set(result.output) & {"\x1b", "\x07", "\x9b", "\u202e"}
    assert "\\u001b[2J\\u202e\\u0007\\u009b@x" in run(folder, "--records", "-", stdin=hostile).output


def command(folder: Path, *arguments: str) -> list[str]:
    return [*SIDECAR, "diff", *(str(folder / name / "sidecar.toml") for name in ("old", "new")), *arguments]


def test_a_reader_that_has_seen_enough(folder: Path) -> None:
    """Output into a pipe that nobody reads is no error worth a word."""
    with preloaded.popen(command(folder), stdout=subprocess.PIPE, stderr=subprocess.PIPE) as program:
        assert program.stdout is not None
        assert program.stderr is not None
        program.stdout.close()
        assert program.stderr.read() == b""


def test_an_interrupt(folder: Path) -> None:
    """Ctrl-C ends it without a word, also while it waits for records."""
    with preloaded.popen(
        command(folder, "--records", "-"), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as program:
        assert program.stdin is not None
        # More than a pipe holds: once it is written, the records are being read.
        program.stdin.write(record("x@example.net") * 2000)
        program.stdin.flush()
        program.send_signal(signal.SIGINT)
        output, errors = program.communicate(timeout=120)
    assert (output, errors, program.returncode) == (b"", b"", 130)


def test_a_pipe_has_no_colours_and_whole_lines(folder: Path) -> None:
    """Piped, there are neither control codes nor cut lines nor a progress bar, however narrow the terminal."""
    done = preloaded.run(
        command(folder, "--records", str(folder / "log.jsonl")),
        env={**os.environ, "COLUMNS": "40"},
    )
    assert done.stderr == b""
    assert b"\x1b" not in done.stdout
    assert any(len(line) > 100 for line in done.stdout.splitlines())
