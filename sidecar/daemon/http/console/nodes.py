"""The page of the fleet: its nodes, and the revisions of its policy.

It changes nothing: a revision is signed with a private key, which no node has. It shows the commands to run.
"""

import shlex
import time
from collections.abc import Mapping
from functools import partial
from typing import Final

from msgspec import Struct
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from sidecar.core.fleet_view import FleetUnavailableError, FleetView, OpenFleet, promotion_obstacles
from sidecar.core.settings.fleet import FleetSettings
from sidecar.daemon.http.console.frame import FormView, Frame, Parts, View
from sidecar.daemon.http.threads import QuestionThread

NODES: Final = "/console/nodes"
# Nodes report every ten seconds.
_FRESH_SECONDS: Final = 5.0
_REVISIONS: Final = 50
# A name of that machine.
_KEY: Final = "--key policy.key"


class Commands(Struct, frozen=True, kw_only=True):
    """The commands that change the policy now; "" is one that would fail.

    `obstacles` are the nodes that prevent the promotion, and why. `returns` has the rollback to each revision that allows it.
    """

    publish: str
    promote: str
    obstacles: list[str]
    rollback: str
    returns: Mapping[int, str]


class NodesPage:
    """The nodes of the settings' fleet. The servers are asked once for some seconds, however many pages are open."""

    def __init__(self, frame: Frame, parts: Parts) -> None:
        self._frame = frame
        self._fleet = parts.plan.settings.fleet
        self._open = parts.fleet
        self._thread = QuestionThread()
        self._known: FleetView | None = None
        self._known_at = 0.0
        self.views: dict[str, View] = {NODES: self.show}
        self.forms: dict[str, FormView] = {}

    async def show(self, request: Request) -> Response:
        """Answer with the nodes and revisions."""
        fleet = self._fleet
        if fleet is None or self._open is None or not fleet.policy_keys:
            return self._frame.show(request, "no_fleet.html", fleet=fleet)
        try:
            found = await self._thread.do(partial(self._read, self._open, fleet))
        except FleetUnavailableError as error:
            text = (
                f"The fleet cannot be read: {error}. Before the first sidecar fleet publish there is nothing to read. "
                "This node needs permission to read the reports of all nodes: see the guide to the console, Nodes."
            )
            raise HTTPException(503, text) from error
        shown, commands = found.revisions[:_REVISIONS], commands_for(found)
        return self._frame.show(request, "nodes.html", found=found, revisions=shown, commands=commands, name=fleet.name)

    def _read(self, read: OpenFleet, fleet: FleetSettings) -> FleetView:
        if self._known is None or time.monotonic() - self._known_at > _FRESH_SECONDS:
            self._known, self._known_at = read(fleet), time.monotonic()
        return self._known


def commands_for(found: FleetView) -> Commands:
    """Return the commands that change the policy of a fleet in this state."""
    canary = found.revisions[0].canary if found.revisions else ()
    trial = shlex.quote(next((one.node for one in found.nodes), "mx1"))
    rollback = f"sidecar fleet rollback {_KEY}"
    # A rollback to a canary would give all nodes what none of them has promoted.
    earlier = [one.revision for one in found.revisions if not one.canary and not one.is_in_use]
    return Commands(
        publish=f"sidecar fleet publish {_KEY} --canary {trial} policy.toml",
        promote=f"sidecar fleet promote {_KEY}" if canary else "",
        obstacles=promotion_obstacles(found.revisions[0].revision, canary, found.nodes) if canary else [],
        rollback=rollback if earlier else "",
        returns={one: f"{rollback} {one}" for one in earlier},
    )
