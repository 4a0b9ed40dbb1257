"""What the sessions of one worker share: the memory and the places for all of them, and the rate of reports of each network.

Owns the counts. Never remembers a verdict: a count can only make a sender retry later, it never accepts anything.
"""

from collections import OrderedDict
from threading import Lock

from sidecar.core.settings.values import LimitSettings

# A network may save up so many seconds of its rate: after an outage, on either side, a queue of reports arrives at once.
BURST_SECONDS = 10
# Networks remembered, some 300 bytes each. The one that was silent longest is forgotten, and starts again with a full burst.
# Reports from more networks than that are bounded by the memory and the sessions instead.
NETWORKS_LIMIT = 10_000


class Quota:
    """Counts for any number of sessions in any threads; what was taken is given back by whoever took it."""

    def __init__(self, limits: LimitSettings) -> None:
        self._limits = limits
        self._lock = Lock()
        self._sessions = 0
        self._bytes = 0
        self._readers = 0
        self._rate = float(limits.reports_per_second)
        self._networks: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def enter(self) -> bool:
        """Take the place of one session, if there is one left."""
        with self._lock:
            free = self._sessions < self._limits.sessions
            self._sessions += free
            return free

    def leave(self) -> None:
        """Give the place of one session back."""
        with self._lock:
            self._sessions -= 1

    def hold(self, size: int) -> bool:
        """Take `size` bytes, if they are left."""
        with self._lock:
            free = self._bytes + size <= self._limits.report_memory
            self._bytes += size if free else 0
            return free

    def release(self, size: int) -> None:
        """Give `size` bytes back."""
        with self._lock:
            self._bytes -= size

    def begin_reading(self, size: int) -> bool:
        """Take the `size` bytes that reading a large report needs, if they are left or nobody else is reading one."""
        with self._lock:
            free = self._readers == 0 or self._bytes + size <= self._limits.report_memory
            if free:
                self._readers += 1
                self._bytes += size
            return free

    def end_reading(self, size: int) -> None:
        """Give back what reading needed."""
        with self._lock:
            self._readers -= 1
            self._bytes -= size

    def admit_report(self, network: str, now: float) -> bool:
        """Count one more report of a network, if it is within its rate (a token bucket); `now` in seconds since 1970."""
        most = self._rate * BURST_SECONDS
        with self._lock:
            saved, since = self._networks.pop(network, (most, now))
            # A clock that was set back brings nothing.
            saved = min(most, saved + max(0.0, now - since) * self._rate)
            admitted = saved >= 1
            self._networks[network] = (saved - admitted, now)
            if len(self._networks) > NETWORKS_LIMIT:
                self._networks.popitem(last=False)
            return admitted
