"""One level of MIME, on bytes: header sections, the Content-Type, the parts of a multipart, transfer encodings.

Owns the syntax of messages (RFC 5322, 2045, 2046, 2231). It does not read parts of parts: a report is one level deep.
"""

import binascii
import re
from collections.abc import Iterator
from itertools import islice
from typing import NamedTuple
from urllib.parse import unquote_to_bytes

# RFC 3462 wants two or three parts; gateways and virus scanners add a few. With a hundred, the work for each part stays far
# below the work for each byte.
PART_LIMIT = 100

# Sendmail and Postfix accept header fields of 32 to 100 kB; the Content-Type of a report has some 150 bytes.
CONTENT_TYPE_LIMIT = 64 * 1024

# A report's Content-Type has two or three parameters and almost never a comment. Each has a cost beyond that of its bytes.
_PARAMETER_LIMIT = 128
_MARK_LIMIT = 64

# The fields of a part's header section: Content-Type and two or three others. What follows is not read.
_PART_HEAD_LIMIT = 16 * 1024

# Programs that encode pieces of a part one by one make a few.
_PADDINGS_LIMIT = 1000

# What is decoded at once. In base64, it is a multiple of four.
_PIECE = 64 * 1024

REPORT = b"multipart/report"
STATUS_TYPES = frozenset((b"message/delivery-status", b"message/global-delivery-status"))
MESSAGE = b"message/rfc822"
RETURNED_TYPES = frozenset((MESSAGE, b"text/rfc822-headers", b"message/global", b"message/global-headers"))
"""The types of returned messages and header sections."""
_PLAIN_TEXT = b"text/plain"

_HEADER_END = re.compile(rb"\n\r*+\n")
_FIELD_VALUE = re.compile(rb"[ \t]*+:([^\n]*+(?>(?:\n[ \t][^\n]*+)*))")

_QUOTED = re.compile(rb'"(?>(?:[^"\\]++|\\(?:.|\Z))*)"?', re.DOTALL)
_COMMENT_MARK = re.compile(rb"\\.|[()]", re.DOTALL)
_QUOTE_OR_COMMENT = re.compile(rb'["(]')

_MEDIA_TYPE = re.compile(rb"\s*+([^\s/;]++)\s*+/\s*+([^\s;]++)")
# Each alternative consumes what a failed one before it has read, so the time is linear. Values can be bare where RFC 2045 wants
# quotes (`boundary=----=_Part_1`), and an unclosed quote ends with the field.
_PARAMETER = re.compile(rb'([^\s;="]++)\s*+=\s*+(?:"((?>(?:[^"\\]++|\\(?:.|\Z))*))"?|([^;\s]*+))|[^;\s]++|[;\s]++', re.DOTALL)
# Most Content-Types: few parameters, no comment, no escape, nothing of RFC 2231. They take a third of the time.
_USUAL_PARAMETER = re.compile(rb';\s*+([a-zA-Z-]++)=(?:"([^"\\()*%]++)"|([a-zA-Z0-9._+-]++))')
_USUAL = re.compile(rb"\s*+([a-zA-Z0-9.+-]++/[a-zA-Z0-9.+-]++)((?:" + _USUAL_PARAMETER.pattern + rb"){0,8})\s*+")
_ESCAPED = re.compile(rb"\\(.)", re.DOTALL)

# The begin of a text can be base64: a first line as short as a word is none. Patterns that repeat a group would need a hundred
# times its size.
_MAYBE_BASE64 = re.compile(rb"\s*+(?=[A-Za-z0-9+/]{32})[A-Za-z0-9+/=\s]*+")
_TWO_WORDS = re.compile(rb"[A-Za-z0-9+/=][ \t]+[A-Za-z0-9+/=]")
_BASE64 = re.compile(rb"[A-Za-z0-9+/]++={0,2}")


class ContentType(NamedTuple):
    """A Content-Type field: the media type (`multipart/report`), and the parameters of a report.

    The types are in lower case; without a report-type it is empty.
    """

    media_type: bytes
    boundary: bytes | None = None
    report_type: bytes = b""


class Part(NamedTuple):
    """One part of a multipart: its media type in lower case, its header section, and where its body is in `message`."""

    media_type: bytes
    head: bytes
    message: bytes
    start: int
    end: int

    @property
    def body(self) -> bytes:
        """A copy of the body as it was sent, with the line end before the next boundary, as in KumoMTA (unlike RFC 2046)."""
        return self.message[self.start : self.end]


def split_message(message: bytes) -> tuple[bytes, int]:
    """Return the header section, and where the rest begins: at the line end of the empty line."""
    if message.startswith((b"\n", b"\r\n")):
        return b"", 0
    end = _HEADER_END.search(message)
    return (message, len(message)) if end is None else (message[: end.start()], end.end() - 1)


def header(head: bytes, name: bytes) -> bytes | None:
    """Return the value of the first field of this name (in lower case), still folded, or None."""
    found = field(head, name, _FIELD_VALUE)
    return None if found is None else found[1]


def field(head: bytes, name: bytes, rest: re.Pattern[bytes]) -> re.Match[bytes] | None:
    """Return the rest of the first field of this name (in lower case) as a match of `rest`, or None."""
    lowered = b"\n" + head.lower()
    wanted = b"\n" + name
    at = lowered.find(wanted)
    while at >= 0:
        # Because of the line end in front, `at` is the place of the name in `head`.
        if found := rest.match(head, at + len(name)):
            return found
        at = lowered.find(wanted, at + 1)
    return None


def media_type(value: bytes | None) -> bytes:
    """Return the media type of a Content-Type value, in lower case; `text/plain` where there is none (RFC 2045 section 5.2)."""
    if value is None:
        return _PLAIN_TEXT
    # Comments after the media type are the more common ones, and do not matter.
    kind = value[:CONTENT_TYPE_LIMIT].partition(b";")[0]
    found = _MEDIA_TYPE.match(_uncommented(value) if b"(" in kind else kind)
    return _PLAIN_TEXT if found is None else (found[1] + b"/" + found[2]).lower()


def content_type(value: bytes | None) -> ContentType:
    """Read a Content-Type value: any case, comments, a trailing `;`, no `;` at all, RFC 2231 continuations."""
    parameters: dict[bytes, bytes] = {}
    usual = None if value is None else _USUAL.fullmatch(value[:CONTENT_TYPE_LIMIT])
    if usual is not None:
        for name, quoted, bare in _USUAL_PARAMETER.findall(usual[2]):
            parameters.setdefault(name.lower(), quoted or bare)
        report_type = parameters.get(b"report-type", b"")
        return ContentType(usual[1].lower(), parameters.get(b"boundary"), report_type.strip().lower())
    plain = _uncommented(value or b"")
    kind = _MEDIA_TYPE.match(plain)
    if kind is None:
        return ContentType(_PLAIN_TEXT)
    for found in islice(_PARAMETER.finditer(plain, kind.end()), _PARAMETER_LIMIT):
        name, quoted, bare = found.groups()
        if name is not None:
            parameters.setdefault(name.lower(), bare if quoted is None else _ESCAPED.sub(rb"\1", quoted))
    boundary, report_type = _parameter(parameters, b"boundary"), _parameter(parameters, b"report-type") or b""
    return ContentType((kind[1] + b"/" + kind[2]).lower(), boundary, report_type.strip().lower())


def parts(message: bytes, boundary: bytes, start: int = 0) -> list[Part]:
    """Return the first `PART_LIMIT` parts of a multipart body, which begins with the line end at `start`.

    Without a closing boundary the last part ends with the message. The rest of a boundary's line is ignored: RFC 2046 section
    5.1.1 compares only the beginning of a line.
    """
    return [_part(message, *span) for span in spans(message, boundary.rstrip(), start, len(message))]


def spans(message: bytes, boundary: bytes, start: int, end: int) -> Iterator[tuple[int, int]]:
    """Yield the places of the parts between `start` and `end`: the line end in front of each, and its own end."""
    delimiter = b"\n--" + boundary
    at = message.find(delimiter, start, end)
    for number in range(PART_LIMIT):
        after = at + len(delimiter)
        line_end = message.find(b"\n", after, end) if at >= 0 else -1
        if line_end < 0 or (number and message.startswith(b"--", after)):
            return
        at = message.find(delimiter, line_end, end)
        yield line_end, end if at < 0 else at + 1


def transfer_decoded(part: Part) -> bytes | None:
    """Return a part's body without its transfer encoding; None if it claims to be base64 and is not."""
    value = header(part.head, b"content-transfer-encoding")
    encoding = b"" if value is None else _uncommented(value).partition(b";")[0].strip(b" \t\r\n\"'").lower()
    if encoding == b"quoted-printable":
        return quoted_printable(part.message, part.start, part.end)
    if encoding == b"base64":
        body = part.body
        decoded = unbase64(body)
        return _unbase64_begin(body) if decoded is None else decoded
    return part.body


def quoted_printable(text: bytes, start: int = 0, end: int | None = None) -> bytes:
    """Decode quoted-printable, or a part of it."""
    return b"".join(map(binascii.a2b_qp, _line_pieces(text, start, len(text) if end is None else end)))


def _line_pieces(message: bytes, start: int, end: int) -> Iterator[memoryview]:
    """Yield a part of a message in pieces of whole lines: other threads run between them."""
    view = memoryview(message)
    while start < end:
        cut = end if end - start <= _PIECE else message.find(b"\n", start + _PIECE, end) + 1 or end
        yield view[start:cut]
        start = cut


def unbase64(text: bytes) -> bytes | None:
    """Decode base64 with white space, with or without padding, also when cut short; None if it has any other byte."""
    digits = text.translate(None, b" \t\r\n\f\v").rstrip(b"=")
    if len(digits) % 4 == 1:
        digits = digits[:-1]
    size = len(digits.rstrip(b"="))
    if digits.find(b"=", 0, size) >= 0:
        return None
    digits += b"=" * (-len(digits) % 4)
    # In pieces, the last one with the padding: other threads run between them.
    pieces = (digits[start : start + _PIECE if start + _PIECE < size else None] for start in range(0, size or 1, _PIECE))
    try:
        return b"".join([binascii.a2b_base64(piece, strict_mode=True) for piece in pieces])
    except binascii.Error:
        return None


def _unbase64_begin(text: bytes) -> bytes | None:
    """Decode the lines of base64 at the begin of a text; padding can be in each. Return None if there are none."""
    found = _MAYBE_BASE64.match(text)
    end = 0 if found is None else found.end()
    words = _TWO_WORDS.search(text, 0, end)
    digits = text[: end if words is None else words.start()].rpartition(b"\n")[0].translate(None, b" \t\r\n")
    pieces = [piece[0] for piece in islice(_BASE64.finditer(digits), _PADDINGS_LIMIT + 1)]
    if not pieces or len(pieces) > _PADDINGS_LIMIT:
        return None
    return b"".join(filter(None, map(unbase64, pieces)))


def _part(message: bytes, start: int, end: int) -> Part:
    # From that line end on, an empty header section (`--b`, empty line) is found like any other.
    gap = _HEADER_END.search(message, start, end)
    head_end, body_start = (end, end) if gap is None else gap.span()
    head = message[start + 1 : min(head_end, start + _PART_HEAD_LIMIT)]
    return Part(media_type(header(head, b"content-type")), head, message, body_start, end)


def _parameter(parameters: dict[bytes, bytes], name: bytes) -> bytes | None:
    """Return a parameter's value, joined from its RFC 2231 sections if there is no plain one."""
    plain = parameters.get(name)
    if plain is not None:
        return plain
    section = re.compile(re.escape(name) + rb"(?:\*([0-9]{1,5}))?(\*)?")
    pieces = [(int(m[1] or 0), m[2] is not None, key) for key in parameters if (m := section.fullmatch(key))]
    text = b""
    for number, percent, key in sorted(pieces):
        piece = parameters[key]
        if percent and number == 0 and piece.count(b"'") >= 2:  # noqa: PLR2004 - charset'language'text
            piece = piece.split(b"'", 2)[2]
        text += unquote_to_bytes(piece) if percent else piece
    return text if pieces else None


def _uncommented(value: bytes) -> bytes:
    """Return a structured field value, cut to its limits, with a space for each comment (RFC 5322 section 3.2.2)."""
    value = value[:CONTENT_TYPE_LIMIT]
    if b"(" not in value:
        return value
    kept: list[bytes] = []
    start, marks = 0, 0
    while mark := _QUOTE_OR_COMMENT.search(value, start):
        if marks >= _MARK_LIMIT:
            return b"".join(kept)
        quoted = _QUOTED.match(value, mark.start())
        end, inner = (quoted.end(), 0) if quoted else _comment_end(value, mark.end(), _MARK_LIMIT - marks)
        marks += 1 + inner
        kept.append(value[start:end] if quoted else value[start : mark.start()] + b" ")
        start = end
    return b"".join((*kept, value[start:]))


def _comment_end(value: bytes, start: int, limit: int) -> tuple[int, int]:
    """Return the end of the comment whose text begins at `start`, and its marks; above `limit` it is the field's end."""
    depth, marks = 1, 0
    for marks, mark in enumerate(islice(_COMMENT_MARK.finditer(value, start), limit), start=1):
        depth += {b"(": 1, b")": -1}.get(mark[0], 0)
        if depth == 0:
            return mark.end(), marks
    return len(value), marks
