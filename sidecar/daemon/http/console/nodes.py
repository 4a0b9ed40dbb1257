"""The page of the fleet: its nodes, and the revisions of its policy.

It changes nothing: a revision is signed with a private key, which no node has.
"""

import time
from functools import partial
from typing import Final

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from sidecar.core.fleet_view import FleetUnavailableError, FleetView, OpenFleet
from sidecar.core.settings.fleet import FleetSettings
from sidecar.daemon.http.console.frame import FormView, Frame, Parts, View
from sidecar.daemon.http.threads import QuestionThread

NODES: Final = "/console/nodes"
# Nodes report every ten seconds.
_FRESH_SECONDS: Final = 5.0
_REVISIONS: Final = 50


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
            text = f"The fleet cannot be read: {error}. The user of this node must be allowed to read the reports of all nodes."
            raise HTTPException(503, text) from error
        return self._frame.show(request, "nodes.html", found=found, revisions=found.revisions[:_REVISIONS], name=fleet.name)

    def _read(self, read: OpenFleet, fleet: FleetSettings) -> FleetView:
        if self._known is None or time.monotonic() - self._known_at > _FRESH_SECONDS:
            self._known, self._known_at = read(fleet), time.monotonic()
        return self._known
