"""The envelope of a stored message: what the MTA that delivered it wrote into its header, or onto its mbox line.

Owns which field tells what. Never reads a file, and never judges an address: the session does.
"""

import re

from msgspec import Struct

# Postfix and Sendmail take header sections of 32 to 100 kB; what a delivery writes stands at the top of them.
HEAD_LIMIT = 64 * 1024
# As many as the milter takes by default: a To field of 64 kB could name twenty thousand.
RECIPIENTS_LIMIT = 1000

# The fields of a delivery that name the envelope recipient, the truest first. X-Original-To is Postfix's and Envelope-To Exim's
# name for what stood in RCPT TO; Delivered-To is the mailbox that it came to, which an alias may have put in its place.
_RECIPIENT_FIELDS = (b"x-original-to", b"envelope-to", b"x-envelope-to", b"delivered-to")

_FIELD = re.compile(
    rb"^(return-path|x-original-to|envelope-to|x-envelope-to|delivered-to|received|to|from)[ \t]*+:"
    rb"([^\n]*+(?>(?:\n[ \t][^\n]*+)*))",
    re.IGNORECASE | re.MULTILINE,
)
_HEADER_END = re.compile(rb"^\r?\n|\n\r?\n")
# `for <recipient>` stands in a Received field where the message came for one alone (Postfix, Sendmail; Exim without brackets).
_FOR = re.compile(rb"\bfor[ \t\r\n]++<?([^\s<>;@]++@[^\s<>;]++)")

# Each alternative takes at least what a failed one before it has looked at, so a list is read in linear time.
_LISTED = re.compile(r'("(?>(?:[^"\\]++|\\.)*)"?)|\([^()]*+\)?|<([^<>]*+)>?|([,;])|([^",;<(]++|.)', re.DOTALL)

# Postfix and Sendmail write it in the place of the null sender, on the mbox line and in Return-Path.
_NULL_SENDER = "MAILER-DAEMON"


class StoredEnvelope(Struct, frozen=True, kw_only=True):
    """Who sent it to whom, without angle brackets; `guessed` where From or To had to stand in for what no delivery told."""

    sender: str
    recipients: tuple[str, ...]
    guessed: bool = False


def read_envelope(
    message: bytes, postmark: bytes | None, *, sender: str | None = None, recipients: tuple[str, ...] = ()
) -> StoredEnvelope | str:
    """Find the envelope of a message, or say what it does not tell.

    `postmark` is what its mbox line says of the sender; `sender` and `recipients` that are given stand above all that is found.
    """
    if sender is not None and recipients:
        return StoredEnvelope(sender=sender, recipients=recipients)
    delivery = _Delivery(_head(message))
    told_sender = _first_told(sender, delivery.sender, _postmark_sender(postmark))
    told_recipients = recipients or delivery.recipients
    envelope = StoredEnvelope(
        sender=told_sender if told_sender is not None else delivery.author,
        recipients=told_recipients or delivery.addressees,
        guessed=told_sender is None or not told_recipients,
    )
    if not envelope.recipients:
        return "no field tells its recipient; give one with --to"
    if told_sender is None and not delivery.author:
        return "no field tells its sender; give one with --from"
    return envelope


class _Delivery:
    """The fields of a header section that may tell the envelope.

    Each delivery puts its fields on top, so the first Received field ends what the last one wrote. `sender` is None where no
    Return-Path stands anywhere.
    """

    def __init__(self, head: bytes) -> None:
        fields: dict[bytes, bytes] = {}
        named: dict[bytes, bytes] = {}
        for found in _FIELD.finditer(head):
            name = found[1].lower()
            if name in _RECIPIENT_FIELDS and not (named and b"received" in fields):
                named.setdefault(name, found[2])
            fields.setdefault(name, found[2])
        self._fields = fields
        self._named = next((named[name] for name in _RECIPIENT_FIELDS if name in named), None)

    @property
    def sender(self) -> str | None:
        path = self._fields.get(b"return-path")
        if path is None:
            return None
        address = _unfolded(path).removeprefix("<").removesuffix(">")
        return "" if address == _NULL_SENDER else address

    @property
    def recipients(self) -> tuple[str, ...]:
        if self._named is not None:
            return _addresses(self._named)
        found = _FOR.search(self._fields.get(b"received", b""))
        return () if found is None else (found[1].decode("utf-8", "replace"),)

    @property
    def author(self) -> str:
        return next(iter(_addresses(self._fields.get(b"from", b""))), "")

    @property
    def addressees(self) -> tuple[str, ...]:
        return _addresses(self._fields.get(b"to", b""))


def _head(message: bytes) -> bytes:
    end = _HEADER_END.search(message, 0, HEAD_LIMIT)
    return message[: HEAD_LIMIT if end is None else end.start() + 1]


def _first_told(*told: str | None) -> str | None:
    return next((sender for sender in told if sender is not None), None)


def _postmark_sender(postmark: bytes | None) -> str | None:
    """Read what an mbox line says; mail programs that do not know the envelope write `-` or `???@???`."""
    if postmark is None or postmark in {b"-", b"???@???"}:
        return None
    sender = postmark.decode("utf-8", "replace")
    return "" if sender == _NULL_SENDER else sender


def _addresses(value: bytes) -> tuple[str, ...]:
    """Give the addresses of a list, with names and comments or without (RFC 5322 section 3.4)."""
    found: list[str] = []
    bare, angle = "", None
    for token in _LISTED.finditer(_unfolded(value) + ","):
        quoted, bracketed, end, text = token.groups()
        if end is None:
            angle = bracketed if angle is None else angle
            bare += quoted or text or ""
            continue
        # Of `Group: user@host` the last word is the address; a quoted local part is one word.
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
