"""The bytes of records that one network may cause: so many for each byte that it sends, and a burst.

Owns the debt of each network. Never writes, and never decides about mail.
"""

from collections import OrderedDict
from threading import Lock

from sidecar.core.settings.values import LimitSettings

# A network whose records are above the limit gets its whole burst back within this time.
RESTORE_SECONDS = 24 * 3600.0
# Networks remembered, some 200 bytes each: only those whose records exceed what they sent. The one that was silent longest is
# forgotten first.
NETWORKS_LIMIT = 10_000

_NO_DEBT = (0.0, 0.0)


class RecordBudget:
    """Bounds the bytes of records by network, from any threads: a token bucket that is held as a debt.

    A debt grows by the bytes of records, and shrinks by `record_bytes_per_byte` for each byte received and with time. It never
    gets above `record_bytes_burst`, or below nothing: what a network sends today allows it nothing tomorrow.
    """

    def __init__(self, limits: LimitSettings) -> None:
        self._each = limits.record_bytes_per_byte
        self._burst = limits.record_bytes_burst
        self._restored = limits.record_bytes_burst / RESTORE_SECONDS
        self._lock = Lock()
        self._debts: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def spend(self, network: str, *, received: int, size: int, now: float, anyway: bool = False) -> bool:
        """Charge `size` bytes of records to a network that sent `received` bytes; `now` is in seconds since 1970.

        Return False, and charge nothing but what was received, if the records exceed the limit; `anyway` charges in any case.
        """
        if self._each == 0:
            return True
        change = size - self._each * received
        if change <= 0 and network not in self._debts:
            return True
        with self._lock:
            debt, since = self._debts.pop(network, _NO_DEBT)
            if debt and now > since:  # a clock that was set back restores nothing
                debt -= (now - since) * self._restored
                debt = debt if debt > 0 else 0.0
            # Records that the bytes received pay for are written whatever the debt.
            admitted = change <= 0 or debt + change <= self._burst or anyway
            debt += change if admitted else -self._each * received
            if debt > 0:
                self._debts[network] = (debt, now)
                if len(self._debts) > NETWORKS_LIMIT:
                    self._debts.popitem(last=False)
            return admitted
