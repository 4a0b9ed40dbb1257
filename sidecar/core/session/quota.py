"""What the sessions of one worker share: their memory, their number, and the rate of reports of each network.

Owns the counts. Never remembers a verdict: a count can only make a sender retry later, it never accepts anything.
"""

from collections import OrderedDict
from threading import Lock

from sidecar.core.settings.values import LimitSettings

# The burst of a network, in seconds of its rate: after an outage a queue of reports arrives at once.
BURST_SECONDS = 10
# Networks remembered, some 300 bytes each. The one without reports for the longest time is forgotten, and starts again with a
# full burst. Reports from more networks are bounded by the memory and the sessions instead.
NETWORKS_LIMIT = 10_000


class Quota:
    """The counts of all sessions, in any threads. A session that takes something must give it back."""

    def __init__(self, limits: LimitSettings) -> None:
        self._limits = limits
        self._lock = Lock()
        self._sessions = 0
        self._bytes = 0
        self._readers = 0
        self._reports = _Rate(limits.reports_per_second)
        self._signatures = _Rate(limits.signatures_per_second)

    def enter(self) -> bool:
        """Take the place of one session, if one is free."""
        with self._lock:
            free = self._sessions < self._limits.sessions
            self._sessions += free
            return free

    def leave(self) -> None:
        """Free the place of one session."""
        with self._lock:
            self._sessions -= 1

    def hold(self, size: int) -> bool:
        """Take `size` bytes, if they are free."""
        with self._lock:
            free = self._bytes + size <= self._limits.report_memory
            self._bytes += size if free else 0
            return free

    def release(self, size: int) -> None:
        """Free `size` bytes."""
        with self._lock:
            self._bytes -= size

    def begin_reading(self, size: int) -> bool:
        """Take the `size` bytes for reading a large report, if they are free or no other session reads one."""
        with self._lock:
            free = self._readers == 0 or self._bytes + size <= self._limits.report_memory
            if free:
                self._readers += 1
                self._bytes += size
            return free

    def end_reading(self, size: int) -> None:
        """Free the bytes of `begin_reading`."""
        with self._lock:
            self._readers -= 1
            self._bytes -= size

    def admit_report(self, network: str, now: float) -> bool:
        """Return True and count a report if its network is within the rate. `now` is in seconds since 1970."""
        with self._lock:
            return self._reports.admit(network, now)

    def admit_signature(self, network: str, now: float) -> bool:
        """Return True and count the check of a signature if the network of its report is within the rate."""
        with self._lock:
            return self._signatures.admit(network, now)


class _Rate:
    """Token buckets, one for each network."""

    def __init__(self, per_second: int) -> None:
        self._rate = float(per_second)
        self._networks: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def admit(self, network: str, now: float) -> bool:
        most = self._rate * BURST_SECONDS
        saved, since = self._networks.pop(network, (most, now))
        # A clock that was set back adds nothing.
        saved = min(most, saved + max(0.0, now - since) * self._rate)
        admitted = saved >= 1
        self._networks[network] = (saved - admitted, now)
        if len(self._networks) > NETWORKS_LIMIT:
            self._networks.popitem(last=False)
        return admitted
