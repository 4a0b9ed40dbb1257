"""Strict reading: what KumoMTA's readers demand, one demand at a time, and nothing else."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.core.reports import read
from tests import DATA
from tests.core.session.driving import ARF, OOB

CORPUS = sorted((DATA / "reports").glob("*.eml"))
MESSAGE = b"Reporting-MTA: dns; mx.example.net\r\n"
FULL_ARF = ARF.replace(
    b"Version: 1\r\n",
    b"Version: 1\r\nIncidents: 3\r\nOriginal-Mail-From: <a@b.example>\r\nOriginal-Rcpt-To: c@d.example\r\n"
    b"Reporting-MTA: dns; mx.example\r\nArrival-Date: some day\r\n",
)


def changed(message: bytes, old: bytes, new: bytes) -> bytes:
    assert message.count(old) >= 1
    return message.replace(old, new, 1)


@pytest.mark.parametrize("path", CORPUS, ids=lambda path: path.stem)
def test_strict_is_narrower(path: Path) -> None:
    """What is a report strictly is one leniently, and says the same."""
    message = path.read_bytes()
    strict, lenient = read(message, strict=True), read(message)
    assert strict.oob in (None, lenient.oob)
    assert strict.arf in (None, lenient.arf)
    assert (strict.arf or strict.oob) is not None or strict.why.startswith("not a report, because ")


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        (b"", b"", None),
        (MESSAGE, b"", "its fields have lines that are not fields|its reporting-mta is missing"),
        (MESSAGE, MESSAGE * 2, "its reporting-mta appears more than once"),
        (b"dns; mx", b"mx", "its reporting-mta is invalid"),
        (MESSAGE, MESSAGE + b"Arrival-Date: Thu, 02 Jul 26 18:55:38 UTC\r\n", None),
        (MESSAGE, MESSAGE + b"Arrival-Date: 2026-07-02 18:55:38\r\n", "its arrival-date is invalid"),
        (b"Thu, 02 Jul", b"Fri, 02 Jul", "its last-attempt-date is invalid"),
        (b"Thu, 02 Jul 2026 18:55:38 +0000", b"Wed, 01 Jul 2026 23:55:38 -0500", None),
        (b"Thu, 02 Jul", b"2 jul", None),
        (b"+0000", b"", "its last-attempt-date is invalid"),
        (b"Action: failed", b"Action: FAILED", "its action is invalid"),
        (b"Action: failed\r\n", b"", "its action is missing"),
        (b"Status: 5.1.1\r\n", b"", "its status is missing"),
        (b"5.1.1\r\n", b"5.1.1 (unknown)\r\n", None),
        (b"5.1.1\r\n", b"5.1\r\n", "its status is invalid"),
        (b"5.1.1\r\n", b"256.1.1\r\n", "its status is invalid"),
        (b"5.1.1\r\n", b"5.1.65536\r\n", "its status is invalid"),
        (b"smtp; 550", b"550", "its diagnostic-code is invalid"),
        (b"Final-Recipient: rfc822; gone@example.net\r\n", b"", "its final-recipient is missing"),
        (b"rfc822; gone@", b"gone@", "its final-recipient is invalid"),
        (b"rfc822; gone@example.net", b"rfc822; <gone@example.net>", None),
        (b"rfc822; gone@example.net", b"rfc822; gone", "its final-recipient is invalid"),
        (b"rfc822; gone@example.net", b"x-local; gone", None),
        (
            b"\r\n\r\nFinal-Recipient: rfc822; slow",
            b"\r\n\r\n\r\nFinal-Recipient: rfc822; slow",
            "its final-recipient is missing",
        ),
        (b"Content-Type: message/delivery", b"Content-Type: Message/Delivery", "not spelled message/delivery-status"),
        (b"multipart/report;", b"Multipart/Report;", "its Content-Type is not spelled multipart/report"),
        (MESSAGE, MESSAGE + "Naïve: x\r\n".encode(), "its fields have lines that are not fields"),
        (MESSAGE, MESSAGE + b"a line that is no field\r\n", None),
        (MESSAGE, MESSAGE + b"X-Folded: a\r\n b\r\n", None),
    ],
)
def test_bounces(old: bytes, new: bytes, fault: str | None) -> None:
    """One thing that is not as KumoMTA wants it, in the message's fields or any recipient's, spoils a bounce report."""
    message = changed(OOB, old, new)
    reading = read(message, strict=True)
    assert read(message).oob is not None
    if fault is None:
        assert reading.oob == read(message).oob
    else:
        assert reading.oob is None
        assert any(one in reading.why for one in fault.split("|"))


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        (b"", b"", None),
        (b"User-Agent: Isp/1.0\r\n", b"", "its user-agent is missing"),
        (b"Version: 1\r\n", b"", "its version is missing"),
        (b"Version: 1\r\n", b"Version: 1\r\nVersion: 1\r\n", "its version appears more than once"),
        (b"Incidents: 3", b"Incidents: many", "its incidents is invalid"),
        (b"Incidents: 3", b"Incidents: 4294967296", "its incidents is invalid"),
        (b"<a@b.example>", b"<redacted>", "its original-mail-from is invalid"),
        (b"<a@b.example>", b"<>", None),
        (b"c@d.example", b"redacted", "its original-rcpt-to is invalid"),
        (b"c@d.example", b'"c d"@[192.0.2.1]', None),
        (b"dns; mx.example", b"mx.example", "its reporting-mta is invalid"),
        (b"feedback-report;", b'"Feedback-Report";', "its report-type is not spelled feedback-report"),
        (b"message/feedback-report\r\n", b"message/Feedback-Report\r\n", "its Content-Type is not spelled"),
    ],
)
def test_complaints(old: bytes, new: bytes, fault: str | None) -> None:
    """One thing that is not as KumoMTA wants it spoils a feedback report; but its date may be anything."""
    message = changed(FULL_ARF, old, new)
    reading = read(message, strict=True)
    assert read(message).arf is not None
    assert reading.arf == (read(message).arf if fault is None else None)
    assert fault is None or fault in reading.why


def test_one_kind_may_be_left() -> None:
    """Of a message that is both kinds, the one that is read strictly stays."""
    both = (CORPUS[0].parent / "arf-and-oob.eml").read_bytes()
    spoilt = read(both.replace(b"Action: failed", b"Action: Failed"), strict=True)
    assert spoilt.arf is not None
    assert spoilt.oob is None
    assert spoilt.why.startswith("a feedback report")


@given(
    st.lists(st.sampled_from([b"\r\n", b"\n", b"\r", b" ", b":", b";", b"Action", b"<", b'"', b"\\", b"(", b"\xff", b"a@b"]))
)
def test_never_raises(pieces: list[bytes]) -> None:
    """Whatever stands in the fields, strict reading gives an answer."""
    for message, at in ((OOB, b"Reporting-MTA: "), (ARF, b"Version: ")):
        read(message.replace(at, at + b"".join(pieces)), strict=True)
