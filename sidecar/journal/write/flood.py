"""A flood of rejections: above a rate or a limit, the Rejections of a network are counted, and stand in the journal as one.

Owns the counts. Never touches any other record, and never writes: the recorder does.
"""

from collections.abc import Iterable, Sequence
from threading import Lock

from msgspec import Struct
from msgspec.structs import replace

from sidecar.core.records import Record

# Networks whose rejections are counted at a time, some 2 kB each. A worker rejects some thousands a second, so there are rarely
# as many. The rejections of one more network are recorded one by one.
NETWORKS_LIMIT = 10_000


class Counted(Struct, frozen=True, kw_only=True):
    """Rejections of one network that have no record of their own yet; `first` is what the first of them would have had.

    `first` has no sender, recipients or headers: these may have a megabyte, and the record of all has none of them.

    `limited` says that the limit on bytes holds for their record, `size` how many bytes it had when it was above the limit.
    """

    network: str
    first: Record
    count: int
    limited: bool
    size: int = 0


class Flood:
    """Sorts records, in any threads: of one network's Rejections `rate` a second pass, and the rest is counted.

    The networks are keys such as `network_of` returns.
    """

    def __init__(self, rate: int) -> None:
        self._rate = rate
        self._lock = Lock()
        self._second = 0
        self._passed: dict[str, int] = {}
        self._counted: dict[str, Counted] = {}
        self._over = False

    def limit(self, records: Sequence[Record], network: str, *, limited: bool) -> Sequence[Record]:
        """Return the records of an outcome, or none if they are those of a rejection that is counted."""
        for record in records:
            if record.type == "Rejection":
                with self._lock:
                    if not self._passes(record, network, limited=limited):
                        return ()
        return records

    def _passes(self, record: Record, network: str, *, limited: bool) -> bool:
        if record.timestamp != self._second:
            self._second = record.timestamp
            self._passed.clear()
        passed = self._passed.get(network, 0)
        if passed < self._rate or not self._count(record, network, limited=limited):
            self._passed[network] = passed + 1
            return True
        return False

    def count(self, records: Iterable[Record], network: str) -> bool:
        """Count a rejection that is above the limit on bytes. Return False if it must be written."""
        with self._lock:
            return all(self._count(record, network, limited=True) for record in records if record.type == "Rejection")

    def _count(self, record: Record, network: str, *, limited: bool) -> bool:
        known = self._counted.get(network)
        if self._over or (known is None and len(self._counted) >= NETWORKS_LIMIT):
            return False
        if known is None:
            first = replace(record, sender="", recipient="", headers={})
            self._counted[network] = Counted(network=network, first=first, count=1, limited=limited)
        else:
            self._counted[network] = _more(known, 1)
        return True

    def take(self) -> list[Counted]:
        """Return what was counted since the last time."""
        with self._lock:
            counted = list(self._counted.values())
            self._counted.clear()
            return counted

    def put_back(self, counted: Iterable[Counted]) -> None:
        """Count again what could not be written; these keep their place before what was counted since."""
        with self._lock:
            since, self._counted = self._counted, {one.network: one for one in counted}
            for network, one in since.items():
                known = self._counted.get(network)
                self._counted[network] = one if known is None else _more(known, one.count)

    def end(self) -> None:
        """Count nothing more: whatever is rejected from here on has its own record, or none can be written."""
        with self._lock:
            self._over = True


def _more(counted: Counted, count: int) -> Counted:
    return replace(counted, count=counted.count + count)
