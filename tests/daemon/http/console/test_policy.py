"""The pages of the policy: explain, What if, listener domains, and warnings."""

import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import quote

import pytest
from msgspec.structs import replace

from sidecar.core.settings.domain_table import table_of
from sidecar.core.settings.settings import Settings
from sidecar.daemon.http import trial
from tests.building import entry
from tests.daemon.http.console.visiting import Visitor, app_of, text_of
from tests.daemon.http.test_access import READER
from tests.daemon.http.test_app import OOB
from tests.journal.index.records import indexed, record, write_segment

EXPLAIN, TRIAL, POLICY = "/console/explain", "/console/trial", "/console/policy"
HOSTILE = "<b>\u202e\x1b"
DOMAINS = (
    entry("bounce.example", log_oob="LogThenDrop"),
    entry("relay.example", relay_to=True),
    entry("*.wild.example", log_oob="LogThenRelay"),
    entry("deep.er.wild.example", log_oob="LogThenDrop"),
    entry("own.example", listener="10.1.1.1:25", relay_to=True),
)


@pytest.fixture
def made(tmp_path: Path) -> Settings:
    return replace(indexed(tmp_path), domains=table_of(DOMAINS))


@pytest.fixture
def visitor(made: Settings) -> Visitor:
    one = Visitor(app_of(made))
    one.log_in(READER)
    return one


# --- explain


def test_a_question_without_a_message_has_an_address(visitor: Visitor) -> None:
    asked = {
        "peer": "203.0.113.9",
        "from": "",
        "to": "x@bounce.example, y@gmail.example",
        "listener": "",
        "helo": "",
        "auth": "",
    }
    answer = visitor.send(EXPLAIN, EXPLAIN, **asked)
    assert answer.status == 303
    assert answer.headers["location"] == f"{EXPLAIN}?peer=203.0.113.9&from=&to=x%40bounce.example%2C+y%40gmail.example"
    text = text_of(visitor.get(answer.headers["location"]))
    assert "RCPT TO x@bounce.example: accept It accepts only bounce reports" in text
    assert "RCPT TO y@gmail.example: 550 5.7.1 relaying not permitted for 203.0.113.9" in text


@pytest.mark.parametrize("field", ["message", "file_file"])
def test_a_pasted_or_uploaded_message(visitor: Visitor, field: str) -> None:
    files: dict[str, Any] = {"peer": b"203.0.113.9", "from": b"", "to": b"x@bounce.example", field: OOB}
    answer = visitor.upload(EXPLAIN, EXPLAIN, **files)
    assert "discard The peer gets 250" in text_of(answer)
    assert "OOB for u@example.net" in text_of(answer)
    assert "Final-Recipient" in answer.body.decode()


@pytest.mark.parametrize(
    ("asked", "sentence"),
    [
        ("peer=nonsense&to=a@b.example", "The question cannot be answered: the peer is wrong: 'nonsense' does not"),
        ("peer=203.0.113.9&listener=x&to=a@b.example", "the listener is wrong: 'x' does not"),
        ("peer=203.0.113.9&listener=10.1.1.1&to=a@b.example", "write it as 10.1.1.1:25"),
        ("peer=203.0.113.9&from=" + "x" * 2000, "the envelope sender has more than 1,024 characters"),
        ("peer=203.0.113.9&to=a@b.example," + "x" * 2000, "a recipient has more than 1,024 characters"),
        ("peer=203.0.113.9&to=" + "a," * 1001, "there are more than 1,000 recipients"),
    ],
)
def test_a_wrong_question(visitor: Visitor, asked: str, sentence: str) -> None:
    answer = visitor.get(f"{EXPLAIN}?{asked}")
    assert (answer.status, sentence in text_of(answer)) == (400, True)


def test_what_was_typed_stays_and_is_harmless(visitor: Visitor) -> None:
    answer = visitor.upload(EXPLAIN, EXPLAIN, peer=b'"><script>', to=b"a", message=b"\n</textarea><script>")
    body = answer.body.decode()
    assert 'value="&#34;&gt;&lt;script&gt;"' in body
    assert ">\n\n&lt;/textarea&gt;&lt;script&gt;</textarea>" in body


def test_a_form_that_is_none(visitor: Visitor) -> None:
    for kind in ("text/plain", "multipart/form-data", "multipart/form-data; boundary=b", ""):
        assert visitor.post(EXPLAIN, {"csrf": "x"}, **{"content-type": kind}).status in {400, 403}, kind
    assert visitor.post(EXPLAIN, {str(number): "x" for number in range(60)}).status == 400


# --- what if


def test_the_domains_in_use_change_nothing(visitor: Visitor) -> None:
    page = visitor.get(TRIAL).body.decode()
    assert "[&#34;bounce.example&#34;]\nlog_oob = &#34;LogThenDrop&#34;" in page
    assert "[listener.&#34;10.1.1.1:25&#34;.&#34;own.example&#34;]" in page
    assert "the entries in use" in page


def test_an_empty_text_is_an_answer(made: Settings, visitor: Visitor) -> None:
    """It removes all entries. The page does not say that the text shows them, or that there are too many."""
    write_segment(made, 1, [record(recipient="x@gmail.example", session_id="")])
    text = text_of(visitor.upload(TRIAL, TRIAL, domains=b""))
    assert "Closes" in text
    assert "too many entries" not in text
    assert "the entries in use" not in text


def test_a_changed_file(made: Settings, visitor: Visitor) -> None:
    """In a process of its own: findings, what opens, and recorded envelopes with another decision. Nothing is saved."""
    write_segment(made, 1, [record(recipient="x@gmail.example", session_id="")])
    before = sorted(made.state_directory.rglob("*"))
    text = text_of(visitor.upload(TRIAL, TRIAL, file_file=b'["*"]\nrelay_to = true\n["[x"]\n', domains=b"ignored"))
    assert "Danger: 4 changes permit something to most of the internet." in text
    assert "Recorded envelopes with another decision: 1 of 1" in text
    assert "rejected at rcpt" in text
    assert "This is an open relay" in text
    assert before == sorted(made.state_directory.rglob("*"))
    text = text_of(visitor.upload(TRIAL, TRIAL, domains=b'["a.example"]\r\nlog_obb = true\r\n'))
    assert 'listener_domains.toml:2 "a.example".log_obb' in text


def test_a_trial_is_bounded(visitor: Visitor, monkeypatch: pytest.MonkeyPatch) -> None:
    answer = visitor.upload(TRIAL, TRIAL, domains=b"#" * ((4 << 20) + 1))
    assert (answer.status, "more than 4.0 MiB" in text_of(answer)) == (413, True)

    def hang(*_: object, timeout: float, **__: object) -> None:
        raise subprocess.TimeoutExpired("x", timeout)

    monkeypatch.setattr(subprocess, "run", hang)
    answer = visitor.upload(TRIAL, TRIAL, domains=b"")
    assert (answer.status, "more than 20 seconds" in text_of(answer)) == (503, True)


def test_a_large_policy_is_left_to_the_command(visitor: Visitor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sidecar.daemon.http.console.trial.DOMAINS_LIMIT", 4)
    answer = visitor.upload(TRIAL, TRIAL, domains=b"")
    assert (answer.status, "compare it with `sidecar diff`" in text_of(answer)) == (413, True)


def test_a_trial_that_dies(visitor: Visitor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trial, "sys", SimpleNamespace(path=[], executable=sys.executable))
    answer = visitor.upload(TRIAL, TRIAL, domains=b"")
    assert (answer.status, "its process ended with status 1" in text_of(answer)) == (503, True)


# --- the policy


@pytest.mark.parametrize(
    ("query", "sentence"),
    [
        ("name=bounce.example", '"bounce.example" Entries of every listener: the entry of this very name matches.'),
        ("name=user@Bounce.EXAMPLE.", "log_oob LogThenDrop"),
        ("name=a.b.wild.example", '"*.wild.example" matches.'),
        ("name=er.wild.example", 'the search ends at "er.wild.example", which other entries are below'),
        ("name=gmail.test", "no entry Entries of every listener: nothing matches."),
        ("name=own.example&listener=10.1.1.1:25", "Entries of 10.1.1.1:25: the entry of this very name matches."),
        ("name=bounce.example&listener=10.2.2.2:25", "Entries of 10.2.2.2:25: there are none."),
        ("name=&listener=10.1.1.1:25", "An address without a domain on 10.1.1.1:25"),
        ("name=x&listener=nonsense", "This cannot be looked up"),
    ],
)
def test_the_entry_of_a_name_and_why(visitor: Visitor, query: str, sentence: str) -> None:
    assert sentence in text_of(visitor.get(f"{POLICY}?{query}"))


def test_listener_domains_are_found_by_a_part(made: Settings) -> None:
    many = [entry(f"d{number:04}.many.example", relay_to=True) for number in range(450)]
    visitor = Visitor(app_of(replace(made, domains=table_of([*DOMAINS, *many]))))
    visitor.log_in()
    path, seen = f"{POLICY}?part=MANY", list[str]()
    while path:
        body = visitor.get(path).body.decode()
        seen += re.findall(r">(d\d{4}\.many\.example)<", body)
        following = re.search(r'href="([^"#]+)#domains">Next', body)
        path = following[1].replace("&amp;", "&") if following else ""
    assert seen == [one.domain for one in many]
    assert "deep.er.wild.example" in text_of(visitor.get(f"{POLICY}?part=er.wi"))
    for part in ("nothing", "a%0Ad", "%3Cb%3E"):
        assert "No domain contains this." in text_of(visitor.get(f"{POLICY}?part={part}"))
    assert "own.example" in text_of(visitor.get(f"{POLICY}?part=own&listener=10.1.1.1:25"))


def test_warnings_with_their_fixes(visitor: Visitor) -> None:
    text = text_of(visitor.get(f"{POLICY}/warnings"))
    assert "shadowed" in text
    assert "Fix:" in text


def test_hostile_names_are_harmless(visitor: Visitor) -> None:
    for path in (f"{POLICY}?name={quote(HOSTILE)}&part={quote(HOSTILE)}", f"{EXPLAIN}?peer=203.0.113.9&to={quote(HOSTILE)}"):
        body = visitor.get(path).body.decode()
        assert "<b>" not in body
        shown = re.sub(r'value="[^"]*"', "", body)
        assert not re.search("[\u202e\x1b]", shown), path
