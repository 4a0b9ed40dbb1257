"""The body of a message -> its texts, each divided into the notice and the returned message, and its status parts.

Owns the parts of parts, down to a bound, and how programs begin a returned message. Never decides what a text means.
"""

import re
from typing import NamedTuple

from sidecar.core.reports import mime
from sidecar.core.reports.charsets import charset_name, charset_of

# A notice names at most some hundred recipients; what follows is not read.
NOTICE_LIMIT = 64 * 1024
_HTML_LIMIT = 64 * 1024
# Of multiparts in multiparts: gateways add one level, virus scanners one more.
_DEPTH_LIMIT = 3
_TEXT_LIMIT = 4
_PART_LIMIT = 40

# Where the returned message begins, in lower case. All have the word `message`, so they cost one search for it.
_MESSAGE_MARKERS = (
    *(b"original message follows", b"message headers follow", b"included is a copy of the message header"),
    *(b"original message headers:", b"below is a copy of the original message", b"message text follows"),
    *(b"a copy of the original message below", b"start of returned message", b"your message reads (in part"),
    *(b"message follows --", b"old message:\n", b"original message as received", b"original message attached"),
    *(b"begin forwarded message", b"content-type: message/rfc822", b"message to which it refers", b"the original message was:"),
)
_OTHER_MARKERS = (
    *(b"bounced e-mail:\n", b"here is a copy of the first part", b"\nfrom mailer-daemon "),
    *(b"the first 50 lines of your original", b"original mail as follows"),
)
# These stand behind a dash, perhaps with a blank.
_DASHED = (
    *(b"below this line is a copy", b"below the next line", b"enclosed is a copy", b"this is a copy of "),
    *(b"original message", b"mensaje original", b"the header of the original message", b"unsent message", b"returned mess"),
    *(b"message header follows", b"returned mail", b"message body", b"header of the source mail", b"attachment is a copy"),
    *(b"original mail info", b"copy of the original message", b"message truncated", b"forwarded message -"),
)
# A header section that begins without any line in front of it.
_HEADERS = re.compile(rb"\n(?:\n(?:received|return-path|dkim-signature|x-originating-ip):|received: from )")
_HEADER_LINE = re.compile(rb"^[A-Za-z][A-Za-z0-9-]{1,60}:[^\n]*\n", re.MULTILINE)


def _around(word: bytes, phrases: tuple[bytes, ...]) -> re.Pattern[bytes]:
    """Return a pattern for any of the phrases. It begins with a word that all have: a search for it is ten times as fast."""
    pieces = []
    for phrase in phrases:
        before, _, after = phrase.partition(word)
        pieces.append(b"(?<=" + re.escape(before + word) + b")" + re.escape(after))
    return re.compile(word + b"(?:" + b"|".join(pieces) + b")")


_MESSAGES = _around(b"message", _MESSAGE_MARKERS)
_DASHES = re.compile(b"- ?(?:" + b"|".join(map(re.escape, _DASHED)) + b")")

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
    elif kind in mime.STATUS_TYPES:
        body.statuses.append(mime.transfer_decoded(part) or part.body)
    elif kind in mime.RETURNED_TYPES:
        body.returned.append(mime.transfer_decoded(part) or part.body)
    elif kind == b"text/html":
        html.append(part)
    elif kind.startswith(b"text/") and len(body.texts) < _TEXT_LIMIT:
        body.texts.append(text_of(part))


def text_of(part: mime.Part) -> BounceText:
    """Return the text of a part."""
    return _text(mime.transfer_decoded(part) or part.body, part.head)


def _parts(part: mime.Part, boundary: bytes, depth: int) -> list[mime.Part]:
    """Return the parts of a multipart; a message itself, which can be large, is not copied."""
    if depth:
        return mime.parts(b"\n" + part.body, boundary)
    return mime.parts(part.message, boundary, max(part.start - 1, 0))


def _text(raw: bytes, head: bytes) -> BounceText:
    charset = charset_name(charset_of(mime.header(head, b"content-type")))
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
    end = len(lower)
    for marker in _OTHER_MARKERS:
        at = lower.find(marker, 0, end)
        end = at if at >= 0 else end
    for pattern in (_MESSAGES, _DASHES):
        found = pattern.search(lower, 0, end)
        end = end if found is None else found.start()
    begins = _HEADERS.search(lower, 1, end)
    if begins is not None:
        return begins.start() - 1, begins.start()
    if end == len(lower):
        return end - 1, -1
    line = max(lower.rfind(b"\n", 0, end), 0)
    found = _HEADER_LINE.search(lower, line + 1)
    return line, -1 if found is None else found.start() - 1


def _words(notice: bytes) -> list[bytes]:
    piece = notice if len(notice) <= 8 * 1024 else notice[: 6 * 1024] + b"\n" + notice[-2 * 1024 :]
    if b"\n>" in piece:
        piece = b"\n".join(line for line in piece.split(b"\n") if not line.startswith(b">"))
    return piece.split()


def _without_tags(html: bytes) -> bytes:
    html = _SCRIPT.sub(b"", html.translate(_LINE_ENDS) if _TAG_END.search(html) else html)
    return _ENTITY.sub(lambda found: _ENTITIES[found[1].lower()], _TAG.sub(b"", _TAG_END.sub(b"\n", html)))
