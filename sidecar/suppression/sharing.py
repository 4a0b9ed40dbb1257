"""Shares the list with other nodes: each publishes what it knows about an address, and all decide on what all know.

So the list of a node is a function of the states of all nodes, in whatever order they arrive, and however often. The stream
has the newest state of each node and address: a new node gets the whole list from it. Owns what is published when, and how
`sidecar status` shows that a node is not up to date. It runs in the process of the list, and waits for nothing.
"""

import time
from collections.abc import Callable
from typing import Final

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from sidecar import log
from sidecar.core.sharing import ArrivedState, Exchange, StateKind, StreamPlace
from sidecar.core.text import counted
from sidecar.suppression.node_store import NodeStore
from sidecar.suppression.rules import Ruleset
from sidecar.suppression.shared import PLACE, REJECTED
from sidecar.suppression.states import ReadState, RejectedStateError, address_of, decode, encode

# On their way at a time, of each kind: one that is not permitted does not hold the other.
_TOGETHER: Final = 2_000
_FIRST_RETRY: Final = 5.0
_LAST_RETRY: Final = 60.0
# A change reaches all nodes within two seconds.
_LATE_SECONDS: Final = 5.0
# There can be as many as addresses.
_LOG_SECONDS: Final = 60.0

_LOG = log.get("suppression")


class _Publication(Struct):
    """When a state was published first, when it is published next, and the pause until then."""

    first: float
    next: float
    pause: float = _FIRST_RETRY


class Sharing:
    """The list of `database` and the stream of states that `exchange` reads from `first_place` on.

    `node` names this node. `clock` returns seconds since 1970. `show` gets since when and why the list is not up to date.
    """

    def __init__(  # noqa: PLR0913 - see the class
        self,
        database: NodeStore,
        exchange: Exchange,
        *,
        node: str,
        rules: Ruleset,
        clock: Callable[[], float],
        show: Callable[[int, str], None],
    ) -> None:
        self._database, self._exchange, self._node, self._rules = database, exchange, node, rules
        self._clock, self._show = clock, show
        self._store = database.get_property("store") or ""
        self._stream = _stored_place(database).stream
        self._sent: dict[tuple[StateKind, str], _Publication] = {}
        self._current_at, self._has_all, self._was_up = time.monotonic(), False, True
        self._log_at, self._unlogged = 0.0, 0
        self._rejected_at, self._rejection = 0, ""
        self._late_since, self._show_at = 0, 0.0
        self._shown = (0, "")

    def step(self) -> bool:
        """Apply what arrived, and publish what changed. Return True if there is more to do. Raise StoreError."""
        received = self._receive()
        # Before it has read all, this list can have less than the stream has of it.
        self._has_all |= self._exchange.is_current and not received
        published = self._has_all and self._publish()
        self._report(is_moved=received or published)
        return received or published

    def _receive(self) -> bool:
        arrivals = self._exchange.receive()
        if arrivals is None:
            return False
        rejected, read = list[ArrivedState](), list[ReadState]()
        for one in arrivals.states:
            try:
                read.append(decode(one, store=self._store))
            except RejectedStateError as error:
                self._reject(one, error)
                rejected.append(one)
        # What this node has to publish again, because another program has written over it.
        lost = [(address, one.kind) for one in rejected if one.node == self._node and (address := address_of(one.key))]
        for state in read:
            if state.node == self._node:
                # If it is not the newest, that is published at once.
                self._sent.pop((state.kind, state.address), None)
        is_new, self._stream = arrivals.place.stream != self._stream, arrivals.place.stream
        properties: dict[str, str | None] = {PLACE: msgspec.json.encode(arrivals.place).decode()}
        if is_new:
            properties[REJECTED] = None
        if rejected and (is_new or self._database.get_property(REJECTED) is None):
            properties[REJECTED] = str(rejected[0].number)
        self._database.receive(read, lost, properties=properties, is_new=is_new, rules=self._rules, now=int(self._clock()))
        return True

    def _reject(self, one: ArrivedState, error: RejectedStateError) -> None:
        text = f"a state of {one.node} is rejected: {error}"
        if error.later and not self._rejection:
            self._rejected_at, self._rejection = int(self._clock()), text
        self._unlogged += 1
        if (now := time.monotonic()) >= self._log_at:
            later = "it stays in the stream, and is read again after a restart" if error.later else "it is not used"
            text = f"{text}; {later}"
            _LOG.error(text, rejected=self._unlogged, kind=one.kind, number=one.number)
            self._log_at, self._unlogged = now + _LOG_SECONDS, 0

    def _publish(self) -> bool:
        if self._exchange.is_up and not self._was_up:
            self._sent.clear()  # what was on its way is lost
        self._was_up = self._exchange.is_up
        if not self._was_up:
            return False
        now, new = time.monotonic(), []
        waiting = dict[tuple[StateKind, str], _Publication]()
        kinds: tuple[StateKind, ...] = ("changes", "reports")
        for kind in kinds:
            for address in self._database.unpublished(kind, _TOGETHER):
                sent = waiting[kind, address] = self._sent.get((kind, address)) or _Publication(first=now, next=now)
                if now >= sent.next:
                    sent.next, sent.pause = now + sent.pause, min(2 * sent.pause, _LAST_RETRY)
                    events = self._database.own_events(address, kind)
                    new.append(encode(address, kind, events, node=self._node, store=self._store))
        self._sent = waiting
        self._exchange.publish(new)
        return bool(new)

    def _report(self, *, is_moved: bool) -> None:
        """Show since when the list is not up to date, and why, if that has changed: it is written to the disk."""
        now = time.monotonic()
        if self._exchange.is_current and not is_moved:
            self._current_at = min((one.first for one in self._sent.values()), default=now)
            if not self._sent:
                self._exchange.error = ""
        if now - self._current_at < _LATE_SECONDS:
            found, self._late_since = (self._rejected_at, self._rejection), 0
        elif now < self._show_at:
            return
        else:
            self._late_since = self._late_since or int(self._clock() - (now - self._current_at))
            found, self._show_at = (self._late_since, self._why()), now + _LATE_SECONDS
        if found != self._shown:
            self._show(*found)
            self._shown = found

    def _why(self) -> str:
        why = self._exchange.error
        if not self._exchange.is_current:
            return why
        what = counted(len(self._sent), "address", "addresses")
        return f"the stream does not show changes of {what}{f': {why}' if why else ''}"


def first_place(database: NodeStore) -> StreamPlace:
    """Return where the stream has to be read from: states that were rejected are read again. Raise StoreError."""
    place = _stored_place(database)
    if (rejected := database.get_property(REJECTED)) is not None:
        place = replace(place, number=min(place.number, int(rejected) - 1))
        database.put_properties({PLACE: msgspec.json.encode(place).decode(), REJECTED: None})
    return place


def _stored_place(database: NodeStore) -> StreamPlace:
    text = database.get_property(PLACE)
    return StreamPlace() if text is None else msgspec.json.decode(text, type=StreamPlace)
