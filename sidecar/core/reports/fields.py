"""The fields of a report's machine-readable part, and their kinds of value.

Owns field syntax (RFC 5322, RFC 2047) and value syntax (RFC 3464). Never decides which fields a report must have.
"""

import binascii
import ipaddress
import re
import sys
from collections.abc import Callable
from contextlib import suppress
from itertools import islice
from operator import gt
from typing import TypeVar

from sidecar.core.reports.addresses import is_mailbox, readable_address, without_comments
from sidecar.core.reports.charsets import charset_name
from sidecar.core.reports.values import DiagnosticCode, DsnStatus, MtaName, ReportedRecipient

# A part with 1000 recipients of 500 bytes each; the largest real ones have some 50 kB. What follows is not read.
FIELDS_SIZE_LIMIT = 512 * 1024

# A part can have this many fields and empty lines, and one more for each 12 bytes; the shortest group of a real MTA has 16
# bytes for each. Each line has a cost beyond that of its bytes. What follows is not read.
_FIELDS_ALLOWED = 500
_FIELD_SIZE = 12
# The most: 20 fields and empty lines for each of a thousand recipients.
_FIELD_LIMIT = 20_000

# Several multi-line SMTP replies (RFC 5321 section 4.5.3.1.5: 512 octets a line). The rest of a longer value is cut off.
VALUE_LIMIT = 8 * 1024

Block = list[tuple[str, str]]
"""Fields in order, name in lower case and value, with no empty line between them."""

Group = dict[str, list[str]]
"""Fields that belong together: lower-case names, each with its values in order."""

T = TypeVar("T")

# An empty line (also of white space), or a field; other lines are skipped. A value continues over folds, and over a line of
# white space if a folded line follows. All is possessive or atomic, so each byte is read once; groups are not repeated
# possessively, because Python 3.11.2 then keeps half a repetition.
_LINE = re.compile(
    r"""^(?:
          [ \t\r]*+(?:\n|\Z)
        | ([!-9;-~]{1,100}+)[ \t]*+:([^\n]*+(?>(?:(?>(?:\n[ \t][ \t\r]*+)+)[^\n]++)*))
    )""",
    re.MULTILINE | re.VERBOSE,
)
_SPACES = re.compile(r"[ \t\r\n]+")
# Before the first field: then it stands before all lines.
_INDENT = re.compile(r"[ \t]++(?=[!-9;-~]{1,100}+[ \t]*+:)")
_BYTE_ORDER_MARK = "\ufeff"
_BLANKS = " \t\r\n"

_ENCODED_WORD = re.compile(r"=\?([^?\s]{1,40}+)\?([BbQq])\?([^?\s]*+)\?=(?: (?==\?[^?\s]{1,40}+\?[BbQq]\?[^?\s]*+\?=))?")
# KumoMTA accepts a sign before a number. No program writes more digits.
_DIGITS = r"\+?([0-9]{1,20})"
_NUMBER = re.compile(_DIGITS)
# Three numbers (RFC 3463 section 2).
_STATUS = re.compile(rf"{_DIGITS}\.{_DIGITS}\.{_DIGITS}(?![0-9])(?:\.\S*)?\s*(.*)", re.DOTALL)
COUNT_LIMIT = 0xFFFFFFFF
STATUS_LIMITS = (0xFF, 0xFFFF, 0xFFFF)
"""The largest class, subject and detail: KumoMTA keeps them in 8, 16 and 16 bits, and a count in 32."""
# An SMTP reply begins with its code, or with an enhanced code where a program has left the first out.
_ENHANCED = r"[(\[#]?([245]\.[0-9]{1,3}\.[0-9]{1,3})(?![0-9]|\.[0-9])"
_REPLY = re.compile(rf"(?P<open>[\s\"'<(\[#]*+)(?P<code>[245][0-9]{{2}}(?=[\s:;-]|\Z)[\s:;-]*+)?(?:{_ENHANCED}|(?(code)|(?!)))")
# `a::b` in a host name is none. An address of IPv4 with a port stays as it is, as in KumoMTA.
_IP_ADDRESS = re.compile(r"(?<![\w.:-])(?:IPv6:)?(?=[0-9a-f]*+[.:])([0-9a-f.:]{3,45}+)(?![\w:-])", re.IGNORECASE)
_IP_ADDRESSES_TRIED = 8
# RFC 6533 section 3: characters of an address in ASCII, \x{1F4E7}.
_ESCAPED = re.compile(r"\\x\{([0-9A-Fa-f]{1,6})\}")
# What makes an address of another type more than the address.
_IS_WRAPPED = re.compile("[<(]")
# The registered types. In front of a value without `;`, only these are a type.
_KNOWN_TYPE = re.compile(r"(rfc822|utf-8|x400|unknown|dns|smtp|x-unix)(?: ?: ?| |\Z)", re.IGNORECASE)
# Where other words are before it, only with both codes.
_REPLY_AMONG_WORDS = re.compile(
    r"(?<![0-9.])(?P<code>[245][0-9]{2})([ -])[(\[#]?([245]\.[0-9]{1,3}\.[0-9]{1,3})(?![0-9]|\.[0-9])"
)
# Some programs write the type of an SMTP reply again.
_SMTP_TYPES = re.compile(r"\A(?>(?:(?:smtp|esmtp|lmtp) ?[;:] ?)*)", re.IGNORECASE)
# A code among other words, and a class alone: `smtp; 550 5.1.1`, `5. 1. 1`, `550`, `5.x.x`.
_STATUS_AMONG_WORDS = re.compile(r"(?<![0-9.])[245] ?\. ?[0-9]{1,3} ?\. ?[0-9]{1,3}(?![0-9]|\.[0-9])")
_CLASS = re.compile(r"[^0-9]*+([245])(?:[0-9]{2})?(?![0-9])")


def field_limit(size: int) -> int:
    """Return how many fields and empty lines are read of a part of `size` bytes."""
    return min(_FIELD_LIMIT, _FIELDS_ALLOWED + size // _FIELD_SIZE)


def blocks(body: bytes) -> list[Block]:
    """Return the fields of a part in blocks, which empty lines separate.

    Values are unfolded, runs of white space are one space, encoded words are decoded, and bytes that are not UTF-8 are U+FFFD.
    """
    text = _with_usual_lines(body[:FIELDS_SIZE_LIMIT].decode("utf-8", "replace"))
    block: Block = []
    found = [block]
    for line in islice(_LINE.finditer(text), field_limit(len(body))):
        name, value = line.groups()
        if name is not None:
            block.append((name.lower(), _plain(value) if value else ""))
        elif block:
            block = []
            found.append(block)
    return found


def _with_usual_lines(text: str) -> str:
    """Return a text whose lines end with LF or CRLF, without a byte order mark and without the indent of its first field."""
    if "\r" in text:
        # Line ends of other systems, as gateways write them into an encoded part. In a value CR is no line end, as in KumoMTA.
        text = text.replace("\r\n", "\n")
        text = text.replace("\n\r", "\n") if "\n" in text.strip("\r\n") else text.replace("\r", "\n")
    if text.startswith((*"\r\n", _BYTE_ORDER_MARK)):
        text = text.lstrip(f"\r\n{_BYTE_ORDER_MARK}")
    indent = _INDENT.match(text)
    return text if indent is None else text.replace(f"\n{indent[0]}", "\n")[indent.end() :]


def unstructured(value: bytes, limit: int) -> str:
    """Return the value of a header field as text, as in `blocks`; it is read up to `limit` characters."""
    return _plain(value.decode("utf-8", "replace"), limit)


def take(group: Group, name: str, convert: Callable[[str], T | None]) -> T | None:
    """Remove the first field of a name and return its converted value; if it is invalid it stays in the group."""
    values = group.get(name)
    converted = None if values is None else convert(values[0])
    if values is not None and converted is not None:
        del group[name]
        if len(values) > 1:
            group[name] = values[1:]
    return converted


def mta_name(text: str) -> MtaName | None:
    """Read `dns; mx.example.com`. A bare name is a `dns` one: no other type is registered (RFC 3464 section 2.1.2)."""
    mta_type, name = _typed(text, "dns")
    return MtaName(mta_type=mta_type, name=name) if name else None


def recipient(text: str) -> ReportedRecipient | None:
    """Read `rfc822; user@example.com`, with or without brackets, comments and a type; None without an address."""
    reported = recipient_or_empty(text)
    return reported if reported.recipient else None


def recipient_or_empty(text: str) -> ReportedRecipient:
    """Read a recipient; its address can be empty."""
    recipient_type, address = _typed(text, "rfc822")
    lowered = recipient_type.lower()
    if lowered != "rfc822" and address.startswith("<") and address.endswith(">"):
        address = address[1:-1]
    if lowered == "utf-8":
        address = _ESCAPED.sub(_unescaped, address)
    if lowered == "rfc822" or (lowered == "utf-8" and not is_mailbox(address)):
        address = readable_address(address)
    elif (
        _IS_WRAPPED.search(address)
        and not is_mailbox(address)
        and ((readable := readable_address(address)) == "" or is_mailbox(readable))
    ):
        # Programs invent types (`smtp`, `rfc5322`, `addr`). Addresses of X.400 have no `@`.
        address = readable
    return ReportedRecipient(recipient_type=recipient_type, recipient=address)


def diagnostic_code(text: str) -> DiagnosticCode:
    """Read `smtp; 550 5.1.1 no such user`.

    Text that begins with a reply code or an enhanced code has no type, even where a `;` follows further on (`550 5.7.1 Service
    unavailable; Client host blocked`), and is SMTP's. Other text without a type has the type `""`.
    """
    if _REPLY.match(text):
        return DiagnosticCode(diagnostic_type="smtp", diagnostic=text)
    diagnostic_type, diagnostic = _typed(text, "")
    if diagnostic_type == "" and _REPLY.match(diagnostic):
        diagnostic_type = "smtp"
    return DiagnosticCode(diagnostic_type=diagnostic_type, diagnostic=diagnostic)


def readable_status(text: str) -> DsnStatus | None:
    """Read a status as `status` does, or the first one among other words."""
    read = status(text)
    found = _STATUS_AMONG_WORDS.search(text) if read is None else None
    return read if found is None else status(found[0].replace(" ", ""))


def class_of(text: str) -> int | None:
    """Return the class of a status that is none, such as `550`, `5.x.x`; or None."""
    found = _CLASS.match(text)
    return None if found is None else int(found[1])


def reply_status(diagnostic: DiagnosticCode | None) -> DsnStatus | None:
    """Return the enhanced code of the SMTP reply in a diagnostic, or None."""
    found = _reply(diagnostic)
    return None if found is None or found[3] is None else status(found[3])


def reply_class(diagnostic: DiagnosticCode | None) -> int | None:
    """Return the first digit of the SMTP reply in a diagnostic, or None."""
    found = _reply(diagnostic)
    return None if found is None else int((found["code"] or found[3])[0])


def _reply(diagnostic: DiagnosticCode | None) -> re.Match[str] | None:
    if diagnostic is None:
        return None
    # Also in a diagnostic of another type: `X-Postfix; 550 5.1.1 no such user`.
    text = _SMTP_TYPES.sub("", diagnostic.diagnostic, count=1)
    return _REPLY.match(text) or _REPLY_AMONG_WORDS.search(text)


def status(text: str) -> DsnStatus | None:
    """Read `5.1.1`, and the comment that may follow it."""
    found = _STATUS.match(text)
    if found is None:
        return None
    class_, subject, detail = map(int, found.group(1, 2, 3))
    if any(map(gt, (class_, subject, detail), STATUS_LIMITS)):
        return None
    return DsnStatus(class_=class_, subject=subject, detail=detail, comment=found[4] or None)


def number(text: str, limit: int = COUNT_LIMIT) -> int | None:
    """Read a number up to a limit, by default a count."""
    found = _NUMBER.fullmatch(text)
    return int(found[1]) if found is not None and int(found[1]) <= limit else None


def ip_address(text: str) -> str:
    """Return the first IP address in a text, outside comments if there is one; without any, the text as it is."""
    if text.isascii() and text.replace(".", "").isdecimal():
        return text
    for plain in dict.fromkeys((without_comments(text), text)):
        for found in islice(_IP_ADDRESS.finditer(plain), _IP_ADDRESSES_TRIED):
            with suppress(ValueError):
                address = str(ipaddress.ip_address(found[1].rstrip(".")))
                return text if found[1] == text else address
    return text


def _unescaped(character: re.Match[str]) -> str:
    number = int(character[1], 16)
    # Control characters and surrogates keep their escape: an address is shown, and written into lines.
    is_shown = number <= sys.maxunicode and chr(number).isprintable()
    return chr(number) if is_shown else character[0]


def _typed(text: str, default: str) -> tuple[str, str]:
    """Split `type; text`, or `type text` for a known type; without a type it is the default.

    The text before a `;` is the type, even if it is empty (as in KumoMTA), unless it is an address.
    """
    kind, semicolon, rest = text.partition(";")
    if semicolon and "@" not in kind:
        return kind.strip(), rest.strip()
    found = _KNOWN_TYPE.match(text)
    return (default, text) if found is None else (found[1], text[found.end() :].strip())


def _plain(value: str, limit: int = VALUE_LIMIT) -> str:
    """Unfold a field's value, make each run of white space one space, and decode its encoded words (RFC 2047)."""
    value = value[:limit].strip(_BLANKS)
    if "  " in value or not value.isprintable():
        value = _SPACES.sub(" ", value)
    return _ENCODED_WORD.sub(_decoded_word, value) if "=?" in value else value


def _decoded_word(word: re.Match[str]) -> str:
    """Decode one encoded word; one that cannot be decoded stays as it is."""
    charset = charset_name(word[1].partition("*")[0])  # RFC 2231 section 5: `utf-8*en`
    if charset is None:
        return word[0]
    digits = word[3].encode("utf-8", "replace")
    try:
        if word[2] in "Bb":
            octets = binascii.a2b_base64(digits + b"=" * (-len(digits) % 4))
        else:
            octets = binascii.a2b_qp(digits, header=True)
    except binascii.Error:
        return word[0]
    return octets.decode(charset, "replace")
