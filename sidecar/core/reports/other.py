"""Messages that programs send and that are no reports of KumoMTA's two kinds -> their kind.

Owns how a read receipt, a TLS report, a DMARC report and an automatic reply look. Never reads what they say.
"""

import re
from collections.abc import Iterable

from sidecar.core.reports import mime
from sidecar.core.reports.fields import blocks
from sidecar.core.reports.values import OtherKind

NAMES: dict[OtherKind, str] = {
    "mdn": "a read receipt (MDN)",
    "tls_report": "a TLS report (TLS-RPT)",
    "dmarc_report": "a DMARC aggregate report",
    "auto_reply": "an automatic reply",
}

_RECEIPTS = frozenset((b"message/disposition-notification", b"message/global-disposition-notification"))
_TLS_REPORTS = {b"application/tlsrpt+gzip": b"\x1f\x8b", b"application/tlsrpt+json": b"{"}
_DMARC_REPORTS = frozenset(
    (
        *(
            b"application/gzip",
            b"application/x-gzip",
            b"application/zip",
            b"application/x-zip",
            b"application/x-zip-compressed",
        ),
        *(b"application/xml", b"text/xml", b"application/octet-stream"),
    )
)
# RFC 7489 section 7.2.1.1.
_DMARC_SUBJECT = re.compile(rb"\breport[\s_-]*domain:\s*+\S.{0,500}?\breport-?id:\s*+\S", re.IGNORECASE | re.DOTALL)
_SUBJECT_LIMIT = 2000
# A bounce has the mark of an automatic reply too (RFC 3834 section 5).
_FROM_A_MAILER = re.compile(rb"mailer-daemon|postmaster", re.IGNORECASE)
_AUTO_REPLY_FIELDS = (b"x-autoreply", b"x-autorespond", b"x-autoreply-from")
_REPORT_TYPES = frozenset((b"delivery-status", b"feedback-report"))


def other_kind(head: bytes, top: mime.ContentType, parts: Iterable[mime.Part]) -> OtherKind | None:
    """Return the kind of a message that is no report, or None. `parts` is read only if the header section permits a kind."""
    if top.media_type == mime.REPORT:
        parts = list(parts)
        if any(map(_is_receipt, parts)):
            return "mdn"
        if any(map(_is_tls_report, parts)):
            return "tls_report"
    if _has_dmarc_subject(head) and (top.media_type in _DMARC_REPORTS or any(p.media_type in _DMARC_REPORTS for p in parts)):
        return "dmarc_report"
    report_type = (top.report_type or b"").strip().lower()
    return "auto_reply" if report_type not in _REPORT_TYPES and _is_auto_reply(head) else None


def _is_receipt(part: mime.Part) -> bool:
    """Return True for a part with the field that each receipt has (RFC 8098 section 3.2.6)."""
    if part.media_type not in _RECEIPTS:
        return False
    body = mime.transfer_decoded(part)
    return body is not None and any(name == "disposition" and value for block in blocks(body) for name, value in block)


def _is_tls_report(part: mime.Part) -> bool:
    """Return True for the JSON of RFC 8460, plain or compressed, as far as its first bytes say."""
    start = _TLS_REPORTS.get(part.media_type)
    body = None if start is None else mime.transfer_decoded(part)
    return body is not None and start is not None and body.lstrip().startswith(start)


def _has_dmarc_subject(head: bytes) -> bool:
    subject = mime.header(head, b"subject")
    return subject is not None and _DMARC_SUBJECT.search(subject[:_SUBJECT_LIMIT]) is not None


def _is_auto_reply(head: bytes) -> bool:
    if _FROM_A_MAILER.search(mime.header(head, b"from") or b"") or mime.header(head, b"x-failed-recipients") is not None:
        return False
    if (mime.header(head, b"auto-submitted") or b"").strip().lower().startswith(b"auto-replied"):
        return True
    precedence = (mime.header(head, b"precedence") or b"").strip().lower()
    return precedence in {b"auto_reply", b"auto-reply"} or any(
        mime.header(head, name) is not None for name in _AUTO_REPLY_FIELDS
    )
