"""What many sentences have in common: two rejections that differ only in the peer are one reason.

Owns the marks that stand for what differs. Never looks at anything but the text.
"""

import re
from functools import lru_cache

from sidecar.core.settings.values import LimitSettings

# A longer reason is told apart from others by its beginning.
_LIMIT = 400

# `(listener_domains.toml:3 "*".log_oob)`: which rule it was is what a reason is about, so it stands.
_RULE = re.compile(r'(\([^()]{1,200}:\d{1,9} [^()]{1,200}\)|"[^"]{1,100}")', re.ASCII)
_EDGES = "<>(){},;:.'!?"
# Which limit was reached is what a reason is about; it must not be read as a domain.
_LIMITS = frozenset(f"limits.{name}" for name in LimitSettings.__struct_fields__)
_STATUS = re.compile(r"[245]\.\d{1,3}\.\d{1,3}", re.ASCII)
_MARKS = (
    (re.compile(r"\[?(?:\d{1,3}\.){3}\d{1,3}\]?(?::\d{1,5}|/\d{1,2})?", re.ASCII), "<ip>"),
    (re.compile(r"\d+(?:[,.:/-]\d+)*", re.ASCII), "<number>"),
    (re.compile(r"\[?(?=[^:]*:[^:]*:)[0-9a-f:.]{2,45}\]?(?::\d{1,5}|/\d{1,3})?", re.ASCII | re.IGNORECASE), "<ip>"),
    (re.compile(r"(?:[\w-]{1,63}\.){1,20}[^\W\d][\w-]{1,62}"), "<domain>"),
    (re.compile(r"[^@]*@.*"), "<address>"),
    # Queue ids and the like: letters and digits mixed, and too long for a word.
    (re.compile(r"(?=[A-Za-z_.=+/-]*\d)[\w.=+/-]{8,}", re.ASCII), "<id>"),
)


def shape(text: str) -> str:
    """Give `text` with marks such as `<ip>`, `<domain>`, `<address>`, `<number>` and `<id>` for what is one record's own.

    Rules (`(file:line key)`), what stands in double quotes and enhanced status codes are kept. The end of a long text is not.
    """
    return _shape(text[:_LIMIT])


@lru_cache(maxsize=8192)
def _shape(text: str) -> str:
    pieces = _RULE.split(text)
    return "".join(piece if at % 2 else " ".join(map(_word, piece.split(" "))) for at, piece in enumerate(pieces))[:_LIMIT]


def _word(word: str) -> str:
    core = word.strip(_EDGES)
    if not core or (core.isalpha() and core.isascii()) or core in _LIMITS or _STATUS.fullmatch(core):
        return word
    mark = next((mark for pattern, mark in _MARKS if pattern.fullmatch(core)), None)
    return word if mark is None else word.replace(core, mark, 1).replace("<<", "<").replace(">>", ">")
