"""Messages to send: ordinary mail, a bounce report, a feedback report.

Owns their text. Never sends one.
"""

ORIGINAL = b"""\
From: News <news@sender.example>
To: someone@remote.example
Subject: The news of the week
Message-ID: <week-17@sender.example>

Nothing happened.
"""

ORDINARY = b"""\
From: Somebody <somebody@peer.example.net>
To: you@customer.example
Subject: Buy now
Date: Thu, 02 Jul 2026 18:55:38 +0000
Message-ID: <offer-1@peer.example.net>

Only today.
.
"""


def _report(kind: str, parts: list[tuple[str, bytes]]) -> bytes:
    head = f"""\
From: Mail Delivery System <MAILER-DAEMON@mx.remote.example>
To: news-17@bounce.example
Subject: A report
Date: Thu, 02 Jul 2026 18:55:38 +0000
Message-ID: <report-1@mx.remote.example>
MIME-Version: 1.0
Content-Type: multipart/report; report-type={kind}; boundary="=-edge"

""".encode()
    body = b"".join(b"--=-edge\nContent-Type: " + name.encode() + b"\n\n" + text + b"\n" for name, text in parts)
    return head + body + b"--=-edge--\n"


_STATUS = b"""\
Reporting-MTA: dns; mx.remote.example
Arrival-Date: Thu, 02 Jul 2026 18:55:38 +0000

Final-Recipient: rfc822; nobody@remote.example
Original-Recipient: rfc822;someone@remote.example
Action: failed
Status: 5.1.1
Diagnostic-Code: smtp; 550 5.1.1 no such user

Final-Recipient: rfc822; slow@remote.example
Action: delayed
Status: 4.2.2
"""

_FEEDBACK = b"""\
Feedback-Type: abuse
User-Agent: ComplaintDesk/1.0
Version: 1
Original-Mail-From: <news-17@bounce.example>
Original-Rcpt-To: <someone@remote.example>
Source-IP: 192.0.2.1
"""

_PROSE = ("text/plain", b"This is a report.\n")
_RETURNED = ("message/rfc822", ORIGINAL)

OOB = _report("delivery-status", [_PROSE, ("message/delivery-status", _STATUS), _RETURNED])
"""A bounce report of two recipients: one failed, one is only delayed."""

ARF = _report("feedback-report", [_PROSE, ("message/feedback-report", _FEEDBACK), _RETURNED])
"""A feedback report."""

BOTH = _report(
    "feedback-report", [_PROSE, ("message/feedback-report", _FEEDBACK), ("message/delivery-status", _STATUS), _RETURNED]
)
"""A feedback report that carries a delivery status too: each of the two, by the rules."""


def padded(message: bytes, size: int) -> bytes:
    """Add lines to the body of a message until it has `size` bytes or a few more."""
    line = b"x" * 76 + b"\n"
    return message + line * ((size - len(message)) // len(line) + 1)
