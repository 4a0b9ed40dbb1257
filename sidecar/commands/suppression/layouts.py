"""Suppression lists of other programs: their layouts, read line by line.

Known are one address a line, CSV with a head line (this program, Mailgun, PowerMTA's accounting files), CSV as SES imports it
(`address,BOUNCE`), JSON lines (this program, SES), and one JSON document (SES, Mailgun). Files are external data.

Sources: Amazon SES Developer Guide, "Using the Amazon SES account-level suppression list"; SES API v2 Reference,
"ListSuppressedDestinations"; Mailgun API Reference, "Bounces", "Complaints" and "Unsubscribe"; PowerMTA User's Guide, of
accounting files.
"""

import csv
from collections.abc import Iterable, Iterator
from datetime import datetime
from itertools import chain
from typing import Any, Final, TextIO

import msgspec
from msgspec import Struct

from sidecar.core.suppressed import REASON_LIMIT, unguarded
from sidecar.core.text import printable
from sidecar.suppression.changes import HandChange
from sidecar.suppression.reading import normal_key
from sidecar.suppression.rules import NEVER

_ADDRESS: Final = ("address", "emailaddress", "email", "rcpt")
_REASON: Final = ("reason", "bouncecat", "error", "code")
# Of PowerMTA's categories, those that say something about the mailbox; and its records of bounces, local and remote.
_PERMANENT: Final = ("bad-mailbox", "bad-domain", "inactive-mailbox")
_BOUNCES: Final = ("b", "rb")
# The tag of Mailgun's unsubscriptions from all mail.
_ALL_MAIL: Final = "*"
# The lists inside a JSON document: Mailgun's, and SES's.
_LISTS: Final = ("items", "SuppressedDestinationSummaries")
# Characters of a line of a list, and of a whole JSON document.
_LINE_LIMIT: Final = 64 * 1024
# Of a head line. Spreadsheets write a semicolon where the comma is in numbers.
_DELIMITERS: Final = (",", ";", "\t")
# Characters of a line that an error message has.
_SHOWN: Final = 60
_DOCUMENT_LIMIT: Final = 256 << 20


_Row = dict[str, Any] | None
"""The fields of a line or an item; None if it has none."""


class Omitted(Struct, frozen=True, kw_only=True):
    """A line, or an item of a JSON document, that adds no address.

    `place` is such as "line 3". `text` has its beginning; it is empty if the line says that the address is no reason to add it.
    """

    place: str
    text: str = ""


def read_list(file: TextIO, *, reason: str) -> Iterator[HandChange | Omitted]:
    """Yield an "add" for each address of a list; `reason` is for those without one. Raise ValueError if it is none."""
    begin = file.readline(_LINE_LIMIT).removeprefix("\ufeff")
    is_json = begin.lstrip()[:1] in {"{", "["}
    for place, row, text in _json_rows(begin, file) if is_json else _csv_rows(begin, file):
        address = None if row is None else normal_key(str(_first(row, _ADDRESS) or "").strip())
        if row is not None and not _counts(row):
            yield Omitted(place=place)
        elif row is None or address is None:
            yield Omitted(place=place, text=text.strip()[:_SHOWN] or "(empty)")
        else:
            yield HandChange(action="add", address=address, reason=_reason(row) or reason, expires=_expires(row))


def _csv_rows(begin: str, file: Iterable[str]) -> Iterator[tuple[str, _Row, str]]:
    """Yield the rows of CSV with a head line; without one, those of addresses, which a reason can follow."""
    delimiter = max(_DELIMITERS, key=begin.count)
    head = next(csv.reader([begin], delimiter=delimiter), [])
    names = tuple(name.strip().lower().replace("_", "").replace(" ", "") for name in head)
    has_head = any(name in _ADDRESS for name in names)
    if not has_head:
        file, names, delimiter = chain([begin], file), ("address", "reason"), ","
    lines = _Lines(file, before=int(has_head))
    try:
        for cells in csv.reader(lines, delimiter=delimiter):
            # What follows an address is its reason, and not another address.
            is_none = not has_head and any(map(normal_key, cells[1:]))
            yield f"line {lines.number}", None if is_none else dict(zip(names, map(unguarded, cells), strict=False)), lines.text
    except csv.Error as error:
        raise ValueError(f"it is no CSV: {error}") from error


class _Lines:
    """The lines of a file without empty ones and comments; `number` and `text` are those of the last one."""

    def __init__(self, lines: Iterable[str], before: int) -> None:
        self._lines, self.number, self.text = lines, before, ""

    def __iter__(self) -> Iterator[str]:
        for line in self._lines:
            self.number, self.text = self.number + 1, line
            if line.strip() and not line.startswith("#"):
                yield line


def _json_rows(begin: str, file: TextIO) -> Iterator[tuple[str, _Row, str]]:
    first = _decoded(begin)
    if isinstance(first, list):
        yield from _items(first)
    elif first is None or (isinstance(first, dict) and any(key in first for key in _LISTS)):
        yield from _document_rows(begin + file.read(_DOCUMENT_LIMIT))
    else:
        for number, line in enumerate(chain([begin], file), 1):
            if line.strip():
                yield f"line {number}", _row(_decoded(line)), line


def _document_rows(text: str) -> Iterator[tuple[str, _Row, str]]:
    found = _decoded(text)
    if isinstance(found, dict):
        found = next((found[key] for key in _LISTS if key in found), None)
    if not isinstance(found, list):
        raise ValueError(f"it has no list of JSON objects, also not as {' or '.join(_LISTS)}")  # noqa: TRY004 - the content is wrong, not a type of ours
    yield from _items(found)


def _items(found: list[Any]) -> Iterator[tuple[str, _Row, str]]:
    for number, item in enumerate(found, 1):
        yield f"item {number}", _row(item), str(item)


def _decoded(text: str) -> Any:  # noqa: ANN401 - any JSON
    try:
        return msgspec.json.decode(text)
    except (ValueError, RecursionError):
        return None


def _row(value: object) -> _Row:
    if not isinstance(value, dict):
        return None
    return {str(key).lower().replace("_", ""): one for key, one in value.items()}


def _counts(row: dict[str, Any]) -> bool:
    """Return False for a line that says nothing about all mail to an address.

    That is a PowerMTA record of a delivery or of something temporary, or a Mailgun unsubscription from some tags only.
    """
    if "bouncecat" in row and (str(row["bouncecat"]) not in _PERMANENT or str(row.get("type", "b")) not in _BOUNCES):
        return False
    tags = row.get("tags")
    names = [tags] if isinstance(tags, str) else tags if isinstance(tags, list) else []
    return not any(names) or _ALL_MAIL in names


def _first(row: dict[str, Any], names: Iterable[str]) -> object:
    return next((row[name] for name in names if row.get(name)), None)


def _reason(row: dict[str, Any]) -> str:
    return printable(str(_first(row, _REASON) or "").strip()[:REASON_LIMIT])[:REASON_LIMIT]


def _expires(row: dict[str, Any]) -> int:
    """Return when an entry of this program's own lists ends."""
    try:
        return int(datetime.fromisoformat(str(row.get("expires") or "")).timestamp())
    except (ValueError, OverflowError):
        return NEVER
