"""The envelope of a stored message, which the delivering MTA wrote into its headers or onto its mbox line; reading the message.

Owns which field has which part of the envelope. Never judges an address: the session does.
"""

import re
from datetime import datetime

from msgspec import Struct
from msgspec.structs import replace

from sidecar.core.reports import mime
from sidecar.core.reports.dates import read_date
from sidecar.core.reports.reading import read
from sidecar.core.reports.values import ReportReading

# Postfix and Sendmail accept header sections of 32 to 100 kB; the fields of a delivery are at the top.
HEAD_LIMIT = 64 * 1024
# As many as the milter accepts by default: a To field of 64 kB could name twenty thousand.
RECIPIENTS_LIMIT = 1000

# The fields of a delivery with the envelope recipient, the most reliable first. X-Original-To (Postfix) and Envelope-To (Exim)
# have the address of RCPT TO; Delivered-To has the mailbox, which an alias may have replaced.
_RECIPIENT_FIELDS = (b"x-original-to", b"envelope-to", b"x-envelope-to", b"delivered-to")

_FIELD = re.compile(
    rb"^(return-path|x-original-to|envelope-to|x-envelope-to|delivered-to|received|to|from)[ \t]*+:"
    rb"([^\n]*+(?>(?:\n[ \t][^\n]*+)*))",
    re.IGNORECASE | re.MULTILINE,
)
_HEADER_END = re.compile(rb"^\r?\n|\n\r?\n")
# A Received field has `for <recipient>` if the message has only one (Postfix, Sendmail; Exim without brackets).
_FOR = re.compile(rb"\bfor[ \t\r\n]++<?([^\s<>;@]++@[^\s<>;]++)")

# Each alternative consumes at least what a failed one before it has read, so a list is read in linear time.
_LISTED = re.compile(r'("(?>(?:[^"\\]++|\\.)*)"?)|\([^()]*+\)?|<([^<>]*+)>?|([,;])|([^",;<(]++|.)', re.DOTALL)

# Postfix and Sendmail write it for the null sender, on the mbox line and in Return-Path.
_NULL_SENDER = "MAILER-DAEMON"
# Mail programs that do not know the envelope write these on the mbox line.
_UNKNOWN_SENDERS = {b"-", b"???@???"}


class StoredEnvelope(Struct, frozen=True, kw_only=True):
    """Sender and recipients, without angle brackets; `guessed` if From or To replaces what no delivery wrote."""

    sender: str
    recipients: tuple[str, ...]
    guessed: bool = False


def read_envelope(
    message: bytes, mbox_sender: bytes | None, *, sender: str | None = None, recipients: tuple[str, ...] = ()
) -> StoredEnvelope | str:
    """Return the envelope of a message, or a sentence with the missing part.

    `mbox_sender` is the sender on its mbox line; `sender` and `recipients` of the caller replace everything that is found.
    """
    if sender is not None and recipients:
        return StoredEnvelope(sender=sender, recipients=recipients)
    fields, delivered_to = _fields(message)
    written = None
    if (path := fields.get(b"return-path")) is not None:
        written = _null_or(_unfolded(path).removeprefix("<").removesuffix(">"))
    elif mbox_sender is not None and mbox_sender not in _UNKNOWN_SENDERS:
        written = _null_or(mbox_sender.decode("utf-8", "replace"))
    known_sender = written if sender is None else sender
    author = next(iter(_addresses(fields.get(b"from", b""))), "")
    known_recipients = recipients or delivered_to
    envelope = StoredEnvelope(
        sender=author if known_sender is None else known_sender,
        recipients=known_recipients or _addresses(fields.get(b"to", b"")),
        guessed=known_sender is None or not known_recipients,
    )
    if not envelope.recipients:
        return "no header field has its recipient; name one with --to"
    if known_sender is None and not author:
        return "no header field has its sender; name one with --from"
    return envelope


def recipient_of(message: bytes) -> str:
    """Return the envelope recipient of a stored message, or else its first one in To; `""` if there is none."""
    fields, delivered_to = _fields(message)
    return next(iter(delivered_to or _addresses(fields.get(b"to", b""))), "")


def arrival(message: bytes) -> float | None:
    """Return when the last host received a stored message, in seconds since 1970; None if no header field says it."""
    fields, _ = _fields(message)
    _, _, date = _unfolded(fields.get(b"received", b"")).rpartition(";")
    read_at = read_date(date)
    return None if read_at is None else datetime.fromisoformat(read_at).timestamp()


def read_stored(message: bytes, sender: str | None, *, strict: bool, text: bool) -> ReportReading:
    """Read a stored message, whose envelope sender is `sender`, or else its Return-Path.

    If only its envelope sender, which is not known, or a setting prevents a report, the reason says so.
    """
    if sender is None:
        path = mime.header(mime.split_message(message)[0], b"return-path")
        sender = None if path is None else path.decode("utf-8", "replace").strip()
    null_sender = sender is not None and not _null_or(sender.removeprefix("<").removesuffix(">"))
    reading = read(message, strict=strict, text=text, null_sender=null_sender)
    if strict or reading.is_report:
        return reading
    bounce = read(message, null_sender=null_sender or (text and sender is None))
    if not bounce.is_report:
        return reading
    condition = "its envelope sender is not known: with --from ''" if text else 'with text_bounces = "accept"'
    return replace(reading, why=f"{reading.why}; {condition} it is {bounce.why}")


def _null_or(written: str) -> str:
    """Return a sender as a delivery has written it; `""` for the null sender."""
    return "" if written == _NULL_SENDER else written


def _fields(message: bytes) -> tuple[dict[bytes, bytes], tuple[str, ...]]:
    """Return the first of each header field by its name, and the recipients that the last delivery wrote.

    Each delivery puts its fields on top, so the first Received field ends those of the last one.
    """
    end = _HEADER_END.search(message, 0, HEAD_LIMIT)
    fields: dict[bytes, bytes] = {}
    named: dict[bytes, bytes] = {}
    for found in _FIELD.finditer(message[: HEAD_LIMIT if end is None else end.start() + 1]):
        name = found[1].lower()
        if name in _RECIPIENT_FIELDS and not (named and b"received" in fields):
            named.setdefault(name, found[2])
        fields.setdefault(name, found[2])
    for name in _RECIPIENT_FIELDS:
        if name in named:
            return fields, _addresses(named[name])
    recipient = _FOR.search(fields.get(b"received", b""))
    return fields, () if recipient is None else (recipient[1].decode("utf-8", "replace"),)


def _addresses(value: bytes) -> tuple[str, ...]:
    """Return the addresses of a list, with or without names and comments (RFC 5322 section 3.4)."""
    found: list[str] = []
    bare, angle = "", None
    for token in _LISTED.finditer(_unfolded(value) + ","):
        quoted, bracketed, end, text = token.groups()
        if end is None:
            angle = bracketed if angle is None else angle
            bare += quoted or text or ""
            continue
        # In `Group: user@host` the last word is the address; a quoted local part is one word.
        words = bare.split() if '"' not in bare else [bare.strip()]
        address = angle if angle is not None else words[-1] if words else ""
        if "@" in address.rpartition('"')[2]:
            found.append(address)
            if len(found) == RECIPIENTS_LIMIT:
                break
        bare, angle = "", None
    return tuple(found)


def _unfolded(value: bytes) -> str:
    return value.replace(b"\r", b"").replace(b"\n", b"").decode("utf-8", "replace").strip()
