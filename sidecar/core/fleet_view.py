"""The nodes of a fleet and the revisions of its policy, as the console shows them.

Owns their shape. Never asks a server.
"""

from collections.abc import Callable
from typing import Literal

from msgspec import Struct

from sidecar.core.settings.fleet import FleetSettings

NodeState = Literal["ok", "behind", "error", "held", "silent"]
"""`behind`: it does not have the revision that it should have yet; `held`: it has left a canary; `silent`: no report."""


class NodeView(Struct, frozen=True, kw_only=True):
    """A node. `silent` and `lag` are in seconds; `text` is what is wrong, or how its canary does."""

    node: str
    state: NodeState
    program: str
    revision: int
    wanted: int
    silent: int
    lag: int
    text: str


class RevisionView(Struct, frozen=True, kw_only=True):
    """A revision of the policy, its action in words, and the nodes that it is for. `created` is RFC 3339."""

    revision: int
    created: str
    by: str
    action: str
    nodes: str
    is_canary: bool


class FleetView(Struct, frozen=True, kw_only=True):
    """All nodes that ever reported, by name, and all revisions, the newest first. `invalid` are those that no node takes."""

    nodes: tuple[NodeView, ...]
    revisions: tuple[RevisionView, ...]
    invalid: tuple[str, ...]


class FleetUnavailableError(Exception):
    """The fleet cannot be read; the text is one plain sentence, without a full stop."""


OpenFleet = Callable[[FleetSettings], FleetView]
"""Reads a fleet. Waits for its servers, some seconds at most. Raises FleetUnavailableError."""
