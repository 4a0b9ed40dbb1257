"""Header sections, and the text of their fields, as KumoMTA reads them.

Owns field syntax. Never knows a field by its name.
"""

import binascii
import re
from collections.abc import Iterator

from sidecar.core.reports.addresses import wide_set
from sidecar.core.reports.charsets import charset_name
from sidecar.core.reports.fields import FIELDS_SIZE_LIMIT, VALUE_LIMIT, Group, field_limit
from sidecar.core.reports.mime import field

WHITE = "\t\n\v\f\r \x85\xa0\u1680" + "".join(map(chr, range(0x2000, 0x200B))) + "\u2028\u2029\u202f\u205f\u3000"
"""The white space of Unicode. Python's own set has four control characters more."""

FOLD = r"(?>(?:[ \t]*+\r?\n)*)[ \t]++"
"""White space, perhaps with line ends before the last of it."""

CONTROL = r"\x01-\x08\v\f\x0e-\x1f\x7f"
"""The ASCII characters of a set that can be neither printed nor white space."""

PAIR = r"\\" + wide_set(rf"\0\r\n !-~{CONTROL}")
"""A quoted character (RFC 5322, quoted-pair)."""

_NAME = r"""[!"#$%&'+\-0-9A-Z\\^_`a-z{|}~]++"""
ENCODED_WORD = rf"=\?(?P<charset>{_NAME})(?:\*{_NAME})?\?(?P<encoding>[BbQq])\?(?P<encoded>{wide_set('!->@-~')}++)\?="
"""An encoded word (RFC 2047): charset, encoding, text."""

COMMENTS_LIMIT = 100
"""Opening parentheses of one value. Each has a cost beyond that of its byte; KumoMTA's own stack ends at some point."""

# A piece of a comment: what can stand in it, the end of this one, or the begin of one more.
_COMMENT_TEXT = wide_set(rf"!-'*-\[\]-~{CONTROL}")
_IN_COMMENT = re.compile(rf"(?>(?:[ \t]|\r?\n(?=[ \t\r\n])|{_COMMENT_TEXT}|{PAIR})*)([()])")

# A name begins the line and ends at a blank. A line without a colon is a name, with its carriage return.
_NAME_BYTES = rb"(?:[!-9;-~][!-9;-~ \t\r]*+)?"
_VALUE_BYTES = rb"[^\n]*+(?>(?:\n[ \t][^\n]*+)*)"
_FIELD = re.compile(rb"(" + _NAME_BYTES + rb")(?:(:)\x20*+(" + _VALUE_BYTES + rb")(?:\n|\Z)|\n|\Z)")
# Each field costs time and memory beyond that of its bytes.
_FIELDS_LIMIT = 20_000
# Fields are matched so many at once: `re` keeps some 500 bytes for each.
_TOGETHER = 100
_FIELDS = re.compile(
    rb"(?>(?:(?!\r?\n|\Z)" + _NAME_BYTES + rb"(?::" + _VALUE_BYTES + rb")?(?:\n|\Z)){0,%d})(\r?\n|\Z)?" % _TOGETHER
)
_REST = re.compile(rb"(?:[ \t][!-9;-~ \t\r]*+)?:\x20*+(" + _VALUE_BYTES + rb")|(?=\n|\Z)")
_BLANK = re.compile(rb"[ \t]")

# Most values: printable ASCII with single spaces.
_PLAIN = re.compile(rb"(?>(?:[!-~]++ ?)*)")
_TEXT = wide_set(rf"\0{CONTROL}!-~")
_WORD = re.compile(rf"(?P<fold>{FOLD})|[\r\n]*+(?:{ENCODED_WORD}|(?P<text>{_TEXT}(?>(?:(?!=\?){_TEXT})*)))[\r\n]*+")


class FaultError(Exception):
    """KumoMTA cannot read the report. The text continues "not a report, because"."""


def section_end(text: bytes, start: int, end: int) -> int:
    """Return where a header section ends and the rest begins. Raise FaultError."""
    limit = min(end, start + FIELDS_SIZE_LIMIT)
    for _ in range(_FIELDS_LIMIT // _TOGETHER):
        found = _FIELDS.match(text, start, limit)
        if found is not None and found[1] is not None and (found[1] or limit == end):
            return found.end()
        if found is None or found.end() == start:
            break
        start = found.end()
    raise FaultError("a line of a header section does not begin with the name of a field, or there is too much of them")


def first(section: bytes, name: bytes) -> bytes | None:
    """Return the value of the first field of this name (in lower case) in a header section, or None."""
    found = field(section, name, _REST)
    return None if found is None else (found[1] or b"").rstrip(b"\r\n")


def group(text: bytes) -> Group:
    """Return the values of the fields up to the first empty line, by their names in lower case. Raise FaultError."""
    found: Group = {}
    limit = field_limit(len(text))
    for count, (name, value) in enumerate(_fields(text)):
        if count >= limit:
            raise FaultError("it has too many fields")
        found.setdefault(name.decode("ascii").lower(), []).append(text_of(value))
    return found


def _fields(text: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield the name of each field without blanks, and its value, still folded. Raise FaultError."""
    start = 0
    while start < len(text) and not text.startswith((b"\n", b"\r\n"), start):
        found = _FIELD.match(text, start)
        if found is None:
            raise FaultError("a line of its fields does not begin with the name of a field")
        name, colon, value = found.groups()
        # Without a colon the whole line is the name, unless the text ends with it.
        if colon or not found[0].endswith(b"\n"):
            name = _BLANK.split(name, maxsplit=1)[0]
        yield name, (value or b"").rstrip(b"\r\n")
        start = found.end()


def text_of(value: bytes) -> str:
    """Return a value as text: unfolded, runs of white space as one space, encoded words decoded. Raise FaultError.

    White space at the ends is kept: KumoMTA does not accept ` failed` or `5.1.1 ` where it wants a word.
    """
    if b"=?" not in value and _PLAIN.fullmatch(value):
        return value[:VALUE_LIMIT].decode("ascii")
    try:
        text = value.decode()[:VALUE_LIMIT]
    except UnicodeDecodeError:
        raise FaultError("a field has bytes that are not UTF-8") from None
    # What has been read, and whether each piece is an encoded word.
    pieces: list[tuple[str, bool]] = []
    at = 0
    while at < len(text):
        found = _WORD.match(text, at)
        if found is None:
            raise FaultError("a field has a line end where no text can follow")
        at = found.end()
        if found["fold"] is not None:
            if not pieces or pieces[-1] != (" ", False):
                pieces.append((" ", False))
            continue
        piece = (found["text"], False) if found["text"] is not None else _encoded(found)
        if piece[1] and len(pieces) > 1 and pieces[-1] == (" ", False) and pieces[-2][1]:
            pieces.pop()  # white space between encoded words
        pieces.append(piece)
    return "".join(piece for piece, _ in pieces)


def _encoded(word: re.Match[str]) -> tuple[str, bool]:
    decoded = decoded_word(*word.group("charset", "encoding", "encoded"))
    if decoded is not None:
        return decoded, True
    return word[0].replace("\r", "").replace("\n", ""), False


def decoded_word(charset: str, encoding: str, text: str) -> str | None:
    """Decode an encoded word (RFC 2047); None if KumoMTA leaves it as it is."""
    codec = charset_name(charset, strict=True)
    digits = text.encode()
    if codec is None:
        return None
    try:
        if encoding in "Bb":
            octets = binascii.a2b_base64(digits, strict_mode=True)
            # Base64 has one spelling only: with its padding, and without bits that are not used.
            return octets.decode(codec) if binascii.b2a_base64(octets, newline=False) == digits else None
        return binascii.a2b_qp(bytes(octet for octet in digits if octet < 0x80), header=True).decode(codec)  # noqa: PLR2004
    except ValueError:
        return None


def comment_end(text: str, at: int) -> int | None:
    """Return the end of the comment that begins at `at`, or None if it does not end or has another byte."""
    depth, at = 1, at + 1
    while depth > 0:
        piece = _IN_COMMENT.match(text, at)
        if piece is None:
            return None
        depth += 1 if piece[1] == "(" else -1
        at = piece.end()
    return at
