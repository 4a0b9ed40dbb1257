"""What a log says later of a message that it calls received: that it was a report, was rejected after all, or went out.

Owns the window in which records wait for what belongs to them. Never judges a record.

KumoMTA writes a Reception with code 250 before it rejects at the end of the message (contract section 4), one for each
recipient. The Rejection that follows has no message id, no sender and no recipient, only the command DATA; what the two have
in common is the session's id, in versions that write it, and the peer. Our log never has such a Reception.

A report has a Reception and an OOB record for each of its failures (contract section 4), all with one id: in our log too.
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

# KumoMTA writes what is rejected or a report within milliseconds, and a delivery within seconds: ten seconds of a busy node.
_WAITING = 20_000
# A record has 1 kB or so; but it may name a thousand recipients.
_WAITING_BYTES = 64 * 1024 * 1024
# Without the session's id: the Rejection has the second of its Reception, or the next.
_SECONDS_APART = 2


class Entry(Struct, kw_only=True, gc=False):
    """A line of a log in its place. `record` is None where it cannot be read; `fault` then says why. `size` is in bytes.

    `follow_up` becomes known while the entry waits. `is_follow_up` marks a record that only adds to a message told of before: a
    Rejection that ends it, or an OOB record of a report.
    """

    file: str
    line: int
    size: int
    record: Logged | None = None
    fault: str = ""
    follow_up: FollowUp | None = None
    is_follow_up: bool = False


class Window:
    """Where entries wait, in their order, for what later entries tell of them.

    One is let go when it is known what came of it, when too many wait, or `seconds` of the log's own time after it.
    """

    def __init__(self, *, waiting: int = _WAITING, waiting_bytes: int = _WAITING_BYTES, seconds: float = inf) -> None:
        self._waiting, self._waiting_bytes, self._seconds = waiting, waiting_bytes, seconds
        self._queue: deque[Entry] = deque()
        self._open_ones = _Open()
        self._size = 0
        self._newest = 0

    def add(self, entry: Entry) -> Iterator[Entry]:
        """Take an entry, and give those that need not wait any more."""
        if entry.record is not None:
            entry.is_follow_up = self._open_ones.follow(entry.record)
            self._open_ones.add(entry)
            self._newest = max(self._newest, entry.record.when)
        self._queue.append(entry)
        self._size += entry.size
        while self._queue and not self._waits(self._queue[0]):
            yield self._pop()

    def rest(self) -> Iterator[Entry]:
        """Give all that wait."""
        while self._queue:
            yield self._pop()

    def _waits(self, first: Entry) -> bool:
        return (
            self._open_ones.has(first)
            and len(self._queue) <= self._waiting
            and self._size <= self._waiting_bytes
            and first.record is not None
            and self._newest - first.record.when <= self._seconds
        )

    def _pop(self) -> Entry:
        entry = self._queue.popleft()
        self._size -= entry.size
        self._open_ones.remove(entry)
        return entry


def with_follow_ups(
    entries: Iterable[Entry], *, waiting: int = _WAITING, waiting_bytes: int = _WAITING_BYTES
) -> Iterator[Entry]:
    """Give all entries in their order, each Reception once it is known what came of it, or the window is full."""
    window = Window(waiting=waiting, waiting_bytes=waiting_bytes)
    for entry in entries:
        yield from window.add(entry)
    yield from window.rest()


class _Open:
    """The Receptions of which nothing more is known yet, by message id, and KumoMTA's by session in their order.

    `_reports` has the ids of the last OOB records: a report may tell of many failures.
    """

    def __init__(self) -> None:
        self._by_id: dict[str, Entry] = {}
        self._by_session: dict[str, dict[str, Logged]] = {}
        self._reports: dict[str, None] = {}

    def has(self, entry: Entry) -> bool:
        return entry.record is not None and self._by_id.get(entry.record.id) is entry

    def add(self, entry: Entry) -> None:
        record = entry.record
        if record is None or record.type != "Reception" or not record.id:
            return
        self._close(record.id)
        self._by_id[record.id] = entry
        if not recorded_answer(record).is_ours:  # no Rejection ends ours
            self._by_session.setdefault(_session(record), {})[record.id] = record

    def remove(self, entry: Entry) -> None:
        if entry.record is not None and self.has(entry):
            self._close(entry.record.id)

    def follow(self, record: Logged) -> bool:
        """Let `record` tell what came of those that wait; say whether it only adds to a message that is told of already."""
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
        """Take note of an OOB record; say whether its message is told of: by a Reception, or by an OOB record before."""
        if not message_id:
            return False
        is_told = self._close(message_id, "bounce_report") or message_id in self._reports
        self._reports[message_id] = None
        if len(self._reports) > _WAITING:
            del self._reports[next(iter(self._reports))]
        return is_told

    def _close(self, message_id: str, follow_up: FollowUp | None = None) -> bool:
        """Let a Reception wait no more; say whether one did."""
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
        """Give the ids of the session's last message: one for each recipient, and all with one sender."""
        found: list[Logged] = []
        for record in reversed(self._by_session.get(_session(rejection), {}).values()):
            apart = 0 if rejection.session_id else abs(rejection.timestamp - record.timestamp)
            if apart > _SECONDS_APART or (found and record.sender != found[0].sender):
                break
            found.append(record)
        return [record.id for record in found]


def _session(record: Logged) -> str:
    peer = "" if record.peer_address is None else record.peer_address.addr
    return record.session_id or peer
