"""The headers of a returned message in records: which ones, decoded, and bounded whatever they hold."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.core.records import encode, original_of
from sidecar.core.records.original import ORIGINAL_LIMIT
from tests.building import entry, settings
from tests.core.reports.shapes import status
from tests.core.session.driving import ARF, OOB, content, envelope, hello, play, session

RETURNED = (
    "Received: from a.example\nReceived: from b.example\nMessage-ID: <1@news.example>\nFrom: News <news@example.com>\n"
    "To: u@isp.example,\n\tv@isp.example\nSubject: =?utf-8?q?Gr=C3=BC=C3=9Fe?=\nX-Job: 7\n"
    "Date: Thu, 02 Jul 2026 18:55:38 +0000\n"
    "\nSubject: not a header\n"
)
DOMAINS = [entry("bounce.example.com", log_oob="LogThenDrop"), entry("fbl.example.com", log_arf="LogThenDrop")]


def read(message: str | bytes | None, *wanted: str) -> Any:
    """Return the headers as a reader of records sees them."""
    raw = original_of(message, wanted)
    return None if raw is None else json.loads(bytes(raw))


USUAL = {
    "message_id": "<1@news.example>",
    "from": "News <news@example.com>",
    "to": "u@isp.example, v@isp.example",
    "subject": "Gr\u00fc\u00dfe",
    "date": "Thu, 02 Jul 2026 18:55:38 +0000",
}


def test_usual_and_wanted_headers() -> None:
    """The usual five have names of their own; others are wanted by name, repeated ones as a list."""
    assert read(RETURNED) == USUAL
    assert read(RETURNED.encode()) == USUAL
    wanted = read(RETURNED, "x-*", "received", "subject")
    assert wanted == USUAL | {"x-job": "7", "received": ["from a.example", "from b.example"]}


@pytest.mark.parametrize("message", [None, "", "\n", "no field\n", "X-Job: 7\n", "\nno header section\n\nFrom: x\n", b"\xff\n"])
def test_nothing_to_record(message: str | bytes | None) -> None:
    """Without a returned message, or one with such headers, there is nothing."""
    assert read(message) is None


def test_only_the_first_counts() -> None:
    """A second Subject does not replace the first; leading empty lines are no end of the headers."""
    assert read("\nSubject: first\nSubject: second\n") == {"subject": "first"}


@pytest.mark.parametrize("text", ["x", "\x01", "\x7f", "\u202e", "\U0001f600", '"'])
@pytest.mark.parametrize("name", ["Subject", "X-Job"])
def test_it_is_bounded(name: str, text: str) -> None:
    """Each value and all together, also in characters that JSON escapes, and with a megabyte in one field or in many."""
    for message in (f"{name}: {text * 300_000}\n", f"{name}: {text * 100}\n" * 3000, f"{name}: {text}\n" * 30_000):
        raw = original_of(message, ("x-*",))
        assert raw is not None
        assert 0 < len(bytes(raw)) <= ORIGINAL_LIMIT
        json.loads(bytes(raw))


@given(st.text(st.sampled_from("XSubject-:?=utf8qQbB \t\r\n\x00\x1b\u2028\U0001f600"), max_size=200) | st.binary(max_size=100))
def test_any_message(message: str | bytes) -> None:
    """Whatever comes back, it is one line of JSON or nothing."""
    raw = original_of(message, ("x*",))
    assert raw is None or (len(bytes(raw)) <= ORIGINAL_LIMIT and b"\n" not in bytes(raw) and json.loads(bytes(raw)))


@pytest.mark.parametrize("compat", [None, "kumomta"])
def test_in_records(compat: Any) -> None:
    """OOB and Feedback records have it, a Reception does not; the settings name more headers."""
    under = settings(DOMAINS, compat=compat, original_headers=("x-job",))
    part = b"--cut\r\nContent-Type: text/rfc822-headers\r\n\r\n" + RETURNED.partition("\n\n")[0].encode() + b"\r\n--cut--"
    for message, to, kinds in (
        (OOB.replace(b"--cut--", part), "b@bounce.example.com", {"Reception": None, "OOB": USUAL | {"x-job": "7"}}),
        (ARF, "f@fbl.example.com", {"Feedback": {"from": "news@example.com", "subject": "news"}}),
    ):
        outcome = play(session(under), [*hello(), *envelope([to]), *content(message)])[-1]
        found = [json.loads(encode(record)) for record in outcome.records]
        assert {record["type"]: record["meta"].get("original") for record in found} == kinds


def test_a_thousand_bounces_share_it() -> None:
    """It is read and encoded once."""
    report = status(b"Final-Recipient: rfc822; a@b\nAction: failed\n\n" * 1000)
    report += b"--b\nContent-Type: message/rfc822\n\nSubject: x\n"
    outcome = play(session(settings(DOMAINS)), [*hello(), *envelope(["b@bounce.example.com"]), *content(report)])[-1]
    bounces = [record for record in outcome.records if record.type == "OOB"]
    assert len(bounces) == 1000
    assert len({id(record.meta["original"]) for record in bounces}) == 1
