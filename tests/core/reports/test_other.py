"""Messages of other kinds are named, and a message that is a report is never one of them."""

import base64
import gzip
from pathlib import Path

import pytest

from sidecar.core.reports.reading import read
from tests import DATA

FOLDER = DATA / "reports"
NAMED = {
    "none-read-receipt": "mdn",
    "none-read-receipt-deleted": "mdn",
    "none-read-receipt-encoded": "mdn",
    "none-tls-report": "tls_report",
    "none-tls-report-json": "tls_report",
    "none-dmarc-report": "dmarc_report",
    "none-dmarc-report-alone": "dmarc_report",
    "none-auto-reply-report": "auto_reply",
    "none-auto-reply-precedence": "auto_reply",
    "none-vacation": "auto_reply",
}


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.eml")), ids=lambda path: path.stem)
def test_kind(path: Path) -> None:
    """Each well-formed message of another kind has its name, also with compat; no other message has one."""
    assert read(path.read_bytes(), strict=True).other == NAMED.get(path.stem)
    assert read(path.read_bytes(), strict=False).other == NAMED.get(path.stem)


@pytest.mark.parametrize(
    ("subject", "kind"),
    [
        (b"Report Domain: a.example Submitter: b.example Report-ID: <1>", "dmarc_report"),
        (b"[Preview] Report Domain: a.example;\n Submitter: b.example; Report-ID: 1", "dmarc_report"),
        (b"Report domain: Report-ID:", None),
        (b"A report about our domain: it is fine", None),
    ],
)
def test_dmarc_subject(subject: bytes, kind: str | None) -> None:
    """A DMARC report has the subject of RFC 7489, and a part that can be one."""
    message = b"Subject: " + subject + b"\nContent-Type: multipart/mixed; boundary=b\n\n--b\nContent-Type: %b\n\nx\n--b--\n"
    assert read(message % b"application/zip").other == kind
    assert read(message % b"image/png").other is None


@pytest.mark.parametrize(
    ("fields", "kind"),
    [
        (b"From: jo@a.example\nAuto-Submitted: auto-replied; owner-email=jo@a.example", "auto_reply"),
        (b"From: jo@a.example\nAuto-Submitted: Auto-Replied", "auto_reply"),
        (b"From: jo@a.example\nX-Autoreply: yes", "auto_reply"),
        (b"From: jo@a.example\nX-Vacation: yes", "auto_reply"),
        (b"From: jo@a.example\nList-Id: <a.example>", None),
        (b"From: jo@a.example\nAuto-Submitted: auto-generated", None),
        (b"From: jo@a.example\nAuto-Submitted: no", None),
        (b"From: jo@a.example\nX-Failed-Recipients: ann@b.example\nAuto-Submitted: auto-replied", None),
        (b"From: Mail <MAILER-DAEMON@a.example>\nAuto-Submitted: auto-replied", None),
        (b"From: Mail Delivery System <x@a.example>\nPrecedence: auto_reply", None),
    ],
)
def test_automatic_reply(fields: bytes, kind: str | None) -> None:
    """A bounce has the mark of an automatic reply too, and is none."""
    assert read(fields + b"\n\nI am away.\n").other == kind


DMARC = b"From: a@b.example\nSubject: Report Domain: a.example Submitter: b.example Report-ID: <1>\n"
FROM = b"From: a@b.example\nSubject: Report\n"
TLS = FROM + b"TLS-Report-Domain: a.example\n"
RECEIPT = b"Final-Recipient: rfc822;jo@b.example\nDisposition: manual-action/MDN-sent-manually; displayed\n"
JSON, XML, WIDE = b'{"organization-name": "b"}', b"<feedback/>", RECEIPT.decode().encode("utf-16")
GZ_JSON, GZ_XML = gzip.compress(JSON, mtime=0), gzip.compress(XML, mtime=0)
FILE = b'; name="b.example!a.example!1700000000!1700086399.xml.gz"'


@pytest.mark.parametrize(
    ("head", "top", "part", "body", "kind"),
    [
        (FROM, b"report; report-type=disposition-notification", b"message/disposition-notification", RECEIPT, "mdn"),
        (FROM, b"report", b"Message/Global-Disposition-Notification;", RECEIPT, "mdn"),
        (FROM, b"report", b"message/disposition-notification; charset=utf-16", WIDE, "mdn"),
        (FROM, b"report; report-type=disposition-notification", b"message/disposition-notification", b"a: b\n", None),
        (FROM, b"report", b"application/pkcs7-mime; smime-type=signed-receipt", b"abc", "mdn"),
        (FROM, b"report", b"application/pkcs7-mime; smime-type=enveloped-data", b"abc", None),
        (FROM, b"report; report-type=TLSRPT", b"application/tlsrpt+json", b"\xef\xbb\xbf\n" + JSON, "tls_report"),
        (FROM, b"report; report-type=tlsrpt", b"application/octet-stream", GZ_JSON, "tls_report"),
        (FROM, b"report; report-type=tlsrpt", b"application/gzip", b"PK", None),
        (TLS, b"report", b"application/json", JSON, "tls_report"),
        (TLS, b"mixed", b"application/x-gzip", GZ_JSON, "tls_report"),
        (FROM, b"mixed", b"application/json", JSON, None),
        (DMARC, b"mixed", b"application/x-gzip-compressed", GZ_XML, "dmarc_report"),
        (DMARC.replace(b"Report Domain", b"=?utf-8?q?Report_Domain?="), b"mixed", b"text/xml", XML, "dmarc_report"),
        (
            FROM.replace(b"Report", b"Your DMARC report"),
            b"mixed",
            b"application/gzip" + FILE,
            GZ_XML,
            "dmarc_report",
        ),
        (FROM, b"report; report-type=dmarc", b"application/gzip" + FILE, GZ_XML, "dmarc_report"),
        (FROM, b"mixed", b"application/gzip" + FILE, GZ_XML, None),
        (FROM, b"report; report-type=dmarc", b"application/gzip", GZ_XML, None),
        (FROM, b"report; report-type=tracking-status", b"message/tracking-status", b"Action: failed\n", "other_report"),
        (FROM, b"report; report-type=X400-Delivery-Report", b"message/x400-delivery-report", b"x\n", "other_report"),
        (FROM, b"report; report-type=tracking-status", b"message/tracking-status", b"", None),
        (FROM, b"report; report-type=tracking-status", b"text/plain", b"x\n", None),
        (FROM, b"mixed; report-type=tracking-status", b"message/tracking-status", b"x\n", None),
    ],
)
def test_spellings(head: bytes, top: bytes, part: bytes, body: bytes, kind: str | None) -> None:
    """A report of another kind has its name in all usual spellings; what only looks like one has none."""
    message = head + b"Content-Type: multipart/" + top + b"; boundary=b\n\n--b\n\nSee below.\n--b\nContent-Type: " + part
    encoded = b"\nContent-Transfer-Encoding: base64\n\n" + base64.encodebytes(body) + b"\n--b--\n"
    for reading in (read(message + encoded), read(message + encoded, strict=True)):
        assert reading.other == kind
        assert not reading.is_report


def test_a_bounce_of_another_type() -> None:
    """A report of an unknown type is a bounce if its text is one: no bounce is lost for its type."""
    head = (
        b"From: MAILER-DAEMON@b.example\nSubject: Undelivered Mail\nContent-Type: multipart/report; report-type=x; boundary=b\n"
    )
    text = b"\n--b\n\nYour message could not be delivered to:\n\n<jo@b.example>: 550 5.1.1 no such user\n"
    message = head + text + b"--b\nContent-Type: message/x\n\nx\n"
    found = read(message, null_sender=True)
    assert found.other is None
    assert found.oob is not None
    assert read(message, null_sender=True, text=False).other == "other_report"
