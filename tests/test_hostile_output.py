"""All commands escape external data: invisible characters, terminal controls and line separators."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from sidecar.cli import COMMANDS, main
from sidecar.commands import status
from sidecar.core.text import printable, printable_json
from sidecar.daemon.process.status import ReloadStatus
from tests import preloaded
from tests.commands.simulate.fake_mta import FakeMta
from tests.daemon.process.test_status import SERVING

# One of each kind: C0, DEL, C1, soft hyphen, zero width, bidirectional marks, separators, spaces, fillers, variation selectors,
# private use, unassigned, tags.
HIDDEN = (
    "\x00\x07\x1b[31m\x7f\x85\x9b2J\u00ad\u061c\u180e\u200b\u200c\u200d\u200e\u202e\u2060\u2066\ufeff\u2028\u2029\u00a0\u3000"
    "\u034f\u115f\u3164\ufe0f\ue000\ufff9\ufffe\U000e0041\U000e0100\U0010ffff"
)
HOSTILE = f"ab{HIDDEN}cd"
FOLDED = HOSTILE.replace("\x00", "").replace("\x85", "").replace("\u2028", "").replace("\u2029", "")

CONFIG = """\
relay_hosts = ["127.0.0.1"]
listener_domains = ["domains.toml"]
headers = ["Subject", "X-*"]
"""
DOMAINS = """\
["a\\u00adb.example"]
relay_to = true
["*.example.com"]
log_oob = true
log_arf = "LogThenDrop"
[listener."*"."x\\u200b.example"]
relay_from_authz = ["dan\u00efel"]
"""
MESSAGE = """\
From: {0} <x@a.example>
To: <y{0}@b.example.com>
Subject: {0}
X-{1}: {0}
Return-Path: <x@{1}>
Authentication-Results: ab; dkim=pass header.d={0}; spf=pass smtp.mailfrom={0}
MIME-Version: 1.0
Content-Type: multipart/report; report-type={2}; boundary=b

--b
Content-Type: message/{2}

{3}

--b
Content-Type: message/rfc822

Subject: {0}
X-Sidecar-Trace: {0}
DKIM-Signature: v=1; d={0}; s={0}
X-KumoRef: eyJfQF8iOiJcXF8vIiwiYSI6Ilx1MjAwYlx1ZmVmZiJ9

{0}
--b--
"""
BOUNCE = """\
Reporting-MTA: dns; {0}
X-Field: {0}

Final-Recipient: rfc822; u{0}@example.net
Original-Recipient: rfc822; v{0}@example.net
Action: failed
Status: 5.1.1 ({0})
Remote-MTA: dns; {0}
Diagnostic-Code: smtp; 550 5.1.1 {0}
Final-Log-ID: {0}"""
COMPLAINT = """\
Feedback-Type: {0}
User-Agent: {0}
Version: 1{0}
Source-IP: {0}
Original-Mail-From: <{0}>
Original-Rcpt-To: <{0}>
Reported-Domain: {0}
Reported-URI: {0}
Authentication-Results: {0}
Reporting-MTA: dns; {0}"""


def record(kind: str, **fields: Any) -> dict[str, Any]:
    return {
        "type": kind,
        "id": HOSTILE,
        "sender": f"s{HOSTILE}@{HOSTILE}",
        "recipient": f"r{HOSTILE}@x.example.com",
        "queue": HOSTILE,
        "timestamp": 1_795_348_800,
        "event_time": "2026-11-22T12:00:00Z",
        "response": {"code": 550, "content": HOSTILE, "command": f"RCPT TO:<{HOSTILE}>"},
        "peer_address": {"name": HOSTILE, "addr": "203.0.113.9"},
        "bounce_classification": HOSTILE,
        "meta": {"why": HOSTILE, "listener": "10.1.1.1:25", HOSTILE: HOSTILE},
        "headers": {HOSTILE: HOSTILE},
        "feedback_report": {"feedback_type": HOSTILE, "user_agent": HOSTILE, "reporting_mta": {"name": HOSTILE}},
    } | fields


RECORDS = [
    *(record(kind) for kind in ("Reception", "Rejection", "OOB", "Feedback", "Delivery", "Bounce", HOSTILE)),
    record("Reception", peer_address={"name": HOSTILE, "addr": HOSTILE}),
    record("Rejection", recipient=[f"r{HOSTILE}@x.example.com", "y@x.example.com"]),
    record("Reception", recipient="r@x.example.com", sender="s@a.example", response={"code": 250, "content": HOSTILE}),
]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder with settings, a log, messages and an MTA's settings, all with hostile text."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sidecar.toml").write_text(CONFIG)
    (tmp_path / "secret").write_text("the-secret-of-the-tests-is-no-secret")
    (tmp_path / "secret").chmod(0o600)
    verify = f'[verify]\nsecret_files = "secret"\nauthserv_ids = ["{FOLDED[:2]}"]\n'
    (tmp_path / "verify.toml").write_text(f"{CONFIG}{verify}")
    (tmp_path / "other.toml").write_text(CONFIG.replace("domains.toml", "others.toml").replace("127", "128"))
    (tmp_path / "wrong.toml").write_text(f'"{json.dumps(HOSTILE)[1:-1]}" = 1\nheaders = {json.dumps(HOSTILE)}\n')
    (tmp_path / "broken.toml").write_text(f"a = {FOLDED}\n")
    (tmp_path / "domains.toml").write_text(DOMAINS)
    (tmp_path / "others.toml").write_text(DOMAINS.replace("true", "false").replace("x\\u200b", "y\\ufeff"))
    # Unescaped, as far as JSON allows; and a line that is no record.
    lines = [json.dumps(one, ensure_ascii=False).encode() for one in RECORDS]
    (tmp_path / "few.jsonl").write_bytes(b"\n".join(lines) + b'\n{"type": "Reception\xc2\x9b\x1b[2J"\n')
    (tmp_path / "many.jsonl").write_bytes(b"\n".join(lines * 3) + b"\n")
    for name, kind, part in (("oob", "delivery-status", BOUNCE), ("arf", "feedback-report", COMPLAINT)):
        text = MESSAGE.format(FOLDED, "Plain", kind, part.format(FOLDED))
        (tmp_path / f"{name}-\u200b\x1b.eml").write_text(text)
    monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path / "state"))
    kept = tmp_path / "state/quarantine/20260101-000000-0123456789abcdef0123456789abcdef"
    kept.parent.mkdir(parents=True)
    kept.with_suffix(".eml").write_text(FOLDED)
    kept.with_suffix(".json").write_bytes(lines[0])
    (tmp_path / "main.cf").write_text(f"smtpd_milters = {FOLDED}\nmynetworks = {FOLDED}\nrelay_domains = {FOLDED}\n")
    (tmp_path / "sendmail.cf").write_text(f"O InputMailFilters={FOLDED}\nXa, S={FOLDED}\n")
    question = {"peer": "203.0.113.9", "from": f"s{HOSTILE}@a", "to": [f"r{HOSTILE}@x.example.com", "y@x.example.com"]}
    message = {**question, "to": ["y@x.example.com"], "message": "oob-\u200b\x1b.eml"}
    asked = (json.dumps(question), json.dumps(message), json.dumps(HOSTILE), '{"peer": "\u200b"}')
    (tmp_path / "questions.jsonl").write_text("\n".join(asked))


SETTINGS = ("--config", "sidecar.toml")
ARF, OOB = "arf-\u200b\x1b.eml", "oob-\u200b\x1b.eml"
ASKED = ("--peer", "203.0.113.9", "--helo", HOSTILE.replace("\x00", ""), "--from", FOLDED, "--to", "y@x.example.com")
# The arguments of each command; `--json` is added if it has that option.
LINES: list[tuple[str, ...]] = [
    ("check", *SETTINGS),
    ("check", "--config", "wrong.toml"),
    ("check", "--config", "broken.toml"),
    ("check", "--config", HOSTILE.replace("\x00", "")),
    ("diff", "--all", "sidecar.toml", "other.toml"),
    ("diff", "--all", "--records", "many.jsonl", "sidecar.toml", "other.toml"),
    ("doctor", *SETTINGS, "--postfix", "main.cf"),
    ("doctor", *SETTINGS, "--sendmail", "sendmail.cf"),
    ("explain", *SETTINGS, *ASKED, "--to", f"u{FOLDED}@x.example.com", "--message", OOB),
    ("explain", *SETTINGS, *ASKED, "--message", ARF),
    ("explain", *SETTINGS, *ASKED, "--message", HOSTILE.replace("\x00", "")),
    ("explain", *SETTINGS, "--peer", FOLDED, "--from", "", "--to", "x@y"),
    ("explain", *SETTINGS, "--record", "few.jsonl"),
    ("explain", *SETTINGS, "--record", "many.jsonl"),
    ("explain", *SETTINGS, "--disagreements", "--record", "many.jsonl"),
    ("export", "postfix", *SETTINGS),
    ("export", "sendmail", *SETTINGS),
    ("fleet", "history", *SETTINGS),
    ("fleet", "publish", *SETTINGS, "--key", f"missing/{FOLDED}", "--canary", FOLDED, FOLDED),
    ("fleet", "status", "--config", "wrong.toml"),
    ("index", "status", *SETTINGS),
    ("index", "rebuild", "--config", "wrong.toml"),
    ("keys", "list", "--config", "verify.toml"),
    ("keys", "list", "--config", "wrong.toml"),
    ("keys", "make", "--config", "verify.toml", FOLDED.replace("/", "")),
    ("keys", "make", "--config", "verify.toml", f"missing/{FOLDED}"),
    ("keys", "rotate", "--config", "verify.toml"),
    ("sign", "--config", "verify.toml", f"s{FOLDED}@x.example.com"),
    ("sign", "--config", "verify.toml", f"s{FOLDED}@x.example.com", "--message-id", FOLDED, "--to", FOLDED),
    ("parse", OOB, ARF, "sidecar.toml"),
    ("parse", "--config", "verify.toml", "--to", f"p+{FOLDED}@x.example.com", OOB),
    ("verify", "--config", "verify.toml", OOB, ARF, "sidecar.toml"),
    ("verify", "--config", "verify.toml", HOSTILE.replace("\x00", "")),
    ("explain", "--config", "verify.toml", *ASKED, "--message", OOB),
    ("parse", HOSTILE.replace("\x00", "")),
    ("quarantine", "list", *SETTINGS),
    ("quarantine", "show", *SETTINGS, "0123"),
    ("quarantine", "show", *SETTINGS, HOSTILE.replace("\x00", "")),
    ("quarantine", "delete", *SETTINGS, "--all"),
    ("replay", *SETTINGS, OOB, ARF, "few.jsonl", FOLDED),
    ("run", "--config", "wrong.toml"),
    ("simulate", "--list"),
    ("stats", "few.jsonl"),
    ("stats", "many.jsonl"),
    ("status", *SETTINGS),
    ("status", "--config", "wrong.toml"),
    ("suppression", "simulate", *SETTINGS, "--records", "many.jsonl"),
    ("suppression", "simulate", *SETTINGS, "--compare", "wrong.toml", "--records", "few.jsonl"),
    ("suppression", "show", *SETTINGS, HOSTILE.replace("\x00", "")),
    ("tail", "--no-follow", "-n", "all", "few.jsonl"),
    ("tail", "--no-follow", "-n", "all", HOSTILE.replace("\x00", "")),
]
WITHOUT_JSON = {"run"}


def test_every_command_is_called() -> None:
    """A new command needs its lines here."""
    assert {name for name, *_ in LINES} == set(COMMANDS)


def check(text: str) -> None:
    """Check that every character is visible, except line ends and the tabs of Sendmail's tables."""
    hidden = sorted({character for character in text if character not in "\n\t" and printable(character) != character})
    assert not hidden, [f"U+{ord(character):04X}" for character in hidden]


def run(*arguments: str) -> tuple[str, str]:
    if arguments[0] == "run":  # its loader is a process that needs this one
        done = preloaded.run([sys.executable, "-m", "sidecar", *arguments])
        return done.stdout.decode(), done.stderr.decode()
    result = CliRunner().invoke(main, list(arguments))
    assert result.exception is None or isinstance(result.exception, SystemExit)
    return result.stdout_bytes.decode(), result.stderr_bytes.decode()


@pytest.mark.parametrize("line", LINES, ids=lambda line: " ".join(map(printable, line))[:60])
def test_text(line: Sequence[str]) -> None:
    """As text, and on standard error."""
    check("".join(run(*line)))


@pytest.mark.parametrize(
    "line", [line for line in LINES if line[0] not in WITHOUT_JSON], ids=lambda line: printable(line[-1])[:60]
)
def test_json(line: Sequence[str]) -> None:
    """As JSON, one value on each line, and on standard error."""
    out, err = run(*line, "--json")
    check(out + err)
    for one in out.splitlines():
        json.loads(one)


@pytest.mark.parametrize(
    ("line", "held"),
    [
        (("explain", *SETTINGS, "--record", "few.jsonl"), HOSTILE),
        (("explain", *SETTINGS, "--batch", "questions.jsonl"), HOSTILE),
        (("tail", "--no-follow", "-n", "all", "few.jsonl"), HOSTILE),
        (("stats", "few.jsonl"), HOSTILE),
        (("parse", OOB), "\u200b"),
        (("parse", ARF), "\u200b\ufeff"),
    ],
)
def test_values_stay_the_same(line: Sequence[str], held: str) -> None:
    """A reader of the JSON gets the original values."""
    options = [] if "--batch" in line else ["--json"]
    out, _ = run(*line, *options)
    check(out)
    assert any(held in text for one in out.splitlines() for text in _texts(json.loads(one)))


def _texts(value: object) -> list[str]:
    if isinstance(value, str):
        return [value]
    if isinstance(value, dict):
        return [text for pair in value.items() for one in pair for text in _texts(one)]
    return [text for one in value for text in _texts(one)] if isinstance(value, list) else []


@pytest.mark.parametrize("options", [[], ["--json"]])
def test_hostile_answers_of_an_mta(options: list[str]) -> None:
    """The answers of an MTA are external data."""
    said = FOLDED.encode()
    with FakeMta(greeting=b"220 " + said + b"\r\n", rcpt=b"550 5.7.1 " + said + b"\r\n") as mta:
        out, err = run("simulate", "--mta", f"127.0.0.1:{mta.port}", "--to", "b@x.example.com", *options)
    assert out
    check(out + err)


@pytest.mark.parametrize("options", [[], ["--json"]])
def test_a_hostile_status(monkeypatch: pytest.MonkeyPatch, options: list[str]) -> None:
    """The problems of a reload quote files."""
    problems = ReloadStatus(time=HOSTILE, problems=(HOSTILE,))
    hostile = msgspec.structs.replace(SERVING, since=HOSTILE, socket=f"unix:{HOSTILE}", last_reload=problems)
    monkeypatch.setattr(status, "read_status", lambda _: hostile)
    monkeypatch.setattr(status, "is_running", lambda _: True)
    out, err = run("status", *SETTINGS, *options)
    assert "reload" in out
    check(out + err)


CHARACTERS = st.characters(exclude_categories=["Cs"])


@given(st.text(CHARACTERS), st.sampled_from(["", "\t", "\r", "\n"]))
def test_printable_json(text: str, space: str) -> None:
    """Any text is escaped in JSON and keeps its value. White space between values stays or becomes a blank."""
    for ensure_ascii in (False, True):
        line = printable_json(f'{{{space}"a":{space}{json.dumps(text, ensure_ascii=ensure_ascii)}}}'.encode())
        assert json.loads(line) == {"a": text}
        check(line.decode())


@given(st.binary())
def test_printable_json_of_any_bytes(line: bytes) -> None:
    """Bytes that are not UTF-8 are replaced, and never raise."""
    check(printable_json(line).decode())


@given(st.text())
def test_printable(text: str) -> None:
    """Escaping twice is escaping once, and visible characters stay."""
    shown = printable(text)
    assert shown.isprintable()
    assert printable(shown) == shown == "".join(map(printable, text))
