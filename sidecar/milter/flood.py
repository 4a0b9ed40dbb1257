"""A flood of refusals: from some rate on a peer's Rejections are counted, and stand in the journal as one.

Owns the counts. Never touches any other record, and never writes: the recorder does.
"""

from collections.abc import Iterable
from threading import Lock

from msgspec import Struct

from sidecar.records import Record

# Peers whose refusals are counted at a time. A worker refuses some thousands a second, so there are hardly ever as many; the
# refusals of one more peer are recorded one by one.
PEERS_LIMIT = 10_000


class Counted(Struct, frozen=True, kw_only=True):
    """Refusals of one peer that have no record of their own yet; `first` is what the first of them would have had."""

    first: Record
    count: int


class Flood:
    """Sorts records, in any threads: of one peer's Rejections `rate` a second are let through, and the rest is counted."""

    def __init__(self, rate: int) -> None:
        self._rate = rate
        self._lock = Lock()
        self._second = 0
        self._let_through: dict[str, int] = {}
        self._counted: dict[str, Counted] = {}
        self._over = False

    def sift(self, records: Iterable[Record]) -> tuple[Record, ...]:
        """Give the records of an outcome, or none if they are those of a refusal that is counted."""
        records = tuple(records)
        with self._lock:
            written = all(record.type != "Rejection" or self._lets_through(record) for record in records)
        return records if written else ()

    def _lets_through(self, record: Record) -> bool:
        if record.timestamp != self._second:
            self._second = record.timestamp
            self._let_through.clear()
        peer = record.peer_address.addr
        told = self._let_through.get(peer, 0)
        if self._over or told < self._rate or (peer not in self._counted and len(self._counted) >= PEERS_LIMIT):
            self._let_through[peer] = told + 1
            return True
        known = self._counted.get(peer)
        self._counted[peer] = Counted(first=record, count=1) if known is None else _more(known, 1)
        return False

    def take(self) -> list[Counted]:
        """Give what was counted since the last time."""
        with self._lock:
            counted = list(self._counted.values())
            self._counted.clear()
            return counted

    def put_back(self, counted: Iterable[Counted]) -> None:
        """Count again what could not be written."""
        with self._lock:
            for one in counted:
                peer = one.first.peer_address.addr
                since = self._counted.get(peer)
                self._counted[peer] = one if since is None else _more(one, since.count)

    def end(self) -> None:
        """Count nothing more: whatever is refused from here on has its own record, or none can be written."""
        with self._lock:
            self._over = True


def _more(counted: Counted, count: int) -> Counted:
    return Counted(first=counted.first, count=counted.count + count)
