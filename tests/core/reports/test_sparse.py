"""Feedback reports that say little or nothing of the message: the returned header section says the rest."""

import time

import pytest

from sidecar.core.reports.reading import read
from sidecar.core.reports.values import ArfReport

SECTION = """Return-Path: <news-7@bounce.sender.example>
Received: from mx9.mailbox.example (10.0.0.9) by store.mailbox.example; Thu, 2 Jul 2026 19:00:01 +0200
Received: from app.sender.example ([198.51.100.17]) by mx9.mailbox.example with ESMTP
 for <Jo@Mailbox.example>; Thu, 2 Jul 2026 19:00:00 +0200
From: News <news@sender.example>
To: Jo <jo@mailbox.example>
Date: Thu, 2 Jul 2026 16:59:00 +0000
Message-ID: <m7@sender.example>
"""
ARRIVAL, SENDER, RECIPIENT = (f"feedback_report.{name}" for name in ("arrival_date", "original_mail_from", "original_rcpto_to"))
ALL = (ARRIVAL, SENDER, RECIPIENT, "meta.original.message_id")


def complaint(fields: str = "", section: str = SECTION, kind: str = "text/rfc822-headers") -> bytes:
    return (
        'Content-Type: multipart/report; report-type=feedback-report; boundary="b"\n\n--b\n'
        "Content-Type: message/feedback-report\n\n"
        f"Feedback-Type: abuse\nUser-Agent: Provider/1\nVersion: 1\n{fields}\n--b\n"
        f"Content-Type: {kind}\n\n{section}\n--b--\n"
    ).encode()


def values(message: bytes) -> tuple[list[str], str | None, str | None, tuple[str, ...]]:
    reading = read(message)
    assert isinstance(reading.arf, ArfReport)
    return reading.arf.original_rcpto_to, reading.arf.original_mail_from, reading.arf.arrival_date, reading.derived


@pytest.mark.parametrize("kind", ["text/rfc822-headers", "message/rfc822"])
def test_a_report_that_says_only_its_type(kind: str) -> None:
    """Recipient, sender and date are those of the returned message, and named as derived."""
    expected = (["Jo@mailbox.example"], "news-7@bounce.sender.example", "2026-07-02T17:00:01Z", ALL)
    assert values(complaint(kind=kind)) == expected


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        (
            "Original-Rcpt-To: <other@mailbox.example>\n",
            (["other@mailbox.example"], "news-7@bounce.sender.example", "2026-07-02T17:00:01Z", ALL[:2]),
        ),
        (
            "Original-Mail-From: <>\nReceived-Date: Wed, 1 Jul 2026 00:00:00 +0000\n",
            (["Jo@mailbox.example"], "", "2026-07-01T00:00:00Z", (RECIPIENT,)),
        ),
        (
            "Original-Rcpt-To: redacted\nArrival-Date: yesterday\n",
            (["redacted"], "news-7@bounce.sender.example", None, (SENDER,)),
        ),
    ],
)
def test_nothing_reported_is_overwritten(fields: str, expected: tuple[object, ...]) -> None:
    """A field that was reported keeps its value: also the null sender, a redacted address, and a date that none can read."""
    assert values(complaint(fields)) == expected


@pytest.mark.parametrize(
    ("section", "recipients", "sender", "date"),
    [
        ("X-HmXmrOriginalRecipient: jo@outlook.example\nTo: list@sender.example\n", ["jo@outlook.example"], None, None),
        ("Delivered-To: jo@mailbox.example\nTo: list@sender.example\n", ["jo@mailbox.example"], None, None),
        ("To: jo@mailbox.example, al@mailbox.example\n", [], None, None),
        ("To: redacted@mailbox.example\n", [], None, None),
        ("To: undisclosed-recipients:;\nFrom: <redacted@sender.invalid>\n", [], None, None),
        ("From: News <News@Sender.example>\n", [], "News@sender.example", None),
        (
            "Authentication-Results: mx; spf=pass smtp.mailfrom=b@sender.example\nFrom: a@x.example\n",
            [],
            "b@sender.example",
            None,
        ),
        ("Received: from a by b; whenever\nDate: 2 Jul 2026 16:59:00 +0000\n", [], None, "2026-07-02T16:59:00Z"),
        ("Subject: nothing of use\n", [], None, None),
        ("", [], None, None),
    ],
)
def test_where_each_value_is_found(section: str, recipients: list[str], sender: str | None, date: str | None) -> None:
    """The surest field counts, and a redacted address or one of several recipients never does."""
    *found, derived = values(complaint(section=section))
    assert found == [recipients, sender, date]
    named = {ARRIVAL: date, SENDER: sender, RECIPIENT: recipients}
    assert derived == tuple(name for name, value in named.items() if value)


def test_strict_reading_derives_nothing() -> None:
    """KumoMTA records what was reported."""
    reading = read(complaint().replace(b"\n", b"\r\n"), strict=True)
    assert reading.arf is not None
    assert (reading.arf.original_rcpto_to, reading.arf.original_mail_from, reading.derived, reading.read_as) == (
        [],
        None,
        (),
        "",
    )


@pytest.mark.parametrize(
    "line",
    ["Received: for <a", "Received: " + "for <" * 900, "Authentication-Results: " + "smtp.mail" * 200, "To: " + "<" * 900],
)
def test_hostile_header_sections_are_bounded(line: str) -> None:
    """A megabyte that is hard to read takes less than a second of CPU time."""
    section = (line + "\n") * (1_000_000 // len(line))
    began = time.process_time()
    read(complaint(section=section))
    assert time.process_time() - began < 1
