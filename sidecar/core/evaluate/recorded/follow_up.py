"""What later records of a log add to a Reception: that the message was a report, was rejected, or was sent on.

Owns the window in which records wait for what belongs to them.

KumoMTA writes a Reception with code 250 for each recipient before it rejects at the end of the message. The Rejection that
follows has no message id, sender and recipient, only the command DATA. The two share the peer, and, in versions that write it,
the session's id. Our log never has such a Reception.

A report has a Reception and an OOB record for each of its failures, all with one id, in our log as well.
"""

from collections import deque
from collections.abc import Iterable, Iterator
from math import inf
from typing import Literal

from msgspec import Struct

from sidecar.core.evaluate.envelope import recorded_answer
from sidecar.core.records import Logged

FollowUp = Literal["bounce_report", "rejected", "outgoing"]
"""What later records of the same message or session add to a Reception."""

# KumoMTA writes a Rejection or a report within milliseconds, and a delivery within seconds: ten seconds of a busy node.
_WAITING = 20_000
# A record has about 1 kB, but it may have a thousand recipients.
_WAITING_BYTES = 64 * 1024 * 1024
# Without the session's id: the Rejection has the second of its Reception, or the next.
_SECONDS_APART = 2


class Entry(Struct, kw_only=True, gc=False):
    """A line of a log and its place. `record` is None if it cannot be read; `fault` then says why. `size` is in bytes.

    `follow_up` becomes known while the entry waits. `is_follow_up` marks a record that only adds to an earlier message: a
    Rejection that ends it, or an OOB record of a report.
    """

    file: str
    line: int
    size: int = 0
    record: Logged | None = None
    fault: str = ""
    follow_up: FollowUp | None = None
    is_follow_up: bool = False


class Window:
    """Entries in their order that wait for their follow-ups.

    An entry leaves when its follow-up is known, when too many wait, or `seconds` of the log's own time later.
    """

    def __init__(self, *, waiting: int = _WAITING, waiting_bytes: int = _WAITING_BYTES, seconds: float = inf) -> None:
        self._waiting, self._waiting_bytes, self._seconds = waiting, waiting_bytes, seconds
        self._queue: deque[Entry] = deque()
        self._size = 0
        self._newest = 0
        # The Receptions without a follow-up yet, by message id, and KumoMTA's by session in their order.
        self._by_id: dict[str, Entry] = {}
        self._by_session: dict[str, dict[str, Logged]] = {}
        # The ids of the last OOB records: a report may contain many failures.
        self._reports: dict[str, None] = {}

    def add(self, entry: Entry) -> Iterator[Entry]:
        """Add an entry, and return those that need not wait any more."""
        if (record := entry.record) is not None:
            entry.is_follow_up = self._follow(record)
            if record.type == "Reception" and record.id:
                self._open(entry, record)
            self._newest = max(self._newest, record.when)
        self._queue.append(entry)
        self._size += entry.size
        while self._queue and not self._waits(self._queue[0]):
            yield self._pop()

    def rest(self) -> Iterator[Entry]:
        """Return all that wait."""
        while self._queue:
            yield self._pop()

    def _waits(self, first: Entry) -> bool:
        return (
            first.record is not None
            and self._by_id.get(first.record.id) is first
            and len(self._queue) <= self._waiting
            and self._size <= self._waiting_bytes
            and self._newest - first.record.when <= self._seconds
        )

    def _pop(self) -> Entry:
        entry = self._queue.popleft()
        self._size -= entry.size
        if entry.record is not None and self._by_id.get(entry.record.id) is entry:
            self._close(entry.record.id)
        return entry

    def _open(self, entry: Entry, record: Logged) -> None:
        self._close(record.id)
        self._by_id[record.id] = entry
        if not recorded_answer(record).is_ours:  # no Rejection ends ours
            self._by_session.setdefault(_session(record), {})[record.id] = record

    def _follow(self, record: Logged) -> bool:
        """Set the follow-up of those that wait for `record`. Return True if it only adds to an earlier message."""
        answer = recorded_answer(record)
        if record.type == "OOB":
            return self._follow_report(record.id)
        if answer.happened == "outgoing":
            self._close(record.id, "outgoing")
        elif answer.happened == "rejected" and answer.stage == "end" and not answer.is_ours:
            rejected = self._last_message(record)
            for message_id in rejected:
                self._close(message_id, "rejected")
            return bool(rejected)
        return False

    def _follow_report(self, message_id: str) -> bool:
        """Return True if the message of an OOB record has a Reception, or an earlier OOB record."""
        if not message_id:
            return False
        is_known = self._close(message_id, "bounce_report") or message_id in self._reports
        self._reports[message_id] = None
        if len(self._reports) > _WAITING:
            del self._reports[next(iter(self._reports))]
        return is_known

    def _close(self, message_id: str, follow_up: FollowUp | None = None) -> bool:
        """End the waiting of a Reception. Return False if none waits."""
        entry = self._by_id.pop(message_id, None)
        if entry is None or entry.record is None:
            return False
        entry.follow_up = follow_up
        session = _session(entry.record)
        receptions = self._by_session.get(session, {})
        receptions.pop(message_id, None)
        if not receptions:
            self._by_session.pop(session, None)
        return True

    def _last_message(self, rejection: Logged) -> list[str]:
        """Return the ids of the session's last message: one for each recipient, all with one sender."""
        found: list[Logged] = []
        for record in reversed(self._by_session.get(_session(rejection), {}).values()):
            apart = 0 if rejection.session_id else abs(rejection.timestamp - record.timestamp)
            if apart > _SECONDS_APART or (found and record.sender != found[0].sender):
                break
            found.append(record)
        return [record.id for record in found]


def with_follow_ups(entries: Iterable[Entry], window: Window | None = None) -> Iterator[Entry]:
    """Return all entries in their order, each Reception when its follow-up is known, or the window is full."""
    window = window or Window()
    for entry in entries:
        yield from window.add(entry)
    yield from window.rest()


def _session(record: Logged) -> str:
    peer = "" if record.peer_address is None else record.peer_address.addr
    return record.session_id or peer
