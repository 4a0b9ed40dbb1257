"""Changes by hand: each is a record of the type "Suppression" in the journal, and reaches the list from there.

So they survive with the journal, and a list that is made again has them. Owns the form of these records.
"""

import hashlib
import secrets
import sqlite3
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from itertools import islice
from typing import Final, Literal, Self

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from sidecar.core.records.build import record_time
from sidecar.core.settings.settings import Settings
from sidecar.core.text import printable_json, rfc3339
from sidecar.journal.database import StoreError
from sidecar.journal.write.routes import open_journal
from sidecar.suppression.consumer import Consumer
from sidecar.suppression.locking import BusyError, locked
from sidecar.suppression.opening import open_reader
from sidecar.suppression.reading import CHANGE_TYPE
from sidecar.suppression.rules import MICROSECONDS, NEVER, Event

# Lines of one write: each write is on disk before the next.
_TOGETHER: Final = 1000
_LOOK_SECONDS: Final = 0.05
_NO_ID: Final = "00000000-0000-0000-0000-000000000000"


class HandChange(Struct, frozen=True, kw_only=True):
    """An address in normal form to add or to remove, and why. `expires` is in seconds since 1970.

    A change for an event of another program has the event's `time` in microseconds since 1970, and its `event_id`.
    """

    action: Literal["add", "remove"]
    address: str
    reason: str
    expires: int = NEVER
    time: int | None = None
    event_id: str | None = None


class Written(Struct, frozen=True, kw_only=True):
    """The number of changes in the journal, and the address and the id of the last one."""

    count: int
    last: tuple[str, str] | None


class ChangeWriter:
    """Writes changes to the journal of these settings, into segments of its own. Use it as a context manager, in one thread."""

    def __init__(self, settings: Settings) -> None:
        own = settings.journal
        self._list = settings.suppression
        self._journal = open_journal(own.directory, ".jsonl" if own.format == "plain" else "", own)
        self._node_id = settings.node_id or _node_id(settings)

    def write(self, changes: Iterable[HandChange], *, by: str) -> Written:
        """Write changes; they are on disk on return. Raise JournalError. `by` is the user who makes them."""
        left, count, last = iter(changes), 0, None
        while some := list(islice(left, _TOGETHER)):
            now = time.time()
            records = [_record(one, now, by, self._node_id) for one in self._timed(some, now)]
            lines = b"".join(printable_json(msgspec.json.encode(one)) + b"\n" for one in records)
            self._journal.write(lines, durable=True)
            count, last = count + len(some), (some[-1].address, str(records[-1]["id"]))
        return Written(count=count, last=last)

    def _timed(self, changes: Sequence[HandChange], now: float) -> list[HandChange]:
        """Return the changes with their times: now, or later, so that they count if the clock was set back since the last."""
        assert self._list is not None  # noqa: S101 - the caller's condition
        known: dict[tuple[str, str], int] = {}
        # A list that does not exist yet knows nothing.
        with suppress(StoreError, sqlite3.DatabaseError, OSError), open_reader(self._list) as database:
            for one in changes:
                known[one.address, one.action] = database.newest(one.address, one.action)
        times = [max(int(now * MICROSECONDS), known.get((one.address, one.action), 0) + 1) for one in changes]
        return [replace(one, time=time) if one.time is None else one for one, time in zip(changes, times, strict=True)]

    def roll(self) -> None:
        """Finish the segment if it is old enough."""
        self._journal.roll()

    def close(self) -> None:
        """Finish the segment."""
        self._journal.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def write(settings: Settings, changes: Iterable[HandChange], *, by: str) -> Written:
    """Write changes to the journal; they are on disk on return. Raise JournalError."""
    with ChangeWriter(settings) as writer:
        return writer.write(changes, by=by)


def is_addition(event: Event, change: HandChange) -> bool:
    """Return True if an event is the addition that a change would make again."""
    return (event.kind, event.word, event.expires) == (change.action, change.reason, change.expires)


def id_of_event(event_id: str) -> str:
    """Return the id of the record of an event: the same event is the same record."""
    return hashlib.blake2b(event_id.encode(), digest_size=16).hexdigest()


def wait_until_applied(settings: Settings, change: tuple[str, str], *, within: float) -> bool:
    """Wait until the list has a change, and do the work of the sidecar if it is not running. Return False if time is up."""
    assert settings.suppression is not None  # noqa: S101 - the caller's condition
    address, id_ = change
    until = time.monotonic() + within
    while time.monotonic() < until:
        try:
            with locked(settings.suppression), Consumer(settings) as consumer:
                consumer.read_new()
                return True
        except BusyError:
            # The process of the list may be making it.
            with suppress(StoreError), open_reader(settings.suppression) as database:
                if any(event.id == id_ for event in database.history(address)):
                    return True
        time.sleep(_LOOK_SECONDS)
    return False


def _record(change: HandChange, now: float, by: str, node_id: str) -> dict[str, object]:
    seconds = int(now)
    meta: dict[str, object] = {"action": change.action, "reason": change.reason, "by": by, "time": change.time}
    if change.event_id is not None:
        meta["event_id"] = change.event_id
    if change.expires != NEVER:
        meta["expires"] = change.expires
    return {
        "type": CHANGE_TYPE,
        "id": secrets.token_hex(16) if change.event_id is None else id_of_event(change.event_id),
        "sender": "",
        "recipient": change.address,
        "queue": "",
        "timestamp": seconds,
        "event_time": record_time(now),
        "created": seconds,
        "created_time": record_time(now),
        "meta": {"why": _why(change, by), **meta},
        "headers": {},
        "nodeid": node_id,
    }


def _why(change: HandChange, by: str) -> str:
    until = "" if change.expires == NEVER else f" until {rfc3339(change.expires)}"
    verb = "added the address to" if change.action == "add" else "removed the address from"
    return f"{by} {verb} the suppression list{until}: {change.reason}"


def _node_id(settings: Settings) -> str:
    try:
        return settings.node_id_file.read_text("ascii").strip()
    except (OSError, ValueError):
        return _NO_ID
