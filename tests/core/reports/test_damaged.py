"""Bounce reports that lack something: a boundary, a recipient, a status, the begin of the header section."""

from typing import Final

import pytest

from sidecar.core.reports.reading import read
from sidecar.core.reports.values import ReportReading

HEAD: Final = (
    "From: MAILER-DAEMON@mx.receiver.example\nTo: news-17@bounce.sender.example\nSubject: Undelivered mail\n"
    'Content-Type: multipart/report; report-type=delivery-status; boundary="%s"\n'
)
TEXT: Final = "Your message could not be delivered to these recipients:\n\n  <lena@receiver.example>: 550 5.1.1 unknown\n"
REPORTER: Final = "Reporting-MTA: dns; mx.receiver.example\n"
RECIPIENT: Final = "Final-Recipient: rfc822; lena@receiver.example\nAction: failed\nStatus: 5.1.1\n"


def report(status: str, *, boundary: str = "b", text: str = TEXT) -> bytes:
    parts = {"text/plain": text, "message/delivery-status": status, "text/rfc822-headers": "Subject: Minutes\n"}
    body = "".join(f"\n--b\nContent-Type: {kind}\n\n{content}" for kind, content in parts.items())
    return f"{HEAD % boundary}{body}\n--b--\n".encode()


def recipients(reading: ReportReading) -> list[tuple[str, str]]:
    """Return the address and the action of each recipient."""
    assert reading.oob is not None
    entries = reading.oob.per_recipient
    return [("" if entry.final_recipient is None else entry.final_recipient.recipient, entry.action) for entry in entries]


@pytest.mark.parametrize("boundary", ["other", "b.2", "B"])
def test_another_boundary(boundary: str) -> None:
    """Gateways write a boundary into the header section that the body does not have: the body's own counts."""
    reading = read(report(f"{REPORTER}\n{RECIPIENT}", boundary=boundary))
    assert (recipients(reading), reading.read_as) == ([("lena@receiver.example", "failed")], "rfc3464")
    assert read(report(f"{REPORTER}\n{RECIPIENT}", boundary=boundary), strict=True).oob is None


@pytest.mark.parametrize(
    ("fields", "action"),
    [
        ("Action: expired\nStatus:\nDiagnostic-Code: Connection timed out\n", "failed"),
        ("Action: Undeliverable\n", "failed"),
        ("Action: failure\nStatus: 553 Exceeded the maximum size\n", "failed"),
        ("Action: expired\nStatus: 4.4.1\n", "delayed"),
        ("Status: 450 try later\n", "delayed"),
        ("Action: deliverable\nStatus: 2.1.5\nDiagnostic-Code: smtp; 250 2.1.5 Ok\n", "delivered"),
    ],
)
def test_action(fields: str, action: str) -> None:
    """The class of Status, or of a reply in it or beside it, says what another word means; without any the word does."""
    reading = read(report(f"{REPORTER}\nFinal-Recipient: rfc822; lena@receiver.example\n{fields}"))
    assert recipients(reading) == [("lena@receiver.example", action)]


def test_action_without_meaning() -> None:
    """An unknown word without a status or a reply is no failure: the report is unparsable, whatever its text says."""
    reading = read(report(f"{REPORTER}\nFinal-Recipient: rfc822; lena@receiver.example\nAction: maybe\n"))
    assert not reading.is_report


@pytest.mark.parametrize("status", [REPORTER, "", "Message removed\n"])
def test_recipients_of_the_text(status: str) -> None:
    """A status part that names no recipient leaves this to the text."""
    reading = read(report(status))
    assert (recipients(reading), reading.read_as) == ([("lena@receiver.example", "failed")], "text:general")
    assert reading.oob is not None
    assert reading.oob.per_message.reporting_mta is not None
    assert ("peer_address.name" in (reading.oob.per_recipient[0].derived or ())) is (status != REPORTER)
    assert not read(report(status, text="Sorry.\n")).is_report or status == REPORTER
    assert read(report(status), text=False).is_report == (status == REPORTER)


def test_a_lost_delivery_report() -> None:
    """Postfix does not know the recipient any more: the record has none, and the sender's address identifies it."""
    reading = read(report(REPORTER, text="This is the mail system.\n\n\t--- Delivery report unavailable ---\n"))
    assert (recipients(reading), reading.read_as) == ([("", "failed")], "text:postfix")


@pytest.mark.parametrize("front", ["\n", "\r\n\r\n", "Received: from x by y; Mon, 5 Oct 2026 10:00:00 +0000\n\n"])
def test_an_empty_line_before_the_header_section(front: str) -> None:
    """What follows is the header section, also behind the fields that an MTA added."""
    reading = read(front.encode() + report(f"{REPORTER}\n{RECIPIENT}"), null_sender=True)
    assert (recipients(reading), reading.read_as) == ([("lena@receiver.example", "failed")], "rfc3464")
    text = read(front.encode() + b"From: MAILER-DAEMON@mx.receiver.example\nSubject: failure notice\n\n" + TEXT.encode())
    assert not read(front.encode() + b"From: x\n").is_report
    assert (recipients(text), text.read_as) == ([("lena@receiver.example", "failed")], "text:general")


def test_an_empty_line_before_other_mail() -> None:
    """The body of a letter is no header section."""
    assert not read(b"\n\nHello\n", null_sender=True).is_report
    assert not read(b"From: Anna <anna@sender.example>\n\n" + report(f"{REPORTER}\n{RECIPIENT}"), null_sender=True).is_report
