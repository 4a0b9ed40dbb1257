"""One suppression list for many nodes: what the process of the list asks of the fleet.

A node publishes what it knows about an address as one state, and a newer state replaces an older one. Only the node itself
publishes its states, so no two nodes write the same one. Never opens a connection.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Literal, Protocol

from msgspec import Struct

StateKind = Literal["reports", "changes"]
"""The reports of a node about an address, or its changes by hand. Servers can permit a node only the first."""


class StreamPlace(Struct, frozen=True, kw_only=True):
    """A position in the stream of states: all messages up to `number` were read. `stream` is another one for a new stream."""

    stream: str = ""
    number: int = 0


class NodeState(Struct, frozen=True, kw_only=True):
    """A state on its way. `key` is the address as NATS subjects have it. `lasts` is in seconds, 0 without an end."""

    kind: StateKind
    key: str
    content: bytes
    lasts: int = 0


class ArrivedState(NodeState, frozen=True, kw_only=True):
    """A state from the stream, its number there, and when the stream stored it, in microseconds since 1970."""

    node: str
    number: int
    stored: int


class Arrivals(Struct, frozen=True, kw_only=True):
    """States in their order, and the place after them."""

    place: StreamPlace
    states: tuple[ArrivedState, ...]


class Exchange(Protocol):
    """The stream of states, which another thread reads and writes. Nothing here waits or raises.

    `is_up` while there is a connection. `error` is the last error in words; the list clears it.
    """

    is_up: bool
    error: str

    @property
    def is_current(self) -> bool:
        """Whether all that the stream has was received."""

    def receive(self) -> Arrivals | None:
        """Return the next states, None if there are none now. They continue at the place that `connect` got."""

    def publish(self, states: Sequence[NodeState]) -> None:
        """Publish states of this node soon, each once at most. The stream has those that are received again."""


Connect = Callable[[StreamPlace], AbstractContextManager[Exchange]]
"""Connects with the stream, and reads it from a place on."""
