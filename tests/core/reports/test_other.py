"""Messages of other kinds are named, and a message that is a report is never one of them."""

from pathlib import Path

import pytest

from sidecar.core.reports import read
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
@pytest.mark.parametrize("strict", [True, False])
def test_kind(path: Path, *, strict: bool) -> None:
    """Each well-formed message of another kind has its name, also with compat; no other message has one."""
    assert read(path.read_bytes(), strict=strict).other == NAMED.get(path.stem)


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
        (b"From: jo@a.example\nAuto-Submitted: auto-generated", None),
        (b"From: jo@a.example\nAuto-Submitted: no", None),
        (b"From: jo@a.example\nX-Failed-Recipients: ann@b.example\nAuto-Submitted: auto-replied", None),
        (b"From: Mail <MAILER-DAEMON@a.example>\nAuto-Submitted: auto-replied", None),
    ],
)
def test_automatic_reply(fields: bytes, kind: str | None) -> None:
    """A bounce has the mark of an automatic reply too, and is none."""
    assert read(fields + b"\n\nI am away.\n").other == kind
