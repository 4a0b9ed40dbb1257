"""`sidecar verify`, and `parse`, `explain`, `replay` with [verify], as an operator calls them."""

import json
import time
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from sidecar.cli import main
from sidecar.core.proof import address, trace
from sidecar.core.session.replies import ADDRESS_REQUIRED
from tests.core.proof.making import SENDER, bounce, complaint, dkim_field, ed_key, pem, secret

JO = "jo@remote.example"
SECRET = "the-secret-of-the-tests-is-no-secret"  # noqa: S105 - of tests
MAIL = f"From: News <news@sender.example>\nTo: {JO}\nDate: {formatdate()}\nMessage-ID: <1@sender.example>\n\nHello.\n"
CONFIG = """\
listener_domains = "domains.toml"
state_directory = "state"
[verify]
secret_files = "secret"
dkim_keys = "keys"
authserv_ids = ["mx.example"]
unverified = "reject"
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with settings, keys and reports."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "keys").mkdir()
    (tmp_path / "keys/ed._domainkey.sender.example").write_bytes(pem(ed_key()))
    (tmp_path / "secret").write_text(SECRET)
    (tmp_path / "secret").chmod(0o600)
    (tmp_path / "sidecar.toml").write_text(CONFIG)
    (tmp_path / "domains.toml").write_text('["bounce.sender.example"]\nlog_oob = "LogThenDrop"\n')
    now = time.time()
    signed = dkim_field(MAIL, "ed", t=str(int(now))) + MAIL
    value = trace.trace(secret(), now, message_id="<1@sender.example>", sender=SENDER, recipients=[JO])
    whole = f"{trace.NAME}: {value}\n{signed}"
    (tmp_path / "true.eml").write_bytes(b"Delivered-To: %b\n" % SENDER.encode() + bounce(whole, JO))
    (tmp_path / "forged.eml").write_bytes(b"X-Original-To: %b\n" % SENDER.encode() + bounce(MAIL, JO))
    results = b"Authentication-Results: mx.example; dkim=pass header.d=provider.example\n"
    (tmp_path / "complaint.eml").write_bytes(results + complaint(signed))
    (tmp_path / "letter.eml").write_text("Subject: hello\n\nHello\n")
    return tmp_path


def call(*arguments: str) -> Result:
    return CliRunner().invoke(main, [*arguments[:1], "--config", "sidecar.toml", *arguments[1:]])


@pytest.mark.parametrize(
    ("arguments", "status", "expected"),
    [
        (["true.eml"], 0, [f"sent to {SENDER}", f"verified for {JO}: recipient (dkim, header)", "proof by address is absent"]),
        (["forged.eml"], 1, [f"verified for {JO}: none", "the returned message has no DKIM signature"]),
        (["--to", "TOKEN", "forged.eml"], 0, [f"verified for {JO}: message (address)", "proof by address is valid"]),
        (["--to", "OLD", "forged.eml"], 1, ["proof by address is invalid: ", "older than 30 days"]),
        (
            ["complaint.eml"],
            0,
            ["verified for jo@remote.example: recipient (dkim)", "reported by provider.example, as mx.example"],
        ),
        (["letter.eml"], 1, ["not a report"]),
        (["true.eml", "none.eml"], 1, ["verified for", "none.eml cannot be read"]),
        (["true.eml", "forged.eml"], 1, ["recipient (dkim", ": none"]),
    ],
)
def test_verify(arguments: list[str], status: int, expected: list[str]) -> None:
    """The levels and reasons are shown, and the exit status says whether all reports prove something."""
    now = time.time()
    tokens = {"TOKEN": address.tagged(SENDER, secret(), now), "OLD": address.tagged(SENDER, secret(), now - 40 * 86400)}
    result = call("verify", *(tokens.get(one, one) for one in arguments))
    assert result.exit_code == status
    assert [words for words in expected if words not in result.output] == []
    assert SECRET not in result.output


def test_json() -> None:
    """One object for each file, with the result of each method."""
    lines = [json.loads(line) for line in call("verify", "--json", "true.eml", "letter.eml").stdout.splitlines()]
    assert [(line["file"], line["verification"] is None) for line in lines] == [("true.eml", False), ("letter.eml", True)]
    proof = lines[0]["verification"]
    assert proof["to"] == SENDER
    assert proof["recipients"] == [{"recipient": JO, "verified": "recipient", "verified_by": ["dkim", "header"]}]
    assert [(one["method"], one["result"]) for one in proof["methods"]] == [
        ("dkim", "valid"),
        ("header", "valid"),
        ("address", "absent"),
    ]


def test_without_the_section(folder: Path) -> None:
    """It is an error that says what to write."""
    (folder / "sidecar.toml").write_text("")
    result = call("verify", "true.eml")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "no section [verify]" in result.stderr


def test_parse() -> None:
    """Parse shows the same, if the settings have the section."""
    found = json.loads(call("parse", "--json", "true.eml").stdout)
    assert found["verification"]["recipients"][0]["verified"] == "recipient"
    assert f"verified for {JO}: none" in call("parse", "forged.eml").stdout
    assert "verif" not in CliRunner().invoke(main, ["parse", "forged.eml"]).stdout
    assert "verification" not in json.loads(call("parse", "--json", "letter.eml").stdout)


def test_explain() -> None:
    """Explain shows what each method found, and the rule that rejects."""
    asked = ("explain", "--peer", "203.0.113.9", "--from", "", "--to", SENDER, "--message")
    forged = call(*asked, "forged.eml").stdout
    assert "END OF MESSAGE: 550 5.7.1 this report does not prove that it is about mail sent from here" in forged
    assert "  proof by dkim is absent: the returned message has no DKIM signature" in forged
    assert "rejects a bounce report that proves nothing (sidecar.toml:7 verify.unverified)" in forged
    assert "  proof by dkim is valid: " in call(*asked, "true.eml").stdout


def test_explain_record(folder: Path) -> None:
    """A record shows what the report proved, and the rule that rejects it now."""
    asked = ("explain", "--json", "--peer", "203.0.113.9", "--from", "", "--to", SENDER, "--message")
    record = json.loads(call(*asked, "forged.eml").stdout)["message"]["records"][0]
    (folder / "log.jsonl").write_text(json.dumps(record) + "\n")
    words = call("explain", "--record", "log.jsonl").stdout
    words = " ".join(words.split())
    assert "Verified, by the record: none (dkim: the returned message has no DKIM signature; header: " in words
    assert "verify.unverified" in words
    found: dict[str, Any] = json.loads(call("explain", "--json", "--record", "log.jsonl").stdout)
    assert (found["record"]["verified"], found["agrees"]) == ("none", True)
    assert found["record"]["proof"].startswith("dkim: ")
    (change,) = found["fix"]["changes"]
    assert (found["fix"]["aim"], change["line"], change["lines"]) == ("accept", 7, ['unverified = "accept"'])


def test_explain_required_address(folder: Path) -> None:
    """The record of a recipient without a token names the rule, and the change that accepts it."""
    (folder / "sidecar.toml").write_text(CONFIG + '[verify.domain."bounce.sender.example"]\naddress = "required"\n')
    record = {
        "type": "Rejection",
        "recipient": SENDER,
        "response": {"code": 550, "content": ADDRESS_REQUIRED.text, "command": "RCPT TO:<x>"},
        "peer_address": {"name": "h", "addr": "203.0.113.9"},
        "meta": {"why": "x", "disposition": "rejected_at_rcpt"},
    }
    (folder / "log.jsonl").write_text(json.dumps(record) + "\n")
    found: dict[str, Any] = json.loads(call("explain", "--json", "--record", "log.jsonl").stdout)
    assert (found["happened"], found["disposition"], found["agrees"]) == ("rejected", "rejected_at_rcpt", True)
    assert found["decided"][0]["key"] == 'verify.domain."bounce.sender.example".address'
    (change,) = found["fix"]["changes"]
    assert (change["line"], change["lines"]) == (9, ['address = "optional"'])


def test_replay(folder: Path) -> None:
    """Stored reports are verified as of the time when they arrived, and the rule that rejects is counted."""
    old = time.time() - 300 * 86400
    mail = MAIL.replace(formatdate(), formatdate(old))
    signed = dkim_field(mail, "ed", t=str(int(old))) + mail
    received = f"Received: from x by y; {formatdate(old)}\nDelivered-To: {SENDER}\n".encode()
    (folder / "old.eml").write_bytes(received + bounce(signed, JO))
    lines = call("replay", "--json", "--from", "", "old.eml", "forged.eml").stdout.splitlines()
    found = [json.loads(line) for line in lines]
    assert [one["disposition"] for one in found] == ["logged_and_dropped", "rejected_at_end"]
    assert (found[1]["reason"]["key"], found[1]["reason"]["line"]) == ("verify.unverified", 7)
    assert call("verify", "old.eml").exit_code == 1
