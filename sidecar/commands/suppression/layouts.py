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
_DOCUMENT_LIMIT: Final = 256 << 20


class Unreadable(Struct, frozen=True, kw_only=True):
    """A line, or an item of a document, that has no address. `number` counts from 1."""

    number: int


def read_list(file: TextIO, *, reason: str) -> Iterator[HandChange | Unreadable]:
    """Yield an "add" for each address of a list; `reason` is for those without one. Raise ValueError if it is none."""
    begin = file.readline(_LINE_LIMIT).removeprefix("\ufeff")
    if begin.lstrip()[:1] in {"{", "["}:
        rows = _json_rows(begin, file)
    elif _is_head(begin):
        rows = _csv_rows(_names(begin), file)
    else:
        rows = _csv_rows(("address", "reason"), chain([begin], file))
    for number, row in enumerate(rows, 1):
        if row is not None and not _counts(row):
            continue
        address = None if row is None else normal_key(str(_first(row, _ADDRESS) or "").strip())
        if row is None or address is None:
            yield Unreadable(number=number)
        else:
            yield HandChange(action="add", address=address, reason=_reason(row) or reason, expires=_expires(row))


def _names(head: str) -> tuple[str, ...]:
    row = next(csv.reader([head]), [])
    return tuple(name.strip().lower().replace("_", "").replace(" ", "") for name in row)


def _is_head(line: str) -> bool:
    return any(name in _ADDRESS for name in _names(line))


def _csv_rows(head: tuple[str, ...], lines: Iterable[str]) -> Iterator[dict[str, Any] | None]:
    try:
        for row in csv.reader(line for line in lines if line.strip() and not line.startswith("#")):
            yield dict(zip(head, map(unguarded, row), strict=False))
    except csv.Error as error:
        raise ValueError(f"it is no CSV: {error}") from error


def _json_rows(begin: str, file: TextIO) -> Iterator[dict[str, Any] | None]:
    first = _decoded(begin)
    if first is None or (isinstance(first, dict) and any(key in first for key in _LISTS)):
        yield from _document_rows(begin + file.read(_DOCUMENT_LIMIT))
        return
    if isinstance(first, list):
        yield from map(_row, first)
        return
    yield _row(first)
    for line in file:
        if line.strip():
            yield _row(_decoded(line))


def _document_rows(text: str) -> Iterator[dict[str, Any] | None]:
    found = _decoded(text)
    if isinstance(found, dict):
        found = next((found[key] for key in _LISTS if key in found), None)
    if not isinstance(found, list):
        raise ValueError("it is no JSON with a known list")  # noqa: TRY004 - the content is wrong, not a type of ours
    yield from map(_row, found)


def _decoded(text: str) -> Any:  # noqa: ANN401 - any JSON
    try:
        return msgspec.json.decode(text)
    except (ValueError, RecursionError):
        return None


def _row(value: object) -> dict[str, Any] | None:
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
