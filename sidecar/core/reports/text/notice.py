"""The body of a message -> its texts, each divided into the notice and the returned message, and its status parts.

Owns the parts of parts, down to a bound, and how programs begin a returned message. Never decides what a text means.
"""

import re
from typing import NamedTuple

from sidecar.core.reports import mime
from sidecar.core.reports.fields import charset_name

# A notice names at most some hundred recipients; what follows is not read.
NOTICE_LIMIT = 64 * 1024
_HTML_LIMIT = 64 * 1024
# Of multiparts in multiparts: gateways add one level, virus scanners one more.
_DEPTH_LIMIT = 3
_TEXT_LIMIT = 4
_PART_LIMIT = 40

_STATUS_TYPES = frozenset((b"message/delivery-status", b"message/global-delivery-status"))
_RETURNED_TYPES = frozenset((b"message/rfc822", b"text/rfc822-headers", b"message/global", b"message/global-headers"))
_CHARSET = re.compile(rb"charset\s{0,8}=\s{0,8}\"?([A-Za-z0-9._:-]{1,40})", re.IGNORECASE)

# Where the returned message begins, in lower case; the second ones stand behind a dash, perhaps with a blank.
_MARKERS = (
    *(b"original message follows", b"message headers follow", b"included is a copy of the message header"),
    *(b"original message headers:", b"below is a copy of the original message", b"message text follows"),
    *(b"a copy of the original message below", b"bounced e-mail:\n", b"start of returned message"),
    *(b"here is a copy of the first part", b"your message reads (in part", b"message follows --", b"old message:\n"),
    *(b"original message as received", b"original message attached", b"\nfrom mailer-daemon ", b"begin forwarded message"),
    *(b"content-type: message/rfc822", b"message to which it refers", b"the original message was:"),
    *(b"the first 50 lines of your original",),
)
_DASHED = (
    *(b"below this line is a copy", b"below the next line", b"enclosed is a copy", b"this is a copy of "),
    *(b"original message", b"mensaje original", b"the header of the original message", b"unsent message", b"returned mess"),
    *(b"message header follows", b"returned mail", b"message body", b"header of the source mail", b"attachment is a copy"),
    *(b"original mail info", b"copy of the original message", b"message truncated", b"forwarded message -"),
)
# Of the same words without a dash.
_TRIES = 10
# A header section that begins without any line in front of it.
_HEADERS = (b"\n\nreceived:", b"\n\nreturn-path:", b"\n\ndkim-signature:", b"\n\nx-originating-ip:", b"\nreceived: from ")
_HEADER_LINE = re.compile(rb"^[A-Za-z][A-Za-z0-9-]{1,60}:[^\n]*\n", re.MULTILINE)

_JIS = re.compile(rb"(?:\x1b\$[@B][^\x1b]*)+")
_TAG_END = re.compile(rb"<(?:br|/p|/div|/tr|/h[1-6]|/li|/pre)\b[^<>]{0,200}>", re.IGNORECASE)
_TAG = re.compile(rb"</?[a-zA-Z!][^<>]*+>")
_ENTITIES = {b"lt": b"<", b"gt": b">", b"amp": b"&", b"quot": b'"', b"nbsp": b" ", b"#39": b"'", b"#64": b"@", b"#160": b" "}
_ENTITY = re.compile(rb"&(" + b"|".join(_ENTITIES) + rb");", re.IGNORECASE)
_LINE_ENDS = bytes.maketrans(b"\r\n", b"  ")
_SCRIPT = re.compile(rb"<(style|script)\b[^<]*+</\1>", re.IGNORECASE)


class BounceText(NamedTuple):
    """One text of a message, with LF line ends. The notice is `text[:end]`; the returned message begins at `returned`.

    `text` is `raw` without Japanese characters that look like ASCII. `lower` is the notice in lower case with its line about
    the returned message, and `flat` its words with one space between them, without quoted lines; `vocabulary` is their set.
    """

    text: bytes
    raw: bytes
    charset: str
    end: int
    returned: int
    lower: bytes
    flat: bytes
    vocabulary: frozenset[bytes]

    @property
    def searched(self) -> tuple[bytes, frozenset[bytes]]:
        """What phrases are searched in."""
        return self.flat, self.vocabulary

    def words(self, start: int, end: int) -> str:
        """Return a piece of the text as one line."""
        return " ".join(self.raw[start:end].decode(self.charset, "replace").split())


class BounceBody(NamedTuple):
    """The parts of a message that matter: texts, status parts, and returned messages, all without transfer encoding."""

    texts: list[BounceText]
    statuses: list[bytes]
    returned: list[bytes]


def read_body(content: bytes, head: bytes, rest: int) -> BounceBody:
    """Return the texts, the status parts and the returned messages of a message."""
    body = BounceBody([], [], [])
    start = min(rest + 1, len(content))
    whole = mime.Part(mime.media_type(mime.header(head, b"content-type")), head, content, start, len(content))
    html: list[mime.Part] = []
    _collect(whole, body, html, 0)
    for part in html:
        if len(body.texts) < _TEXT_LIMIT:
            decoded = mime.transfer_decoded(part) or b""
            body.texts.append(_text(_without_tags(decoded[:_HTML_LIMIT]), part.head))
    return body


def _collect(part: mime.Part, body: BounceBody, html: list[mime.Part], depth: int) -> None:
    kind = part.media_type
    if kind.startswith(b"multipart/"):
        top = mime.content_type(mime.header(part.head, b"content-type"))
        inner = [] if top.boundary is None else _parts(part, top.boundary, depth)
        if inner and depth < _DEPTH_LIMIT:
            for child in inner[:_PART_LIMIT]:
                _collect(child, body, html, depth + 1)
        elif not inner and len(body.texts) < _TEXT_LIMIT:
            body.texts.append(_text(part.body, b""))
    elif kind in _STATUS_TYPES:
        body.statuses.append(mime.transfer_decoded(part) or part.body)
    elif kind in _RETURNED_TYPES:
        body.returned.append(mime.transfer_decoded(part) or part.body)
    elif kind == b"text/html":
        html.append(part)
    elif kind.startswith(b"text/") and len(body.texts) < _TEXT_LIMIT:
        body.texts.append(_text(mime.transfer_decoded(part) or part.body, part.head))


def _parts(part: mime.Part, boundary: bytes, depth: int) -> list[mime.Part]:
    """Return the parts of a multipart; a message itself, which can be large, is not copied."""
    if depth:
        return mime.parts(b"\n" + part.body, boundary)
    return mime.parts(part.message, boundary, max(part.start - 1, 0))


def _text(raw: bytes, head: bytes) -> BounceText:
    named = _CHARSET.search(mime.header(head, b"content-type") or b"")
    charset = charset_name(named[1].decode()) if named is not None else None
    whole = raw
    raw = raw[:NOTICE_LIMIT].replace(b"\r\n", b"\n")
    if b"\r" in raw and b"\n" not in raw:
        raw = raw.replace(b"\r", b"\n")
    text = _JIS.sub(lambda found: b" " * len(found[0]), raw) if b"\x1b$" in raw else raw
    lower = b"\n" + text.lower()
    end, returned = _division(lower)
    if returned >= 0:
        # Behind the limit, the rest of the returned message follows.
        raw = whole.replace(b"\r\n", b"\n") if len(whole) > NOTICE_LIMIT else raw
    line_end = lower.find(b"\n", end + 1)
    notice = lower[1 : line_end if line_end >= 0 else len(lower)]
    words = _words(notice)
    return BounceText(text, raw, charset or "utf-8", end, returned, notice, b" ".join(words), frozenset(words))


def _division(lower: bytes) -> tuple[int, int]:
    """Return where the notice ends, and where the returned message begins or -1. `lower` has one more line end in front."""
    end, begins = len(lower), False
    for marker in _HEADERS:
        at = lower.find(marker, 0, end)
        if at > 0:
            end, begins = at, True
    for marker in _MARKERS:
        at = lower.find(marker, 0, end)
        if at >= 0:
            end, begins = at, False
    for marker in _DASHED:
        at = _after_dash(lower, marker, end)
        if at >= 0:
            end, begins = at, False
    if end == len(lower):
        return end - 1, -1
    if begins:
        return end - 1, end
    line = max(lower.rfind(b"\n", 0, end), 0)
    found = _HEADER_LINE.search(lower, line + 1)
    return line, -1 if found is None else found.start() - 1


def _after_dash(lower: bytes, marker: bytes, end: int) -> int:
    at = lower.find(marker, 0, end)
    for _ in range(_TRIES):
        if at < 0 or lower[at - 2 : at].rstrip(b" ").endswith(b"-"):
            return at
        at = lower.find(marker, at + 1, end)
    return -1


def _words(notice: bytes) -> list[bytes]:
    piece = notice if len(notice) <= 8 * 1024 else notice[: 6 * 1024] + b"\n" + notice[-2 * 1024 :]
    if b"\n>" in piece:
        piece = b"\n".join(line for line in piece.split(b"\n") if not line.startswith(b">"))
    return piece.split()


def _without_tags(html: bytes) -> bytes:
    html = _SCRIPT.sub(b"", html.translate(_LINE_ENDS) if _TAG_END.search(html) else html)
    return _ENTITY.sub(lambda found: _ENTITIES[found[1].lower()], _TAG.sub(b"", _TAG_END.sub(b"\n", html)))
