"""A piece of a bounce's text -> the SMTP reply that it quotes.

Owns how programs quote replies. Each pattern reads each byte a bounded number of times.
"""

import re
from typing import NamedTuple

from sidecar.core.reports.fields import VALUE_LIMIT

# RFC 5321 section 4.2: 4 or 5, then 0 to 5; some servers use 6 and 7.
# A pattern begins with a digit and looks behind it afterwards: a search then finds its candidates ten times as fast.
_CODE = rb"[45][0-7][0-9]"
_ENHANCED = rb"[45]\.[0-7]\.[0-9]{1,3}(?![0-9]|\.[0-9])"

# `550 5.1.1`, `550-5.1.1`, `550: 5.1.1`, `554 554 5.7.0`, `550 (#5.1.1)`, `ERROR_CODE :550, ERROR_CODE :5.1.1`.
_PAIR = re.compile(
    rb"(" + _CODE + rb")(?<![0-9.]...)(?:, ERROR_CODE :|[ \t:;,#(-]{1,6})(?:[245][0-9]{2}[ -])?[#(]{0,2}(" + _ENHANCED + rb")"
)
# A code alone stands at the begin of a line, after a word that introduces it, or, with text after it, after a mark.
_ALONE = re.compile(_CODE + rb"(?<![0-9.]...)(?![0-9])")
_CONTEXT = 32
_BEGINS = re.compile(
    rb"(?:\n[ \t>(<\[*-]{0,12}|\b(?:said|reply|response|responsecode|returned|code|error_code|reason|with|failed|error)"
    rb"[ \t\n:'\"#]{0,16})\Z",
    re.IGNORECASE,
)
_FOLLOWS_MARK = re.compile(rb"(?:[:;>'\"\[(]|<--|\],)[ \t\n'\"#]{0,16}\Z")
_ENDS = re.compile(rb"[ :\-\])'\",\r\n]|\.{3}|\Z")
_HAS_TEXT = re.compile(rb"[ :-]{1,3}[^\s0-9]")
_ENHANCED_ALONE = re.compile(rb"([45](?<![0-9.a-zA-Z/-].)\.[0-7]\.[0-9]{1,3})(?![0-9]|\.[0-9])")
_PARAGRAPH = re.compile(rb"\n[ \t]*\n")
# Programs continue after the reply with what they did next.
_AFTER = re.compile(rb"\n(?:Giving up on |I'm not going to try again|[<>]{3} |-{5}|={5}|\[RCPT_TO\])")


class QuotedReply(NamedTuple):
    """An SMTP reply. `code` and `enhanced` are `""` where the text has none; its words begin at `start` and end at `end`.

    `is_pair`: the enhanced code follows the code, and is not among the words.
    """

    code: str
    enhanced: str
    start: int
    end: int
    is_pair: bool


def find_reply(text: bytes, start: int, end: int) -> QuotedReply | None:
    """Return the first reply of class 4 or 5 in a piece of a text, or None."""
    pair = _PAIR.search(text, start, end)
    alone = _code_alone(text, start, end if pair is None else pair.start())
    if alone is not None:
        reply = _reply(text, alone[0], b"", alone.end(), end)
        found = _ENHANCED_ALONE.search(text, reply.start, reply.end)
        return reply if found is None or found[1][:1] != alone[0][:1] else reply._replace(enhanced=found[1].decode())
    if pair is not None:
        return _reply(text, pair[1], pair[2], pair.end(), end)
    found = _ENHANCED_ALONE.search(text, start, end)
    return None if found is None else _reply(text, b"", found[1], found.end(), end)


def _code_alone(text: bytes, start: int, end: int) -> re.Match[bytes] | None:
    for found in _ALONE.finditer(text, start, end):
        at = found.start()
        before = text[max(start, at - _CONTEXT) : at] if at - start >= _CONTEXT else b"\n" + text[start:at]
        if _BEGINS.search(before):
            if _ENDS.match(text, found.end()):
                return found
        elif _FOLLOWS_MARK.search(before) and _HAS_TEXT.match(text, found.end()):
            return found
    return None


def paragraph_end(text: bytes, start: int, end: int) -> int:
    """Return where the paragraph that begins at `start` ends."""
    limit = min(end, start + VALUE_LIMIT)
    found = _PARAGRAPH.search(text, start, limit)
    limit = limit if found is None else found.start()
    after = _AFTER.search(text, start, limit)
    return limit if after is None else after.start()


def _reply(text: bytes, code: bytes, enhanced: bytes, start: int, end: int) -> QuotedReply:
    return QuotedReply(code.decode(), enhanced.decode(), start, paragraph_end(text, start, end), bool(code and enhanced))
