"""What one network can cause in the journal: a limit on the bytes of its records, and a rate of Rejections.

Owns the debt and the counts of each network. Never writes, and never decides about mail.
"""

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from threading import Lock

from msgspec import Struct
from msgspec.structs import replace

from sidecar.core.records import Record
from sidecar.core.settings.values import LimitSettings

# A network whose records are above the limit has its whole burst again after this time.
RESTORE_SECONDS = 24 * 3600.0
# Networks remembered, 200 bytes each with a debt and 2 kB each with counted rejections. The debt that was silent longest is
# forgotten first. Rejections of more networks are recorded one by one: a worker rejects only some thousands a second.
NETWORKS_LIMIT = 10_000

_NO_DEBT = (0.0, 0.0)


class RecordBudget:
    """Bounds the bytes of records by network, from any threads: a token bucket that is held as a debt.

    A debt grows by the bytes of records, and shrinks by `record_bytes_per_byte` for each byte received and with time. It never
    exceeds `record_bytes_burst`, and never falls below zero: what a network sends today allows it nothing tomorrow.
    """

    def __init__(self, limits: LimitSettings) -> None:
        self._each = limits.record_bytes_per_byte
        self._burst = limits.record_bytes_burst
        self._restored = limits.record_bytes_burst / RESTORE_SECONDS
        self._lock = Lock()
        self._debts: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def spend(  # noqa: PLR0913 - each is a part of the sum
        self, network: str, *, received: int, size: int, now: float, relayed_again: int = 0, anyway: bool = False
    ) -> bool:
        """Charge `size` bytes of records to a network that sent `received` bytes; `now` is in seconds since 1970.

        The MTA sends a message to each of its recipients, and each has a record. So the bytes `relayed_again`, to all but the
        first of them, pay for these records. They pay for nothing else: the peer sent them once.

        Return False, and charge nothing but what was received, if the records exceed the limit; `anyway` charges in any case.
        """
        if self._each == 0:
            return True
        change = max(0, size - self._each * relayed_again) - self._each * received
        if change <= 0 and network not in self._debts:
            return True
        with self._lock:
            debt, since = self._debts.pop(network, _NO_DEBT)
            if debt and now > since:  # a clock that was set back restores nothing
                debt -= (now - since) * self._restored
                debt = debt if debt > 0 else 0.0
            # Records that the received bytes pay for are always written.
            admitted = change <= 0 or debt + change <= self._burst or anyway
            debt += change if admitted else -self._each * received
            if debt > 0:
                self._debts[network] = (debt, now)
                if len(self._debts) > NETWORKS_LIMIT:
                    self._debts.popitem(last=False)
            return admitted


class Counted(Struct, frozen=True, kw_only=True):
    """Rejections of one network that have no record yet; `first` is the record of the first of them.

    `first` has no sender, recipients or headers: they can have a megabyte, and the common record has none of them.

    With `limited` their record is subject to the limit on bytes; `size` is its size in bytes when it was above the limit.
    """

    network: str
    first: Record
    count: int
    limited: bool
    size: int = 0


class RejectionLimiter:
    """Limits the Rejections of a network to `rate` a second, and counts the others. Any thread may call it.

    Networks are keys as `network_of` returns them.
    """

    def __init__(self, rate: int) -> None:
        self._rate = rate
        self._lock = Lock()
        self._second = 0
        self._passed: dict[str, int] = {}
        self._counted: dict[str, Counted] = {}
        self._ended = False

    def limit(self, records: Sequence[Record], network: str, *, limited: bool) -> Sequence[Record]:
        """Return the records of an outcome, or none if they are those of a rejection that is counted."""
        for record in records:
            if record.type == "Rejection":
                with self._lock:
                    if record.timestamp != self._second:
                        self._second = record.timestamp
                        self._passed.clear()
                    passed = self._passed.get(network, 0)
                    if passed >= self._rate and self._count(record, network, limited=limited):
                        return ()
                    self._passed[network] = passed + 1
        return records

    def count(self, records: Iterable[Record], network: str) -> bool:
        """Count a rejection that is above the limit on bytes. Return False if it must be written."""
        with self._lock:
            return all(self._count(record, network, limited=True) for record in records if record.type == "Rejection")

    def _count(self, record: Record, network: str, *, limited: bool) -> bool:
        known = self._counted.get(network)
        if self._ended or (known is None and len(self._counted) >= NETWORKS_LIMIT):
            return False
        if known is None:
            first = replace(record, sender="", recipient="", headers={})
            self._counted[network] = Counted(network=network, first=first, count=1, limited=limited)
        else:
            self._counted[network] = replace(known, count=known.count + 1)
        return True

    def take(self) -> list[Counted]:
        """Return what was counted since the last call."""
        with self._lock:
            counted = list(self._counted.values())
            self._counted.clear()
            return counted

    def put_back(self, counted: Iterable[Counted]) -> None:
        """Count again what could not be written, before what was counted since."""
        with self._lock:
            since, self._counted = self._counted, {one.network: one for one in counted}
            for network, one in since.items():
                known = self._counted.get(network)
                self._counted[network] = one if known is None else replace(known, count=known.count + one.count)

    def end(self) -> None:
        """Count nothing more: each later rejection has its own record."""
        with self._lock:
            self._ended = True
