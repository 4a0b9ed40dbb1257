"""The rows of entries: one shown, and pages of those that are wanted, within a bound on the rows that are read.

The caller owns the transaction.
"""

import sqlite3
from collections.abc import Sequence
from typing import Final, cast

import msgspec
from msgspec import Struct

from sidecar.core.suppressed import ListQuery, ShownEntry
from sidecar.core.text import rfc3339
from sidecar.suppression.rules import NEVER, EntrySource, ListEntry

# Of a large list, few rows can be wanted: so many are read for one page, in some 10 ms.
_READ_LIMIT: Final = 50_000
_LAST_CHARACTER: Final = "\U0010ffff"


class Listed(ListEntry, frozen=True, kw_only=True, gc=False):
    """An address on the list, and its entry; with `store = "hashed"` the address is its hash."""

    address: str


class Page(Struct, frozen=True, kw_only=True):
    """Entries, and where the next page begins: after this address. None after the last page. A page can have no entry."""

    entries: list[Listed]
    after: str | None


def page(database: sqlite3.Connection, wanted: ListQuery, now: int, limit: int) -> Page:
    """Return the next entries at `now`, `limit` at most."""
    inner, values = ["address > ?"], [wanted.after]
    if wanted.prefix:
        inner.append("address >= ? AND address < ?")
        values += [wanted.prefix, wanted.prefix + _LAST_CHARACTER]
    where, more = ["(expires = 0 OR expires > ?)"], list[str | int]([now])
    if wanted.domain:
        where.append("substr(address, -?) = ?")
        more += [len(wanted.domain) + 1, f"@{wanted.domain}"]
    if wanted.reason:
        where.append("reason = ?")
        more.append(wanted.reason)
    read = f"SELECT * FROM entry WHERE {' AND '.join(inner)} ORDER BY address"  # noqa: S608 - constant pieces
    query = f"SELECT * FROM ({read} LIMIT {_READ_LIMIT}) WHERE {' AND '.join(where)} LIMIT ?"  # noqa: S608 - likewise
    entries = [entry_of(row) for row in database.execute(query, (*values, *more, limit))]
    if len(entries) == limit:
        return Page(entries=entries, after=entries[-1].address)
    last = database.execute(f"{read} LIMIT 1 OFFSET {_READ_LIMIT - 1}", values).fetchone()
    return Page(entries=entries, after=None if last is None else str(last[0]))


def row_of(address: str, entry: ListEntry) -> tuple[str | int, ...]:
    """Return the row of an entry."""
    reports = msgspec.json.encode(entry.reports).decode()
    return (address, entry.reason, entry.source, entry.since, entry.expires, reports, " ".join(entry.nodes))


def entry_of(row: Sequence[str | int]) -> Listed:
    """Return a row of the table of entries."""
    address, reason, source, since, expires, reports, nodes = row
    return Listed(
        address=str(address),
        reason=str(reason),
        source=cast("EntrySource", source),  # only entries of `rules` are in the table
        since=int(since),
        expires=int(expires),
        reports=msgspec.json.decode(str(reports), type=tuple[str, ...]),
        nodes=tuple(str(nodes).split()),
    )


def shown(address: str, entry: ListEntry) -> ShownEntry:
    """Return an entry for people and programs."""
    return ShownEntry(
        address=address,
        reason=entry.reason,
        source=entry.source,
        since=rfc3339(entry.since),
        expires=None if entry.expires == NEVER else rfc3339(entry.expires),
        reports=entry.reports,
        nodes=entry.nodes,
    )
