"""The fields of a report's machine-readable part, and their kinds of value.

Owns field syntax (RFC 5322, RFC 2047) and value syntax (RFC 3464). Never decides which fields a report must have.
"""

import binascii
import ipaddress
import re
import sys
from collections.abc import Callable
from itertools import islice
from operator import gt
from typing import TypeVar

from sidecar.core.reports.addresses import is_mailbox, readable_address, without_comments
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
_BLANKS = " \t\r\n"

_ENCODED_WORD = re.compile(r"=\?([^?\s]{1,40}+)\?([BbQq])\?([^?\s]*+)\?=(?: (?==\?[^?\s]{1,40}+\?[BbQq]\?[^?\s]*+\?=))?")
# A list, because some of Python's codecs are quadratic (punycode) or make lone surrogates (unicode_escape), and a peer must not
# choose which module is imported.
_CHARSETS = frozenset(
    (
        *("utf-8", "us-ascii", "koi8-r", "koi8-u", "gb2312", "gbk", "gb18030", "big5"),
        *("euc-kr", "euc-jp", "shift_jis", "iso-2022-jp"),
        *(f"iso-8859-{part}" for part in (*range(1, 12), *range(13, 17))),
        *(f"windows-125{page}" for page in range(9)),
    )
)

# Other spellings of the same.
_CHARSET_ALIASES = {"ascii": "us-ascii", "utf8": "utf-8", "latin1": "iso-8859-1"}

# KumoMTA accepts a sign before a number. No program writes more digits.
_DIGITS = r"\+?([0-9]{1,20})"
_NUMBER = re.compile(_DIGITS)
# Three numbers (RFC 3463 section 2).
_STATUS = re.compile(rf"{_DIGITS}\.{_DIGITS}\.{_DIGITS}(?![0-9])(?:\.\S*)?\s*(.*)", re.DOTALL)
COUNT_LIMIT = 0xFFFFFFFF
STATUS_LIMITS = (0xFF, 0xFFFF, 0xFFFF)
"""The largest class, subject and detail: KumoMTA keeps them in 8, 16 and 16 bits, and a count in 32."""
# An SMTP reply begins with its code, or with an enhanced code where a program has left the first out.
_REPLY = re.compile(r"(?:[245][0-9]{2}[ -]+)?([245]\.[0-9]{1,3}\.[0-9]{1,3})(?![0-9.])|[245][0-9]{2}(?:[ -]|\Z)")
# RFC 6533 section 3: characters of an address in ASCII, \x{1F4E7}.
_ESCAPED = re.compile(r"\\x\{([0-9A-Fa-f]{1,6})\}")
# The registered types. In front of a value without `;`, only these are a type.
_KNOWN_TYPES = frozenset(("rfc822", "utf-8", "x400", "unknown", "dns", "smtp", "x-unix"))


def field_limit(size: int) -> int:
    """Return how many fields and empty lines are read of a part of `size` bytes."""
    return min(_FIELD_LIMIT, _FIELDS_ALLOWED + size // _FIELD_SIZE)


def blocks(body: bytes) -> list[Block]:
    """Return the fields of a part in blocks, which empty lines separate.

    Values are unfolded, runs of white space are one space, encoded words are decoded, and bytes that are not UTF-8 are U+FFFD.
    """
    text = body[:FIELDS_SIZE_LIMIT].decode("utf-8", "replace")
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
    if lowered == "utf-8":
        address = _ESCAPED.sub(_unescaped, address)
    if lowered == "rfc822" or (lowered == "utf-8" and not is_mailbox(address)):
        address = readable_address(address)
    return ReportedRecipient(recipient_type=recipient_type, recipient=address)


def diagnostic_code(text: str) -> DiagnosticCode:
    """Read `smtp; 550 5.1.1 no such user`.

    Text that begins with a reply code or an enhanced code has no type, even where a `;` follows further on (`550 5.7.1 Service
    unavailable; Client host blocked`), and is SMTP's. Other text without a type has the type `""`.
    """
    if _REPLY.match(text):
        return DiagnosticCode(diagnostic_type="smtp", diagnostic=text)
    diagnostic_type, diagnostic = _typed(text, "")
    return DiagnosticCode(diagnostic_type=diagnostic_type, diagnostic=diagnostic)


def reply_status(diagnostic: DiagnosticCode | None) -> DsnStatus | None:
    """Return the enhanced code of the SMTP reply in a diagnostic, or None."""
    found = _reply(diagnostic)
    return None if found is None or found[1] is None else status(found[1])


def reply_class(diagnostic: DiagnosticCode | None) -> int | None:
    """Return the first digit of the SMTP reply in a diagnostic, or None."""
    found = _reply(diagnostic)
    return None if found is None else int(found[0][0])


def _reply(diagnostic: DiagnosticCode | None) -> re.Match[str] | None:
    if diagnostic is None or diagnostic.diagnostic_type.lower() != "smtp":
        return None
    return _REPLY.match(diagnostic.diagnostic)


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
    """Return an IP address without comments, brackets and the tag `IPv6:`; any other text stays as it is."""
    if text.isascii() and text.replace(".", "").isdecimal():
        return text
    plain = without_comments(text).strip().removeprefix("[").removesuffix("]")
    plain = plain[5:] if plain[:5].lower() == "ipv6:" else plain
    try:
        return text if plain == text else str(ipaddress.ip_address(plain))
    except ValueError:
        return text


def _unescaped(character: re.Match[str]) -> str:
    number = int(character[1], 16)
    # Control characters and surrogates keep their escape: an address is shown, and written into lines.
    is_shown = number <= sys.maxunicode and chr(number).isprintable()
    return chr(number) if is_shown else character[0]


def _typed(text: str, default: str) -> tuple[str, str]:
    """Split `type; text`, or `type text` for a known type; without a type it is the default.

    The text before a `;` is the type, even if it is empty (as in KumoMTA).
    """
    kind, semicolon, rest = text.partition(";")
    if not semicolon:
        kind, _, rest = text.partition(" ")
        if kind.lower() not in _KNOWN_TYPES:
            return default, text
    return kind.strip(), rest.strip()


def _plain(value: str, limit: int = VALUE_LIMIT) -> str:
    """Unfold a field's value, make each run of white space one space, and decode its encoded words (RFC 2047)."""
    value = value[:limit].strip(_BLANKS)
    if "  " in value or not value.isprintable():
        value = _SPACES.sub(" ", value)
    return _ENCODED_WORD.sub(_decoded_word, value) if "=?" in value else value


def charset_name(charset: str) -> str | None:
    """Return the name of the codec of a charset, or None if it is not one of the usual ones."""
    name = charset.lower()
    name = _CHARSET_ALIASES.get(name, name)
    return name if name in _CHARSETS else None


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
