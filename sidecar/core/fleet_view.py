"""The nodes of a fleet and the revisions of its policy, as commands and the console show them.

Owns their shape. Never asks a server.
"""

from collections.abc import Callable, Iterable
from typing import Final, Literal

from msgspec import Struct

from sidecar.core.settings.fleet import FleetSettings
from sidecar.core.text import counted

# Fewer messages say little about a rate.
_MESSAGES_MINIMUM: Final = 20
# So many workers that died are enough, however few messages there were.
_RESTARTS_LIMIT: Final = 3

StateWord = Literal["ok", "behind", "error", "held", "silent"]
"""`behind`: it does not have the revision that it should have yet; `held`: it has left a canary; `silent`: no report."""


class CanaryHealth(Struct, frozen=True, kw_only=True):
    """Counted since a canary revision serves.

    `messages` are decisions with a record, `tempfailed` those of them with 4xx; `faults` are connections with a fault of the
    program, which have no record; `restarts` are workers that died.
    """

    messages: int = 0
    tempfailed: int = 0
    faults: int = 0
    restarts: int = 0

    def __str__(self) -> str:
        """Return what is bad, in words."""
        return f"{self.tempfailed:,} tempfailed, {counted(self.faults, 'fault')}, {counted(self.restarts, 'dead worker')}"

    def exceeds(self, percent: float) -> str | None:
        """Return why a canary with this health is held, or None."""
        if self.restarts >= _RESTARTS_LIMIT:
            return f"{self.restarts} workers died"
        failed = self.faults + self.restarts
        bad, all_of_them = self.tempfailed + failed, self.messages + failed
        if all_of_them < _MESSAGES_MINIMUM or bad * 100 <= percent * all_of_them:
            return None
        return f"{self}: {bad * 100 / all_of_them:.1f} % of {all_of_them:,} messages, and hold_at is {percent:g} %"


class NodeStatus(Struct, frozen=True, kw_only=True):
    """A node, also as `fleet status --json` prints it.

    `wanted` is the newest revision for this node. `silent` and `lag` are in seconds. `error` is why it has not taken that
    revision, and `held` why it has left it.
    """

    node: str
    state: StateWord
    program: str
    revision: int
    wanted: int
    silent: int
    lag: int
    error: str = ""
    held: str = ""
    health: CanaryHealth | None = None

    @property
    def text(self) -> str:
        """What is wrong, or how its canary does."""
        return self.held or self.error or ("" if self.health is None else f"canary: {self.health}")


def promotion_obstacles(revision: int, canary: Iterable[str], nodes: Iterable[NodeStatus]) -> list[str]:
    """Return what prevents the promotion of a canary revision: a line for each of its nodes that does not serve it."""
    known = {one.node: one for one in nodes}
    found = []
    for name in canary:
        node = known.get(name)
        if node is None or node.state == "silent":
            found.append(f"{name}: does not report")
        elif node.held:
            found.append(f"{name}: held: {node.held}")
        elif node.revision != revision:
            found.append(f"{name}: has revision {node.revision}: {node.error or 'it has not taken this one yet'}")
    return found


class RevisionView(Struct, frozen=True, kw_only=True):
    """A revision of the policy, its action in words, and the nodes that it is for. `created` is RFC 3339.

    `canary` are the nodes of a canary, and empty for a revision of all nodes. `is_in_use`: the newest revision is for all nodes
    and has the same files.
    """

    revision: int
    created: str
    by: str
    action: str
    nodes: str
    canary: tuple[str, ...] = ()
    is_in_use: bool = False


class FleetView(Struct, frozen=True, kw_only=True):
    """All nodes that ever reported, by name, and all revisions, the newest first. `invalid` are those that no node takes."""

    nodes: tuple[NodeStatus, ...]
    revisions: tuple[RevisionView, ...]
    invalid: tuple[str, ...]


class FleetUnavailableError(Exception):
    """The fleet cannot be read; the text is one plain sentence, without a full stop."""


OpenFleet = Callable[[FleetSettings], FleetView]
"""Reads a fleet. Waits for its servers, some seconds at most. Raises FleetUnavailableError."""
