"""What all pages have around their content: names, the navigation, the session."""

import os
from collections.abc import Awaitable, Callable
from typing import Final

from msgspec import Struct
from starlette.requests import Request
from starlette.responses import Response

from sidecar.core.evaluate.explanation import Explanation
from sidecar.core.fleet_view import OpenFleet
from sidecar.core.settings.values import Role
from sidecar.daemon.http.console.forms import Form
from sidecar.daemon.http.console.records import IndexThread
from sidecar.daemon.http.console.rendering import page
from sidecar.daemon.http.questions import ExplainQuestion
from sidecar.daemon.http.suppression import SuppressionPaths
from sidecar.daemon.http.threads import QuestionThread
from sidecar.daemon.metrics import Memory
from sidecar.daemon.process.plan import Plan
from sidecar.daemon.process.status import Status, read_status

View = Callable[[Request], Awaitable[Response]]
"""Answers a page to a session."""


class Parts(Struct, frozen=True, kw_only=True):
    """What the pages show, and where they ask."""

    plan: Plan
    version: str
    suppression: SuppressionPaths
    explainer: QuestionThread
    explain: Callable[[ExplainQuestion], Explanation]
    index: IndexThread
    memory: Memory
    fleet: OpenFleet | None = None


class FormView(Struct, frozen=True, kw_only=True):
    """Answers a form of a session that has `role`, or a higher one."""

    answer: Callable[[Request, Form], Awaitable[Response]]
    role: Role = "operator"


_NAVIGATION: Final = (
    ("/console/", "Overview"),
    ("/console/live", "Live"),
    ("/console/search", "Search"),
    ("/console/explain", "Explain"),
    ("/console/trial", "What if"),
    ("/console/policy", "Policy"),
    ("/console/suppression", "Suppression"),
)


class Frame:
    """The frame of the pages of a plan."""

    def __init__(self, plan: Plan, version: str) -> None:
        self._state_directory = plan.settings.state_directory
        has_fleet = plan.settings.fleet is not None
        self._navigation = (*_NAVIGATION, ("/console/nodes", "Nodes")) if has_fleet else _NAVIGATION
        self._values = {"revision": plan.revision, "loaded": plan.made, "version": version, "host": os.uname().nodename}

    def show(self, request: Request, template: str, status: int = 200, **values: object) -> Response:
        """Return a page. Its session, if there is one, is that of the request."""
        path = request.scope["path"]
        return page(
            template, status, **self._values, session=request.state.session, navigation=self._navigation, path=path, **values
        )

    def status(self) -> Status | None:
        """Return what the supervisor has published; None if it cannot be read."""
        try:
            return read_status(self._state_directory)
        except (OSError, ValueError):
            return None
