"""A state of a node as other nodes read it: what it knows about one address, in JSON.

Owns its form, which is permanent, and which states of other nodes are rejected. What other nodes write is external data.
"""

import base64
import binascii
import re
from collections.abc import Collection, Iterable
from typing import Final

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from sidecar.core.records.build import MAILBOX_LIMIT
from sidecar.core.sharing import ArrivedState, NodeState, StateKind
from sidecar.core.suppressed import REASON_LIMIT
from sidecar.core.text import LATEST, printable, shown
from sidecar.suppression.hashing import PLAIN
from sidecar.suppression.reading import bounded_id
from sidecar.suppression.rules import MICROSECONDS, Event

VERSION: Final = 1
"""The form of states in this version of the program."""

# Clocks differ a little. A later event is of a wrong clock: a removal would cancel all reports until then.
_AHEAD: Final = 60 * MICROSECONDS
# An empty state replaces one that does not count any more. A node that is away for longer deletes that by its age.
_EMPTY_SECONDS: Final = 30 * 86400
# Ours have far less: see `rules`. The server bounds the size.
_EVENTS_LIMIT: Final = 20_000
# A bounded id, and the type of a record behind it.
_PROOF_LIMIT: Final = 128
_HASH: Final = re.compile(r"[0-9a-f]{32}")


class RejectedStateError(Exception):
    """A state cannot be used; the text is a phrase. With `later` another program or other settings may use it."""

    def __init__(self, why: str, *, later: bool = False) -> None:
        super().__init__(why)
        self.later = later


class ReadState(Struct, frozen=True, kw_only=True):
    """A state that was read. `written` are the events as its node wrote them, and `events` those that count.

    `address` is as the database has it.
    """

    node: str
    kind: StateKind
    address: str
    written: frozenset[Event]
    events: frozenset[Event]

    def corrected(self, own: Collection[Event], now: int) -> set[Event]:
        """Return what this node has, and what the stream has of it, without the times of a clock that was wrong."""
        late = {event for event in own if event.time > now * MICROSECONDS + _AHEAD}
        right = without_later({*own} - late, self.events) | without_later(late, self.events, reports=True)
        return right - (self.written - self.events) | self.events


class _StateHead(Struct):
    version: int = 0
    store: str = ""


class _State(Struct):
    version: int
    store: str
    node: str
    address: str
    events: list[Event]


def encode(address: str, kind: StateKind, events: Collection[Event], *, node: str, store: str) -> NodeState:
    """Return the state of an address. `store` is the form of the addresses, as in the database."""
    content = msgspec.json.encode(_State(version=VERSION, store=store, node=node, address=address, events=sorted(events)))
    return NodeState(kind=kind, key=key_of(address), content=content, lasts=0 if events else _EMPTY_SECONDS)


def decode(arrived: ArrivedState, *, store: str) -> ReadState:
    """Read a state. Raise RejectedStateError."""
    try:
        head = msgspec.json.decode(arrived.content, type=_StateHead)
        if head.version > VERSION:
            text = f"its version is {head.version}, and this program reads {VERSION}: update the program"
            raise RejectedStateError(text, later=True)
        if head.version and head.store != store:
            form = f"its addresses are {shown(head.store)} instead of {store}"
            raise RejectedStateError(f"{form}: all nodes need the same `store`, and the same key", later=True)
        state = msgspec.json.decode(arrived.content, type=_State)
    except (ValueError, RecursionError) as error:
        raise RejectedStateError(f"it is no state: {shown(str(error))}") from error
    if (state.node, key_of(state.address)) != (arrived.node, arrived.key):
        raise RejectedStateError("its subject is of another node or address")
    if not _is_address(state.address, store):
        raise RejectedStateError("its address is not one of a list")
    if len(state.events) > _EVENTS_LIMIT or not all(_is_valid(one, arrived.kind) for one in state.events):
        raise RejectedStateError("it has an event that is not valid")
    written = frozenset(state.events)
    events = frozenset(_before(written, arrived.stored))
    return ReadState(node=arrived.node, kind=arrived.kind, address=state.address, written=written, events=events)


def key_of(address: str) -> str:
    """Return the token of an address in a subject."""
    return base64.urlsafe_b64encode(address.encode()).decode().rstrip("=")


def address_of(key: str) -> str | None:
    """Return the address of a token, None if it has none."""
    try:
        address = base64.b64decode(key + "=" * (-len(key) % 4), altchars=b"-_", validate=True).decode()
    except (binascii.Error, ValueError):
        return None
    return address if key_of(address) == key else None


def _is_address(text: str, store: str) -> bool:
    """Return True for an address that is readable and has a bounded length, or the hash of one."""
    if store != PLAIN:
        return _HASH.fullmatch(text) is not None
    return "@" in text and len(text) < MAILBOX_LIMIT and printable(text) == text


def _is_valid(event: Event, kind: StateKind) -> bool:
    """Return True for an event that `reading` could have made."""
    of_kind = (event.kind == "report") == (kind == "reports")
    words = event.word == printable(event.word[:REASON_LIMIT]) and event.id == bounded_id(event.id)
    ids = all(0 < len(one) <= _PROOF_LIMIT and one.isascii() and one.isprintable() for one in event.verified_ids)
    return of_kind and words and ids and 0 < event.time <= LATEST * MICROSECONDS and 0 <= event.expires <= LATEST


def without_later(events: Iterable[Event], known: Iterable[Event], *, reports: bool = False) -> set[Event]:
    """Return events without changes by hand that are known with an earlier time, which the stream has corrected.

    The ids of changes are unique. With `reports`, those are left out, too.
    """
    times = {_identity(event): event.time for event in sorted(known, reverse=True)}
    return {
        event
        for event in events
        if (event.kind == "report" and not reports) or event.time <= times.get(_identity(event), event.time)
    }


def _identity(event: Event) -> tuple[str, ...]:
    """Return what stays of an event if its time is corrected."""
    return event.id, event.kind, event.word, str(event.expires)


def _before(events: Iterable[Event], stored: int) -> Iterable[Event]:
    """Return events with the times that count: none is later than when the stream stored it. Their order stays."""
    events = sorted(events)
    late = [event for event in events if event.time > stored + _AHEAD]
    yield from (early := events[: len(events) - len(late)])
    # One that was corrected before is not corrected again.
    known = {*map(_identity, early)}
    yield from (replace(event, time=stored + n) for n, event in enumerate(late) if _identity(event) not in known)
