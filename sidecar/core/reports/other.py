"""Messages that programs send and that are no reports of KumoMTA's two kinds -> their kind.

Owns how a read receipt, a TLS report, a DMARC report, an automatic reply and other reports look. Never reads what they say.
"""

import re
from collections.abc import Iterable

from sidecar.core.reports import mime
from sidecar.core.reports.charsets import in_utf_8
from sidecar.core.reports.fields import blocks, unstructured
from sidecar.core.reports.text import answers_automatically, is_from_mailer
from sidecar.core.reports.values import OtherKind

NAMES: dict[OtherKind, str] = {
    "mdn": "a read receipt (MDN)",
    "tls_report": "a TLS report (TLS-RPT)",
    "dmarc_report": "a DMARC aggregate report",
    "auto_reply": "an automatic reply",
    "other_report": "a report of another type",
}

_RECEIPTS = frozenset((b"message/disposition-notification", b"message/global-disposition-notification"))
_SIGNED_RECEIPTS = frozenset((b"application/pkcs7-mime", b"application/x-pkcs7-mime"))
_TLS_REPORTS = frozenset((b"application/tlsrpt+gzip", b"application/tlsrpt+json"))
# What programs write instead, if the header section says that it is a TLS report.
_TLS_FILES = frozenset((*(b"application/" + kind for kind in (b"gzip", b"x-gzip", b"json", b"octet-stream")), b"text/json"))
_TLS_BEGINNINGS = (b"\x1f\x8b", b"{")
_DMARC_REPORTS = frozenset(
    (
        *(b"application/" + kind for kind in (b"gzip", b"x-gzip", b"gzip-compressed", b"x-gzip-compressed")),
        *(b"application/" + kind for kind in (b"zip", b"x-zip", b"x-zip-compressed", b"xml", b"octet-stream")),
        b"text/xml",
    )
)
# RFC 7489 section 7.2.1.1.
_DMARC_SUBJECT = re.compile(rb"\breport[\s_-]*domain:\s*+\S.{0,500}?\breport-?id:\s*+\S", re.IGNORECASE | re.DOTALL)
_SUBJECT_LIMIT = 2000
# The name of the file, also RFC 7489 section 7.2.1.1: reporter, domain, begin and end.
_DMARC_FILE = re.compile(rb"![0-9]{9,11}![0-9]{9,11}(?:![^\s\"!]{0,100})?\.(?:xml|zip|gz)", re.IGNORECASE)
_REPORT_TYPES = frozenset((b"delivery-status", b"feedback-report"))
_RECEIPT = b"disposition-notification"


def other_kind(head: bytes, top: mime.ContentType, parts: Iterable[mime.Part]) -> OtherKind | None:
    """Return the kind of a message that is no report, or None. `parts` is read only if the header section permits a kind."""
    report_type = top.report_type
    is_tls = report_type == b"tlsrpt" or mime.header(head, b"tls-report-domain") is not None
    is_report = top.media_type == mime.REPORT
    if is_report or is_tls:
        parts = list(parts)
    if is_report and any(map(_is_receipt, parts)):
        return "mdn"
    if (is_report or is_tls) and any(_is_tls_report(part, is_tls=is_tls) for part in parts):
        return "tls_report"
    if _is_dmarc_report(head, top, parts):
        return "dmarc_report"
    if report_type not in _REPORT_TYPES and answers_automatically(head) and not is_from_mailer(head):
        # A bounce can have the marks of an automatic reply (RFC 3834 section 5).
        return "auto_reply"
    is_other = is_report and report_type not in _REPORT_TYPES and any(_is_of_type(part, report_type) for part in parts)
    return "other_report" if is_other else None


def _is_receipt(part: mime.Part) -> bool:
    """Return True for a part with the field that each receipt has (RFC 8098 section 3.2.6), or a signed receipt (RFC 2634)."""
    if part.media_type in _SIGNED_RECEIPTS:
        return b"signed-receipt" in (mime.header(part.head, b"content-type") or b"").lower()
    if part.media_type not in _RECEIPTS:
        return False
    body = mime.transfer_decoded(part)
    if body is None:
        return False
    text = in_utf_8(body, mime.header(part.head, b"content-type"))
    return any(name == "disposition" and value for block in blocks(text) for name, value in block)


def _is_tls_report(part: mime.Part, *, is_tls: bool) -> bool:
    """Return True for the JSON of RFC 8460, plain or compressed, as far as its first bytes say."""
    if part.media_type not in _TLS_REPORTS and not (is_tls and part.media_type in _TLS_FILES):
        return False
    body = mime.transfer_decoded(part)
    return body is not None and body.removeprefix(b"\xef\xbb\xbf").lstrip().startswith(_TLS_BEGINNINGS)


def _is_dmarc_report(head: bytes, top: mime.ContentType, parts: Iterable[mime.Part]) -> bool:
    """Return True if the subject or the name of a file is that of RFC 7489, and a part can be the report."""
    subject = mime.header(head, b"subject") or b""
    text = unstructured(subject, _SUBJECT_LIMIT).encode() if b"=?" in subject else subject[:_SUBJECT_LIMIT]
    if _DMARC_SUBJECT.search(text):
        return top.media_type in _DMARC_REPORTS or any(part.media_type in _DMARC_REPORTS for part in parts)
    if top.media_type != mime.REPORT and b"dmarc" not in text.lower():
        return False
    return any(part.media_type in _DMARC_REPORTS and _DMARC_FILE.search(part.head) is not None for part in parts)


def _is_of_type(part: mime.Part, report_type: bytes) -> bool:
    """Return True for the part that a report of a type has: of the same name (RFC 6522 section 3), and not empty."""
    kind, _, name = part.media_type.partition(b"/")
    is_named = kind in {b"message", b"application"} and name == report_type and report_type != _RECEIPT
    return is_named and part.body.strip() != b""
