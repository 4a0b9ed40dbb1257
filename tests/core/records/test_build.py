"""Records made of what a report says."""

import msgspec
import pytest
from msgspec.structs import replace

from sidecar.core.records import (
    UNCATEGORIZED,
    EnhancedCode,
    Facts,
    Response,
    oob_bounces,
    rejections,
)
from sidecar.core.reports.arf import read_feedback
from sidecar.core.reports.oob import read_status
from sidecar.core.reports.values import ArfReport, OobReport
from sidecar.core.text import printable_json
from tests.core.records.making import FACTS, reception, refusal_of, to
from tests.core.session.driving import NOON


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
    ((record,),) = oob_bounces(FACTS, [to("b@bounce.example.com")], report=report)
    assert (record.event_time, record.timestamp) == (instant, seconds)


def test_what_plays_with_terminals_is_escaped_in_json() -> None:
    """Controls, separators of lines and marks that turn text around are escaped; the values stay, as does other text."""
    text = "a\x9b2J\x85\u2028\u202e\u2066\x7f\u00e9\u20ac"
    line = printable_json(msgspec.json.encode(text))
    assert msgspec.json.decode(line) == text
    assert line == b'"a\\u009b2J\\u0085\\u2028\\u202e\\u2066\\u007f\xc3\xa9\xe2\x82\xac"'


ENHANCED = EnhancedCode(class_=5, subject=1, detail=1)
REFUSAL = Response(code=550, enhanced_code=ENHANCED, content="no", command="RCPT TO:<x@y.example>")


def oob(fields: str, facts: Facts = FACTS) -> list[str]:
    """Return the classes of a report's bounces."""
    report = read_status(fields.encode(), None)
    assert isinstance(report, OobReport)
    (records,) = oob_bounces(facts, [to("b@bounce.example.com")], report=report)
    return [record.bounce_classification for record in records]


@pytest.mark.parametrize(
    ("response", "line"),
    [
        (Response(code=550), "550 "),
        (Response(code=250, content="fine"), "250 fine"),
        (Response(code=550, enhanced_code=ENHANCED), "550 5.1.1 "),
        (Response(code=550, enhanced_code=ENHANCED, content="5.1.1 no\r\nsuch\tuser"), "550 5.1.1 5.1.1 no\\r\\nsuch\tuser"),
    ],
)
def test_a_response_as_one_line(response: Response, line: str) -> None:
    """Rules are written for the line that KumoMTA makes of a response: codes, a space after each, line ends written out."""
    assert response.line == line


def test_bounces_and_refusals_have_a_class() -> None:
    """The class is the one of the response that the record itself has; what was taken has none."""
    asked: list[str] = []

    def classify(line: str) -> str | None:
        asked.append(line)
        return None if "gone" in line else line.partition(" ")[0]

    facts = replace(FACTS, classify=classify)
    one = "Final-Recipient: rfc822; a@b.example\nAction: failed\n"
    fields = f"{one}Status: 5.1.1\nDiagnostic-Code: smtp; 552 full\n\n{one}Diagnostic-Code: smtp; 550 gone\n"
    assert oob(fields, facts) == ["552", UNCATEGORIZED]
    refused = refusal_of(facts, response=REFUSAL)
    assert refused.bounce_classification == "550"
    assert asked == ["552 5.1.1 full", "550 gone", "550 5.1.1 no"]
    assert rejections(refused, count=3, now=NOON, why="-").bounce_classification == "550"
    complaint = read_feedback(b"Feedback-Type: abuse\nUser-Agent: x\nVersion: 1\n", None, None)
    assert isinstance(complaint, ArfReport)
    taken = [
        reception(facts),
        reception(facts, quarantine="x.eml"),
    ]
    assert {record.bounce_classification for record in taken} == {"Uncategorized"}
    assert len(asked) == 3
    assert reception(facts, report=complaint).bounce_classification == "250"


def test_without_rules_all_is_uncategorized() -> None:
    """Where no rules are configured nothing has a class."""
    assert oob("Final-Recipient: rfc822; a@b.example\nAction: failed\nStatus: 5.1.1\n") == ["Uncategorized"]
    assert refusal_of(response=REFUSAL).bounce_classification == "Uncategorized"
