"""The header fields that records have: which ones, under which name, and how many bytes of them.

Never reads a message: the session and the report readers pass the fields.
"""

import json
from bisect import bisect_right
from collections.abc import Mapping
from functools import lru_cache
from json.encoder import encode_basestring_ascii

import msgspec
from msgspec import Raw

from sidecar.core.reports.fields import unstructured
from sidecar.core.text import printable_json

# Bytes of JSON of all recorded headers of a message; Received and DKIM headers of usual mail have some 5,000. All records of a
# message repeat them, and a bounce report can make a thousand. The rest is left out.
HEADERS_LIMIT = 16 * 1024

Values = Mapping[str, str | list[str]]
"""Header fields by name; a repeated field has a list of values."""


class RecordedHeaders:
    """The headers of one message that `wanted` names, in lower case; a name with `*` at its end means all that begin so."""

    def __init__(self, wanted: tuple[str, ...]) -> None:
        self._wanted = wanted
        self._names: dict[str, str] = {}
        self._values: dict[str, str | list[str]] = {}
        self._left = HEADERS_LIMIT
        self._encoded: Raw | None = None

    def add(self, name: bytes, value: bytes) -> None:
        """Record a field if it is wanted. Its name is spelled as the first field of that name."""
        spelled = name.rstrip().decode("utf-8", "replace")
        lowered = spelled.lower()
        if not is_among(lowered, self._wanted):
            return
        # In characters, which are fewer than the encoded bytes: those are counted once, after all headers.
        left = self._left - len(spelled)
        if left <= 0:
            return
        text = unstructured(value, left)[:left]
        self._left = left - len(text)
        self._encoded = None
        put(self._values, self._names.setdefault(lowered, spelled), text)

    @property
    def encoded(self) -> Raw | dict[str, str]:
        """The headers in the form that all records of a message share, encoded once."""
        if self._encoded is None and self._values:
            self._encoded = encoded_within(self._values, HEADERS_LIMIT)
        return self._encoded or {}


def put(values: dict[str, str | list[str]], name: str, text: str) -> None:
    """Add a field: a repeated one gets a list."""
    known = values.get(name)
    if known is None:
        values[name] = text
    elif isinstance(known, list):
        known.append(text)
    else:
        values[name] = [known, text]


def encoded_within(values: Values, limit: int) -> Raw:
    """Return the JSON of the first fields, the last of them cut, in `limit` bytes."""
    encoded = printable_json(msgspec.json.encode(values))
    if len(encoded) > limit:
        # In ASCII the bytes of a text do not depend on the text around it.
        encoded = json.dumps(_within(values, limit), separators=(",", ":")).encode()
    return Raw(encoded)


def _within(values: Values, limit: int) -> dict[str, str | list[str]]:
    kept: dict[str, str | list[str]] = {}
    left = limit - len("{}")
    for name, value in values.items():
        left -= _encoded_size(name) + len("[]")
        texts: list[str] = []
        for text in [value] if isinstance(value, str) else value:
            if left < _encoded_size(""):
                return {**kept, name: texts} if texts else kept
            size = _encoded_size(text)
            texts.append(text if size <= left else _cut(text, left))
            left -= size
        kept[name] = texts[0] if isinstance(value, str) else texts
    return kept


def _cut(text: str, limit: int) -> str:
    return text[: bisect_right(range(len(text) + 1), limit, key=lambda end: _encoded_size(text[:end])) - 1]


def _encoded_size(text: str) -> int:
    # With its quotes, and the comma or bracket that follows it.
    return len(encode_basestring_ascii(text)) + 1


def is_among(name: str, wanted: tuple[str, ...]) -> bool:
    """Return True if a list of names, some of them with `*` at the end, has a name in lower case."""
    return name in wanted or name.startswith(_beginnings(wanted))


@lru_cache(maxsize=8)  # a worker has a few lists; twice as many during a reload
def _beginnings(wanted: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(one[:-1] for one in wanted if one.endswith("*"))
