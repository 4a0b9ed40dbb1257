"""A search for records: its conditions, the query that it becomes, and pages of rows, the newest first, in bounded time.

Never opens the database.
"""

import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Final

from msgspec import Struct

from sidecar.core.names import normal_domain
from sidecar.core.networks import parse_network
from sidecar.core.policy.address import normal_address
from sidecar.journal.index.peers import MAPPED, ends, packed
from sidecar.journal.index.row import LAST_TIME, SECOND, Row
from sidecar.journal.index.store import KEY_BITS, StoredRow, stored_row
from sidecar.journal.index.words import clean, id_word, network_words, text_words

SEARCH_SECONDS: Final = 0.25
"""A page has what was found in this time."""
# The first range of time that is searched, in seconds; each next one is so many times longer. So a search that takes too long
# knows how far it got.
_FIRST_RANGE: Final = 86400
_GROWTH: Final = 8
# SQLite asks after so many steps of its machine, of some 50 ns each.
_STEPS: Final = 10_000
_HIGHEST_KEY: Final = LAST_TIME << KEY_BITS

BY_WORDS: Final = """SELECT record.* FROM word CROSS JOIN record ON record.key = word.rowid
    WHERE word MATCH ? AND word.rowid >= ? AND word.rowid < ? ORDER BY word.rowid DESC"""
BY_TIME: Final = "SELECT * FROM record WHERE key >= ? AND key < ? ORDER BY key DESC"


class Search(Struct, frozen=True, kw_only=True):
    """The conditions of a search; all of them hold for a record that is found. An empty one is no condition.

    Times are in seconds since 1970; `until` is the first one after. `types` are the types of records of which one holds.
    `peer_network` is an address or a network; `domain` that of a sender, recipient or reported address, or a name above it;
    `address` any of these addresses, in any case. `message_id` is the id of the message or of the record, or the Message-ID of
    a returned message. `text` has words that are all in the reason, or in the peer's name.
    """

    types: tuple[str, ...] = ()
    since: float | None = None
    until: float | None = None
    disposition: str = ""
    peer_network: str = ""
    domain: str = ""
    address: str = ""
    queue_id: str = ""
    message_id: str = ""
    session_id: str = ""
    text: str = ""
    bounce_class: str = ""
    feedback_type: str = ""
    reporter: str = ""
    verified: str = ""


class RowPage(Struct, frozen=True, kw_only=True):
    """Rows, the newest first. The next page has those `before` this key; None after the last page.

    A page that is not `complete` has what was found in time: it can have fewer rows than asked for, also none.
    """

    rows: tuple[StoredRow, ...]
    before: int | None
    complete: bool


class _Query:
    """A search as words of FTS5, and what only a row shows. Raise ValueError for a network that is none."""

    def __init__(self, search: Search) -> None:
        # Records of other programs can have another spelling.
        self._addresses = {one.lower() for one in (search.address.strip(), normal_address(search.address.strip())) if one}
        self._message_id = search.message_id.strip().removeprefix("<").removesuffix(">")
        self._session_id = search.session_id.strip()
        self._network: tuple[bytes, bytes] | None = None
        groups = [_kinds(search.types, search.disposition)]
        if search.peer_network:
            low, high, bits = ends(parse_network(search.peer_network.strip()))
            self._network = low, high
            groups.append(network_words(low, bits))
        if search.domain:
            name = search.domain.strip()
            groups.append([f"d{normal_domain(name) or name.lower()}"])
        for letter, value in (
            ("q", search.queue_id.strip()),
            ("b", search.bounce_class),
            ("f", search.feedback_type.lower()),
            ("r", search.reporter),
            ("v", search.verified),
        ):
            groups.append([f"{letter}{value}"] if value else [])
        groups.append([f"a{one}" for one in sorted(self._addresses)])
        groups += ([id_word(one)] for one in (self._message_id, self._session_id) if one)
        groups += ([one] for one in text_words(search.text))
        self.match = " AND ".join(map(_any_of, filter(None, groups)))

    def holds(self, row: Row) -> bool:
        """Return True if what the words leave open holds for a row that has them."""
        if self._network is not None:
            (low, high), peer = self._network, packed(row.peer)
            # An IPv4 address is in no IPv6 network, and `::/0` has the addresses that stand for them.
            if peer is None or not low <= peer <= high or peer.startswith(MAPPED) != low.startswith(MAPPED):
                return False
        if self._session_id and row.session_id != self._session_id:
            return False
        if self._message_id and self._message_id not in {row.message_id, row.id, row.original_id}:
            return False
        return not self._addresses or any(one.lower() in self._addresses for one in row.addresses)


def search(
    database: sqlite3.Connection, wanted: Search, *, limit: int, before: int | None, seconds: float | None = None
) -> RowPage:
    """Return the newest wanted rows before a key, `limit` at most. Raise ValueError for a network that is none.

    Without `seconds` a search has `SEARCH_SECONDS`.
    """
    query = _Query(wanted)
    first = 0 if wanted.since is None else _key(wanted.since)
    end = min(_HIGHEST_KEY if wanted.until is None else _key(wanted.until), _HIGHEST_KEY if before is None else before)
    newest = database.execute("SELECT max(key) FROM record").fetchone()[0] or 0
    end = min(end, int(newest) + 1)
    rows = list[StoredRow]()
    with deadline(database, SEARCH_SECONDS if seconds is None else seconds) as is_late:
        for begin, stop in _ranges(first, end):
            try:
                for row in _rows(database, query, begin, stop):
                    end = row.key
                    if query.holds(row):
                        rows.append(row)
                    if len(rows) == limit:
                        return RowPage(rows=tuple(rows), before=end, complete=True)
            except sqlite3.OperationalError as error:
                if error.sqlite_errorname != "SQLITE_INTERRUPT":
                    raise
                return RowPage(rows=tuple(rows), before=end, complete=False)
            end = begin
            if is_late() and begin > first:
                return RowPage(rows=tuple(rows), before=end, complete=False)
    return RowPage(rows=tuple(rows), before=None, complete=True)


@contextmanager
def deadline(database: sqlite3.Connection, seconds: float) -> Iterator[Callable[[], bool]]:
    """Interrupt what the block asks of the database after so many seconds. Yield a function that returns True then."""
    end = time.monotonic() + seconds

    def is_late() -> bool:
        return time.monotonic() > end

    database.set_progress_handler(is_late, _STEPS)
    try:
        yield is_late
    finally:
        database.set_progress_handler(None, 0)


def _any_of(words: Sequence[str]) -> str:
    # No clean word has a quote, and no row a NUL.
    return "(" + " OR ".join('"' + clean(one.replace("\0", "_")) + '"' for one in words) + ")"


def _key(seconds: float) -> int:
    return int(min(max(0.0, seconds * SECOND), float(LAST_TIME))) << KEY_BITS


def _kinds(types: Sequence[str], disposition: str) -> list[str]:
    if types and disposition:
        return [f"k{one}.{disposition}" for one in types]
    return [f"t{one}" for one in types] if types else [f"o{disposition}"] if disposition else []


def _ranges(first: int, end: int) -> Iterator[tuple[int, int]]:
    """Yield ranges of keys, the latest first, the first of a day and each next one longer."""
    length = _FIRST_RANGE * SECOND << KEY_BITS
    while end > first:
        begin = max(first, end - length)
        yield begin, end
        end, length = begin, length * _GROWTH


def _rows(database: sqlite3.Connection, query: _Query, begin: int, end: int) -> Iterator[StoredRow]:
    if query.match:
        return map(stored_row, database.execute(BY_WORDS, (query.match, begin, end)))
    return map(stored_row, database.execute(BY_TIME, (begin, end)))
