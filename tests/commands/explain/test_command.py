"""`sidecar explain`: the answers, in words and in JSON."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from sidecar.cli import main
from tests.core.session.driving import ARF, BROKEN, OOB, PLAIN

DOMAINS = """\
["*"]
relay_to = false
log_oob = true
log_arf = true
["bounce.example.com"]
log_oob = "LogThenDrop"
["auth.example.com"]
relay_from_authz = ["daniel"]
[listener."10.1.1.1:25"."only.example"]
relay_to = true
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a configuration and three messages."""
    (tmp_path / "sidecar.toml").write_text(
        'relay_hosts = ["127.0.0.1", "192.168.1.0/24"]\nlistener_domains = ["domains.toml"]\n'
    )
    (tmp_path / "domains.toml").write_text(DOMAINS)
    for name, message in {"oob": OOB, "arf": ARF, "plain": PLAIN}.items():
        (tmp_path / f"{name}.eml").write_bytes(message)
    return tmp_path


def run(folder: Path, *arguments: str, stdin: bytes | None = None) -> Result:
    return CliRunner().invoke(main, ["explain", "--config", str(folder / "sidecar.toml"), *arguments], input=stdin)


def ask(folder: Path, **question: Any) -> dict[str, Any]:
    """Ask one question through --batch; give the answer."""
    result = run(folder, "--batch", "-", stdin=json.dumps(question).encode() + b"\n")
    assert result.exit_code == 0, result.output
    answer: dict[str, Any] = json.loads(result.stdout)
    return answer


def test_a_unparsable_that_would_be_kept(folder: Path) -> None:
    """It is shown as dropped, with its record and its file's name, and nothing is written anywhere."""
    with (folder / "sidecar.toml").open("a") as file:
        file.write('unparsable_reports = "quarantine"\nstate_directory = "state"\n')
    (folder / "broken.eml").write_bytes(BROKEN)
    before = sorted(folder.rglob("*"))
    answer = ask(folder, peer="203.0.113.9", **{"from": ""}, to=["x@bounce.example.com"], message=str(folder / "broken.eml"))
    message = answer["message"]
    assert (message["action"], message["report"], message["dropped"]) == ("discard", None, ["x@bounce.example.com"])
    assert message["disposition"] == message["records"][0]["meta"]["disposition"] == "quarantined"
    (record,) = message["records"]
    assert record["type"] == "Reception"
    assert record["meta"]["quarantine"].endswith(f"{record['id']}-cb007109.eml")
    assert sorted(folder.rglob("*")) == before


def test_the_shape(folder: Path) -> None:
    """The JSON object has the documented keys, and `because` has file, line, key and value."""
    message = str(folder / "oob.eml")
    result = run(
        folder, "--peer", "203.0.113.9:4444", "--from", "", "--to", "x@bounce.example.com", "--message", message, "--json"
    )
    answer = json.loads(result.stdout)
    assert answer["connect"].keys() == {"action", "deferred", "reply", "because"}
    assert (answer["connect"]["action"], answer["connect"]["deferred"]) == ("continue", True)
    (recipient,) = answer["recipients"]
    assert recipient == {
        "address": "x@bounce.example.com",
        "action": "accept",
        "reply": None,
        "relay": False,
        "log_oob": "LogThenDrop",
        "log_arf": "Ignore",
        "because": [
            {
                "file": "domains.toml",
                "line": 6,
                "key": '"bounce.example.com".log_oob',
                "value": "LogThenDrop",
                "text": "bounce.example.com accepts bounce reports from any host, logs them and drops them",
            }
        ],
    }
    records = answer["message"].pop("records")
    assert [record["type"] for record in records] == ["Reception", "OOB"]
    assert answer["message"] == {
        "disposition": "logged_and_dropped",
        "action": "discard",
        "reply": None,
        "report": "oob",
        "relayed": [],
        "dropped": ["x@bounce.example.com"],
    }


def test_the_question_of_the_project(folder: Path) -> None:
    """External spam is accepted at RCPT because `*` accepts reports, and rejected because it is not a report."""
    spam = {"peer": "91.92.251.215:50000", "helo": "WIN-CLJ1B0GQ6JP", "from": "test@test.com", "to": ["mmiihhww09@gmail.com"]}
    answer = ask(folder, **spam, message=str(folder / "plain.eml"))
    assert answer["connect"]["deferred"]
    (recipient,) = answer["recipients"]
    assert (recipient["action"], recipient["relay"]) == ("accept", False)
    assert [(reason["line"], reason["key"], reason["value"]) for reason in recipient["because"]] == [
        (3, '"*".log_oob', "LogThenRelay"),
        (4, '"*".log_arf', "LogThenRelay"),
    ]
    assert (answer["message"]["action"], answer["message"]["reply"]) == ("reject", "550 5.7.1 relaying not permitted")
    assert [record["type"] for record in answer["message"]["records"]] == ["Rejection"]


@pytest.mark.parametrize(
    ("question", "expected"),
    [
        ({"peer": "203.0.113.9", "to": ["x@bounce.example.com"]}, [("accept", None)]),
        ({"peer": "192.168.1.7", "to": ["x@y.example"]}, [("accept", None)]),
        ({"peer": "::ffff:192.168.1.7", "to": ["<x@y.example>"]}, [("accept", None)]),
        (
            {"peer": "[2001:db8::1]:25", "to": ["x@auth.example.com"]},
            [("reject", "550 5.7.1 relaying not permitted for [2001:db8::1]:25")],
        ),
        (
            {"peer": "203.0.113.9", "from": "a@auth.example.com", "auth": "daniel", "to": ["x@auth.example.com"]},
            [("accept", None)],
        ),
        (
            {"peer": "203.0.113.9", "listener": "10.1.1.1:25", "to": ["x@only.example", "x@auth.example.com"]},
            [("accept", None), ("reject", "550 5.7.1 relaying not permitted for 203.0.113.9")],
        ),
        (
            {"peer": "203.0.113.9", "to": ["a\nb@bounce.example.com"]},
            [("reject", "553 5.1.3 this recipient address cannot be read")],
        ),
    ],
)
def test_recipients(folder: Path, question: dict[str, Any], expected: list[tuple[str, str | None]]) -> None:
    """What is not known may be left out; each recipient gets its action and its full reply."""
    answer = ask(folder, **({"from": ""} | question))
    assert [(recipient["action"], recipient["reply"]) for recipient in answer["recipients"]] == expected
    nothing: dict[str, Any] = {"action": None, "reply": None, "report": None, "relayed": [], "dropped": [], "records": []}
    all_rejected = all(action == "reject" for action, _ in expected)
    assert answer["message"] == {"disposition": "rejected_at_rcpt" if all_rejected else None, **nothing}


def test_rejected_at_connect(tmp_path: Path) -> None:
    """If external hosts can send nothing, the answer ends at connect."""
    (tmp_path / "sidecar.toml").write_text("")
    answer = ask(tmp_path, peer="203.0.113.9:1", **{"from": "", "to": ["a@b.example"]})
    assert answer["connect"]["action"] == "reject"
    assert answer["connect"]["reply"] == "550 5.7.1 relaying not permitted for 203.0.113.9:1"
    assert (answer["recipients"], answer["message"]["action"]) == ([], None)
    assert answer["message"]["disposition"] == "rejected_at_connect"


def test_batch(folder: Path) -> None:
    """A batch is answered line by line, in order; message paths are relative to it, an error has the number of its line."""
    batch = folder / "questions.jsonl"
    lines = [
        '{"peer": "203.0.113.9", "from": "", "to": ["f@else.example"], "message": "arf.eml"}',
        '{"peer": "203.0.113.9", "from": "", "to": ["f@else.example"], "message": "absent.eml"}',
        '{"peer": "someone", "from": "", "to": ["f@else.example"]}',
        '{"peer": "203.0.113.9", "sender": "", "to": []}',
        "not json",
        "",
        '{"peer": "127.0.0.1", "from": "", "to": ["f@else.example"], "message": "plain.eml"}',
    ]
    batch.write_text("\n".join(lines))
    result = run(folder, "--batch", str(batch))
    answers = [json.loads(line) for line in result.stdout.splitlines()]
    assert [("message" in answer and answer["message"]["action"]) or answer["error"][:6] for answer in answers] == [
        "accept",
        "line 2",
        "line 3",
        "line 4",
        "line 5",
        "accept",
    ]
    assert result.exit_code == 1


def test_in_words(folder: Path) -> None:
    """The words have the decision first, then its reasons with their places; external text cannot draw on the terminal."""
    spam = str(folder / "plain.eml")
    words = run(
        folder, "--peer", "91.92.251.215", "--from", "t@test.com", "--to", "m\x1b[2J@gmail.com", "--message", spam
    ).stdout
    assert "\x1b" not in words
    assert "553 5.1.3" in words
    words = run(folder, "--peer", "91.92.251.215", "--from", "t@test.com", "--to", "m@gmail.com", "--message", spam).stdout
    assert "CONNECT from 91.92.251.215: continue, the decision is deferred to RCPT" in words
    assert "so it accepts only bounce reports and feedback reports; the end of the message decides" in words
    assert "END OF MESSAGE: 550 5.7.1 relaying not permitted" in words


def test_bounces_in_words(folder: Path) -> None:
    """The line of an OOB record has the recipient that failed, and the form of the report; with compat no form."""
    question = ("--peer", "91.92.251.215", "--from", "", "--to", "x@bounce.example.com", "--message")
    (folder / "qmail.eml").write_bytes(
        b"From: MAILER-DAEMON@mx.example\nSubject: failure notice\n\nHi. This is the qmail-send program at mx.example.\n\n"
        b"<gone@\x1b.example>:\n550 no such mailbox\n\n<gone@remote.example>:\n550 no such mailbox\n"
    )
    words = run(folder, *question, str(folder / "qmail.eml")).stdout
    assert "  record OOB for gone@remote.example (text:qmail): a bounce report for bounce.example.com" in words
    assert "\x1b" not in words
    (folder / "nameless.eml").write_bytes(re.sub(rb"(?m)^(Final|Original)-Recipient:.*$", rb"\1-Recipient: rfc822;", OOB))
    words = run(folder, *question, str(folder / "nameless.eml")).stdout
    assert "  record OOB for a recipient that is not named (rfc3464): a bounce report" in words
    with (folder / "sidecar.toml").open("a") as file:
        file.write('compat = "kumomta"\n')
    assert "  record OOB for alias@example.net: a bounce report" in run(folder, *question, str(folder / "oob.eml")).stdout


@pytest.mark.parametrize(
    "arguments",
    [
        ["--peer", "203.0.113.9", "--from", ""],
        ["--peer", "203.0.113.9", "--to", "a@b.example"],
        ["--batch", "-", "--peer", "203.0.113.9"],
        ["--batch", "-", "--listener", "10.1.1.1:25"],
        ["--peer", "203.0.113.9", "--from", "a\udcff", "--to", "a@b.example"],
    ],
)
def test_wrong_usage(folder: Path, arguments: list[str]) -> None:
    """A question that is not whole is wrong usage: exit status 2 and a sentence."""
    result = run(folder, *arguments)
    assert result.exit_code == 2
    assert "Error:" in result.output


def test_a_listener_left_out_is_told(folder: Path) -> None:
    """Where rules depend on the listener, an answer without one says which was meant."""
    question = ["--peer", "203.0.113.9", "--from", "", "--to", "x@only.example"]
    assert "without --listener" in run(folder, *question).stderr
    assert not run(folder, *question, "--listener", "10.1.1.1:25").stderr
    assert not run(folder, *question, "--json").stderr


def test_bad_settings(folder: Path) -> None:
    """Settings with errors are not asked: exit status 1, and the place of the error."""
    (folder / "domains.toml").write_text('["a.example"]\nlog_oob = "Sometimes"\n')
    result = run(folder, "--peer", "203.0.113.9", "--from", "", "--to", "a@b.example")
    assert result.exit_code == 1
    assert "domains.toml:2" in result.output


SIGN = """\
[verify]
secret_files = ["secret"]
[sign]
address = true
cfbl_address = "fbl@our.test"
domains = ["our.test"]
"""
MAIL = b"Message-ID: <1@our.test>\r\nSubject: hello\r\n\r\nbody\r\n"
FIELDS = ["X-Sidecar-Trace", "CFBL-Address", "CFBL-Feedback-ID"]


@pytest.mark.parametrize(
    ("peer", "sender", "message", "expected"),
    [
        ("127.0.0.1", "news@our.test", None, (FIELDS, True)),
        ("127.0.0.1", "news@our.test", MAIL, (FIELDS, True)),
        ("127.0.0.1", "news@our.test", PLAIN, (FIELDS[1:2], True)),
        ("127.0.0.1", "SRS0=x@our.test", None, (FIELDS, False)),
        ("127.0.0.1", "x" * 41 + "@our.test", MAIL, (FIELDS, False)),
        ("127.0.0.1", "news@else.test", MAIL, None),
        ("203.0.113.9", "news@our.test", None, None),
    ],
)
def test_signing(folder: Path, peer: str, sender: str, message: bytes | None, expected: tuple[list[str], bool] | None) -> None:
    """The names of what is added to mail of a relay host, and never a value: it would be valid."""
    secret = "the-secret-of-the-tests-is-no-secret"  # noqa: S105 - of tests
    (folder / "secret").write_text(secret)
    (folder / "secret").chmod(0o600)
    with (folder / "sidecar.toml").open("a") as file:
        file.write(SIGN)
    (folder / "mail.eml").write_bytes(message or b"")
    question = ["--peer", peer, "--from", sender, "--to", "jo@bounce.example.com"]
    question += ["--message", str(folder / "mail.eml")] if message else []
    found = json.loads(run(folder, *question, "--json").stdout)["message"].get("signing")
    assert found == (expected and {"header_fields": expected[0], "envelope_sender": expected[1]})
    words = run(folder, *question).output
    (line,) = [line for line in words.splitlines() if line.startswith("SIGN: ")] or [""]
    added = [] if expected is None else [*expected[0], *["a token in the envelope sender"] * expected[1]]
    assert line == (f"SIGN: {', '.join(added)}; each message gets its own values" if expected else "")
    assert secret not in words
    assert "news+" not in words


def test_nothing_to_add(folder: Path) -> None:
    """A message without Message-ID gets no trace header, and the answer says so."""
    (folder / "secret").write_text("the-secret-of-the-tests-is-no-secret")
    (folder / "secret").chmod(0o600)
    with (folder / "sidecar.toml").open("a") as file:
        file.write('[verify]\nsecret_files = "secret"\n[sign]\n')
    (folder / "mail.eml").write_bytes(PLAIN)
    question = ["--peer", "127.0.0.1", "--from", "a@b.test", "--to", "c@d.test", "--message", str(folder / "mail.eml")]
    assert "\nSIGN: nothing\n" in run(folder, *question).output
