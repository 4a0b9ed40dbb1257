"""Nodes that share a list in memory, and the stream between them, for the tests of `sharing`."""

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from sidecar.core.settings.suppression import SUPPRESSION_RULES
from sidecar.core.sharing import Arrivals, ArrivedState, NodeState, StreamPlace
from sidecar.suppression.node_store import NodeStore
from sidecar.suppression.opening import _prepare
from sidecar.suppression.reading import AddressEvent
from sidecar.suppression.rules import Event, ListEntry, Ruleset
from sidecar.suppression.sharing import Sharing, first_place
from tests.suppression.records import BEGIN, DAY

A = "a@example.net"
NOW = BEGIN + 20 * DAY
RULES = Ruleset(SUPPRESSION_RULES, proof_age=30 * DAY)


class Stream:
    """The newest message of each subject, as the server has them. `clock` is its time."""

    def __init__(self, name: str = "1") -> None:
        self.name, self.number, self.clock = name, 0, NOW
        self.messages: dict[tuple[str, str, str], ArrivedState] = {}

    def put(self, node: str, state: NodeState) -> None:
        """Store a message."""
        self.number += 1
        self.messages[node, state.kind, state.key] = ArrivedState(
            kind=state.kind,
            key=state.key,
            content=state.content,
            lasts=state.lasts,
            node=node,
            number=self.number,
            stored=self.clock * 1_000_000,
        )


class StreamExchange:
    """Reads some messages at a time. What is published while `is_lost` never arrives."""

    def __init__(self, stream: Stream, node: str, place: StreamPlace, *, batch: int = 3) -> None:
        self._stream, self._node, self._batch = stream, node, batch
        self._place = place if place.stream == stream.name else StreamPlace(stream=stream.name)
        self._is_new = place.stream != stream.name
        self.is_up, self.error, self.is_lost = True, "", False

    def _next(self) -> list[ArrivedState]:
        later = [one for one in self._stream.messages.values() if one.number > self._place.number]
        return sorted(later, key=lambda one: one.number)[: self._batch]

    @property
    def is_current(self) -> bool:
        """As in `Exchange`, like the others."""
        return not self._is_new and not self._next()

    def receive(self) -> Arrivals | None:
        """Return the next few."""
        if self.is_current:
            return None
        self._is_new, states = False, self._next()
        if states:
            self._place = replace(self._place, number=states[-1].number)
        return Arrivals(place=self._place, states=tuple(states))

    def publish(self, states: Sequence[NodeState]) -> None:
        """Store all at once."""
        if not self.is_lost:
            for one in states:
                self._stream.put(self._node, one)


class Node:
    """A list in memory. `restart` reads the stream from its place again."""

    def __init__(self, name: str, stream: Stream, *, rules: Ruleset = RULES, store: str = "plain") -> None:
        self.name, self.stream, self.rules, self.clock = name, stream, rules, NOW
        connection = sqlite3.connect(":memory:", isolation_level=None)
        self.database = NodeStore(connection, Path(":memory:"), None)
        _prepare(connection, 0, store)
        self.database.share(name)
        self.shown = (0, "")
        self.restart()

    def restart(self, place: StreamPlace | None = None) -> None:
        """Begin as a new process."""
        self.exchange = StreamExchange(self.stream, self.name, place or first_place(self.database))
        self.sharing = Sharing(
            self.database, self.exchange, node=self.name, rules=self.rules, clock=lambda: self.clock, show=self._show
        )

    def _show(self, since: int, why: str) -> None:
        self.shown = since, why

    def read(self, *events: Event, address: str = A) -> None:
        """Read events from the journal."""
        found = [AddressEvent(address=address, event=one) for one in events]
        self.database.apply(found, None, rules=self.rules, now=self.clock)

    def entry(self, address: str = A) -> ListEntry | None:
        """Return an entry without its address."""
        found = self.database.find(address, self.clock)
        return found and ListEntry(**{name: getattr(found, name) for name in ListEntry.__struct_fields__})

    def close(self) -> None:
        """Forget the list."""
        self.database.close()


@contextmanager
def fleet(count: int = 3, **more: Any) -> Iterator[list[Node]]:
    stream = Stream()
    nodes = [Node(f"mx{number}", stream, **more) for number in range(count)]
    try:
        yield nodes
    finally:
        for node in nodes:
            node.close()


def settle(*nodes: Node) -> None:
    """Let all nodes receive and publish until nothing moves."""
    for _ in range(1000):
        moved = [node.sharing.step() for node in nodes]
        if not any(moved):
            return
    raise AssertionError("the nodes publish without end")


def add(time: float = 0, *, expires: int = 0, id: str = "add") -> Event:  # noqa: A002 - as in Event
    return Event(time=int((BEGIN + time * DAY) * 1_000_000), id=id, kind="add", word="by hand", expires=expires)


def remove(time: float = 0, *, id: str = "remove") -> Event:  # noqa: A002 - as in Event
    return Event(time=int((BEGIN + time * DAY) * 1_000_000), id=id, kind="remove", word="")


def complaint(time: float = 0, *, id: str = "m1") -> Event:  # noqa: A002 - as in Event
    return Event(time=int((BEGIN + time * DAY) * 1_000_000), id=id, word="abuse")
