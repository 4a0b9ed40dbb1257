"""The header section of a returned message as it was sent, field by field; its body. Never decodes a value."""

import re
from collections import defaultdict
from collections.abc import Mapping
from typing import NamedTuple

# As many as a message of the session can have; each has a cost.
FIELD_LIMIT = 1000

# A line that begins with a blank continues a field.
_FIELD_END = re.compile(rb"\n(?![ \t])")
_BLANKS = b" \t\r\n"


Fields = Mapping[bytes, list[bytes]]
"""Header fields by their names in lower case, in order: all of each, with LF between its lines and without the last one."""


class Returned(NamedTuple):
    """A returned message or header section with LF line ends, and its fields."""

    message: str | bytes
    fields: Fields


def body_of(message: str | bytes, limit: int) -> bytes | None:
    """Return the body of a message with LF line ends: empty if there is none, None if it has more than `limit` characters."""
    stripped = message.lstrip("\n") if isinstance(message, str) else message.lstrip(b"\n")
    if isinstance(stripped, str):
        _, _, text = stripped.partition("\n\n")
        return None if len(text) > limit else text.encode("utf-8", "replace")
    _, _, octets = stripped.partition(b"\n\n")
    return None if len(octets) > limit else octets


def fields(head: bytes) -> Fields:
    """Return the fields of a header section with LF line ends. Lines without a colon are left out."""
    found: defaultdict[bytes, list[bytes]] = defaultdict(list)
    for raw in _FIELD_END.split(head, FIELD_LIMIT)[:FIELD_LIMIT]:
        name, colon, _ = raw.partition(b":")
        if colon:
            found[name.rstrip(b" \t").lower()].append(raw)
    return found


def value_of(raw: bytes) -> bytes:
    """Return what follows the colon of a field, still folded."""
    return raw.partition(b":")[2]


def joined(value: bytes) -> bytes:
    """Return a value without any white space: folding can be anywhere."""
    return value.translate(None, _BLANKS)
