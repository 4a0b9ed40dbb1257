"""Records made of what a report says."""

import msgspec
import pytest

from sidecar.records import oob_bounces, visible
from sidecar.records.build import Facts
from sidecar.reports.oob import read_status
from sidecar.reports.values import OobReport
from tests.session.driving import NODE, NOON

FACTS = Facts(
    node_id=NODE,
    session_id=NODE,
    message_id="0" * 32,
    now=NOON,
    created=NOON,
    peer="203.0.113.9",
    helo="peer.example.net",
    sender="",
    listener=None,
    authz_id=None,
    queue_id=None,
    headers={},
)


@pytest.mark.parametrize(
    ("date", "instant", "seconds"),
    [
        ("Thu, 02 Jul 2026 18:55:38 +0000", "2026-07-02T18:55:38.000000Z", 1783018538),
        ("31 Dec 1969 23:59:59 +0000", "1969-12-31T23:59:59.000000Z", -1),
        ("1 Jan 0001 00:00:00 +0000", "0001-01-01T00:00:00.000000Z", -62135596800),
        ("1 Jan 0001 00:00:00 +0100", "2026-09-21T14:13:20.250000Z", int(NOON)),
        ("31 Dec 9999 23:59:60 +0000", "9999-12-31T23:59:59.000000Z", 253402300799),
        ("31 Dec 9999 23:59:59 -0001", "2026-09-21T14:13:20.250000Z", int(NOON)),
        ("yesterday", "2026-09-21T14:13:20.250000Z", int(NOON)),
    ],
)
def test_a_bounce_is_dated_by_its_report(date: str, instant: str, seconds: int) -> None:
    """The report's Last-Attempt-Date is the record's instant, written with a year of four digits; else it is now."""
    report = read_status(f"Final-Recipient: rfc822; a@b.example\nAction: failed\nLast-Attempt-Date: {date}\n".encode(), None)
    assert isinstance(report, OobReport)
    (record,) = oob_bounces(FACTS, report=report, recipient="b@bounce.example.com", queue="bounce.example.com", why="-")
    assert (record.event_time, record.timestamp) == (instant, seconds)


def test_what_plays_with_terminals_is_escaped_in_json() -> None:
    """Controls, separators of lines and marks that turn text around are escaped; the values stay, as does other text."""
    text = "a\x9b2J\x85\u2028\u202e\u2066\x7f\u00e9\u20ac"
    line = visible(msgspec.json.encode(text))
    assert msgspec.json.decode(line) == text
    assert line == b'"a\\u009b2J\\u0085\\u2028\\u202e\\u2066\\u007f\xc3\xa9\xe2\x82\xac"'
