"""What external hosts may send: a megabyte of whatever is hard to read. The rooms that meet it are tested with all of it.

Owns the shapes. Never says what becomes of them.
"""

import base64
import random

MEGABYTE = 1_000_000
FAILED = "Action: failed\nStatus: 5.1.1\n"
HEAD = b'Content-Type: multipart/report; report-type=feedback-report; boundary="b"\r\n\r\n'
QUOTED_PRINTABLE = b"\r\nContent-Transfer-Encoding: quoted-printable"
FEEDBACK = HEAD + b"--b\nContent-Type: message/feedback-report\n\nFeedback-Type: abuse\n"
IDN = ".".join(["\u03b1\u03b2\u03b3\u03b4\u03b5\u03b6\u03b7\u03b8\u03b9\u03ba\u03bb\u03bc\u03bd\u03be\u03bf\u03c0"] * 4)
RETURNED = FEEDBACK + b"\n--b\nContent-Type: message/rfc822\n\n"


def many(piece: bytes) -> bytes:
    """Repeat a piece to a megabyte."""
    return piece * (MEGABYTE // len(piece))


def status(body: bytes, more: bytes = b"") -> bytes:
    """Put a body into a delivery-status part."""
    return HEAD + b"--b\r\nContent-Type: message/delivery-status" + more + b"\r\n\r\n" + body


def trace(text: bytes) -> bytes:
    """Put JSON into trace headers."""
    return RETURNED + many(b"X-KumoRef: " + base64.b64encode(text) + b"\n")


def content_type(parameters: bytes) -> bytes:
    """Put parameters into a Content-Type."""
    return b"Content-Type: multipart/report; " + parameters + b"\n\n--b\n"


HOSTILE = {
    "header fields": many(b"a:b\n") + HEAD,
    "almost a field name": many(b"content-type\n"),
    "field name and spaces": b"content-type" + many(b" "),
    "empty lines": many(b"\n"),
    "bare CR": many(b"\r"),
    "NUL": many(b"\0"),
    "no structure": random.Random(3464).randbytes(MEGABYTE),  # noqa: S311 - not for secrets
    "no structure in the part": status(random.Random(5965).randbytes(MEGABYTE)),  # noqa: S311 - not for secrets
    "long parameter": content_type(many(b"a")),
    "parameters": content_type(many(b"a=;")),
    "parameter names apart": content_type(many(b"a  ")),
    "folds": content_type(many(b"\n a=b;")),
    "open comments": content_type(many(b"(")),
    "comments and quotes": content_type(many(b'()"')),
    "escapes in comments": content_type(many(b"(\\")),
    "quotes": content_type(b"boundary=" + many(b'"')),
    "escaped quotes": content_type(b"boundary=" + many(b'"\\')),
    "RFC 2231 sections": content_type(b"".join(b"boundary*%d*=%%41;" % n for n in range(50_000))),
    "gigantic boundary": content_type(b"boundary=" + b"x" * 60_000) + many(b"\n--" + b"x" * 59_999 + b"y"),
    "almost the boundary": content_type(b"boundary=" + b"x" * 70) + many(b"\n--" + b"x" * 69 + b"y"),
    "boundary of dashes": content_type(b"boundary=--") + many(b"\n---"),
    "parts": HEAD + many(b"--b\n"),
    "nested parts": b"".join(b"Content-Type: multipart/report; boundary=%d\n\n--%d\n" % (n, n) for n in range(20_000)),
    "fields": status(many(b"a:b\n")),
    "field names": status(many(b"a" * 99 + b" " * 99 + b"\n")),
    "colons": status(many(b":\n")),
    "one long line": status(many(b"a")),
    "one long value": status(b"a:" + many(b" ") + b"b"),
    "folded value": status(many(b"a:" + b"\n b" * 2000 + b"\n")),
    "lines of white space": status(b"a:b" + many(b"\n ") + b"\nc:d"),
    "recipients": status(many(b"Final-Recipient: rfc822; a@b\nAction: failed\n\n")),
    "recipients unparted": status(many(b"Final-Recipient: rfc822; a@b\nAction: failed\n")),
    "encoded words": status(many(b"a: " + b"=?utf-8?b?YQ==?= " * 400 + b"\n")),
    "almost encoded words": status(many(b"a: " + b"=?a?b?" * 1000 + b"\n")),
    "quoted-printable": status(many(b"=\r"), QUOTED_PRINTABLE),
    "quoted-printable fields": status(many(b"a:b=0A"), QUOTED_PRINTABLE),
    "base64": status(base64.encodebytes(many(b"a:b\n")), b"\nContent-Transfer-Encoding: base64"),
    "brackets": FEEDBACK + many(b"Original-Rcpt-To: <<<<<<<\n"),
    "dates": FEEDBACK + many(b"Arrival-Date: Wed, 1 Jan 2025 " + b"(" * 100 + b"\n"),
    "X- headers": RETURNED + many(b"X-:eyJfQF8iOiJcXF8vIi\n"),
    "deep traces": trace(b'{"_@_":"\\\\_/","a":' + b"[" * 40_000),
    "long number in traces": trace(b'{"_@_":"\\\\_/","a":' + b"9" * 40_000 + b"}"),
    "quotes in traces": trace(b'{"_@_":"\\\\_/","a":' + b'"\\' * 20_000),
    "NUL in fields": status(many(b"a\0:\0b\n")),
    "NUL in the boundary": content_type(b'boundary="\0\0"') + many(b"\n--\0\0"),
    "bare CR and LF": many(b"\r\n\r"),
    "bare CR in fields": status(many(b"a:b\r")),
    "bare CR in the part": status(many(b"\r")),
    "indented lines": status(b" " * 100 + b"a:b" + many(b"\n" + b" " * 99 + b"a:b")),
    "lines of two characters": status(b"A" * 76 + b"\n" + many(b"A=\n"), b"\nContent-Transfer-Encoding: base64"),
    "faults of a charset": status(b"\xff\xfe" + many(b"\x00\xd8"), b"; charset=iso-2022-jp"),
    "internationalised recipients": status(
        b"Reporting-MTA: dns; a\n\n"
        + many(
            f"Original-Recipient: rfc822; a@{IDN}\nFinal-Recipient: rfc822; b@{IDN}\nAction: failed\nStatus: 5.1.1\n\n".encode()
        )
    ),
    "internationalised addresses": FEEDBACK + b"User-Agent: a\nVersion: 1\n" + many(f"Original-Rcpt-To: a@{IDN}\n".encode()),
    "quotes in an address": b"To: " + many(b'"') + b"\n" + HEAD,
    "a long field": b"Subject: " + many(b"x") + b"\n" + HEAD,
    "a folded field": b"Subject: x" + many(b"\r\n x") + b"\r\n" + HEAD,
    "Content-Types": HEAD.strip() + b"\r\n" + many(HEAD.strip() + b"\r\n"),
    "a million parts": HEAD + b"--b\n" * MEGABYTE,
    "broken parts in parts": b"".join(b"Content-Type: multipart/report; boundary=%d\n\n--%d\n" % (n, n) for n in range(9))
    + many(b"a:b\n"),
    "comments in a part's type": HEAD + b"--b\nContent-Type: message/delivery-status" + many(b" (a)") + b"\n\nAction: failed\n",
    "comments in a date": status(b"Reporting-MTA: dns; a\nArrival-Date: 1 Jan 2026" + many(b" (a)") + b"\n"),
    "a source route": FEEDBACK + b"Original-Mail-From: <" + many(b"@a,") + b":a@b>\n",
    "encoded words in all fields": FEEDBACK + b"".join(b"f%d: " % n + b"=?utf-8?q?a?= " * 60 + b"\n" for n in range(1000)),
    "blanks in quoted-printable": status(many(b" ") + b"x", QUOTED_PRINTABLE),
    "replies without a status part": HEAD.replace(b"feedback-report", b"delivery-status")
    + b"--b\nContent-Type: message/rfc822\n\n--b\n\n"
    + many(b"(((( >550"),
    "failed recipients that say much": status(
        (b"Final-Recipient: rfc822; a@b\nAction: failed\nDiagnostic-Code: smtp; 550 " + b"x" * 900 + b"\n\n") * 1000
    ),
}
