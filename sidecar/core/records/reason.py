"""The reason of a record without its own facts, so that rejections that differ only in the peer count as one reason."""

import re
from collections.abc import Sequence
from functools import lru_cache

from sidecar.core.disposition import Disposition
from sidecar.core.records.build import REPLY_LIMIT, WHY_LIMIT
from sidecar.core.records.reading import TYPES, Logged
from sidecar.core.settings.values import LimitSettings

LIMIT = max(WHY_LIMIT, REPLY_LIMIT)
"""The longest reason or reply of a record. Of a longer one, as in another program's log, the beginning counts."""

INCOMING = frozenset({"Reception", "Rejection", "OOB", "Feedback"})
"""The types of records of incoming mail: their peer is the client. In the others it is the MTA that mail was sent to."""
BOUNCES = frozenset({"OOB", "Bounce"})
"""The types whose recipient is the failed address: their response has the reason."""
NOT_LOGGED = frozenset({Disposition.QUARANTINED, Disposition.DROPPED})
"""The dispositions of a Reception that is the only record of a report. With others, the report has records of its own."""
UNKNOWN = "(unknown)"
"""What a record does not say."""

_OUTGOING = frozenset(TYPES) - INCOMING - {"Suppression"} | {"OOB"}
_FIRST_REJECTION = "; the first: "

# `(listener_domains.toml:3 "*".log_oob)`: the rule is part of the reason, and so are the names of standards and reply classes.
_KEPT = re.compile(r'(\([^()]{1,200}:\d{1,9} [^()]{1,200}\)|"[^"]{1,100}"|\bRFC \d{3,5}\b|\bclass \d(?: or \d)?\b)', re.ASCII)
_EDGES = "<>(){},;:.'!?"
# The name of a limit is part of the reason, and no domain.
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
_ANY_MARK = re.compile("|".join(sorted({mark for _, mark in _MARKS})))


def shape(text: str) -> str:
    """Return `text` with `<ip>`, `<domain>`, `<address>`, `<number>` and `<id>` in place of the facts of one record.

    Rules (`(file:line key)`), quoted text, enhanced status codes, RFCs and reply classes are kept. A text longer than `LIMIT`
    is cut.
    """
    return _shape(text[:LIMIT])


@lru_cache(maxsize=8192)
def _shape(text: str) -> str:
    pieces = _KEPT.split(text)
    return "".join(piece if at % 2 else " ".join(map(_word, piece.split(" "))) for at, piece in enumerate(pieces))[:LIMIT]


def _word(word: str) -> str:
    core = word.strip(_EDGES)
    if not core or (core.isalpha() and core.isascii()) or core in _LIMITS or _STATUS.fullmatch(core):
        return word
    mark = next((mark for pattern, mark in _MARKS if pattern.fullmatch(core)), None)
    return word if mark is None else word.replace(core, mark, 1).replace("<<", "<").replace(">>", ">")


def common_words(shape: str) -> str:
    """Return the words of a shape that all its reasons have: those without a mark."""
    return " ".join(word for word in shape.split() if not _ANY_MARK.search(word))


def reason_of(record: Logged, domains: Sequence[str]) -> str:
    """Return the reason without the facts of one record: `meta.why`, or the reply of another MTA."""
    why = None if record.type in _OUTGOING else record.meta.get("why")
    if isinstance(why, str) and why:
        peer = "" if record.peer_address is None else record.peer_address.addr
        return shape_of_why(why, peer=peer, domain=domains[0] if domains else "", is_counted="count" in record.meta)
    response = record.response
    if not response.code:
        return UNKNOWN
    status = "" if response.enhanced_code is None else f"{response.enhanced_code} "
    return f"{response.code} {status}{shape(response.content.removeprefix(status))}".rstrip()


def shape_of_why(why: str, *, peer: str, domain: str, is_counted: bool) -> str:
    """Return the shape of `meta.why` of a record with this peer and recipient domain; both can be empty."""
    # The record of many rejections quotes the first one.
    _, _, first = why.partition(_FIRST_REJECTION) if is_counted else ("", "", "")
    # The usual differences are replaced here, so that the cache of `shape`, which is slow, has most reasons.
    fact, place, rule = (first or why).partition(" (")
    if peer:
        fact = fact.replace(peer, "<ip>")
    if "." in domain:
        fact = fact.replace(domain, "<domain>")
    return shape(f"{fact}{place}{rule}")
