"""The console: pages for people who run a mail server, made here from templates.

Owns the pages, their sessions and their forms. Never decides about mail, and is loaded only with `console = true`. All text
from outside reaches a page through `rendering`, which makes it harmless.
"""

import mmap

from sidecar.daemon.http.access import Access
from sidecar.daemon.http.bodies import Bodies
from sidecar.daemon.http.console.explain import ExplainPage
from sidecar.daemon.http.console.frame import FormView, Frame, Parts, View
from sidecar.daemon.http.console.live import LivePage
from sidecar.daemon.http.console.nodes import NodesPage
from sidecar.daemon.http.console.overview import OverviewPage
from sidecar.daemon.http.console.policy import PolicyPages
from sidecar.daemon.http.console.records import IndexThread
from sidecar.daemon.http.console.rendering import compile_templates
from sidecar.daemon.http.console.search import SearchPages
from sidecar.daemon.http.console.site import Console
from sidecar.daemon.http.console.suppression import SuppressionPages
from sidecar.daemon.http.console.trial import TrialPage

__all__ = ["Console", "IndexThread", "Parts", "console"]


def console(parts: Parts, access: Access, bodies: Bodies, memory: mmap.mmap, *, is_unix: bool) -> Console:
    """Return the console of a plan, ready for its first request. `memory` has its sessions."""
    compile_templates()
    frame = Frame(parts.plan, parts.version)
    views: dict[str, View] = {}
    forms: dict[str, FormView] = {}
    for kind in (OverviewPage, LivePage, SearchPages, ExplainPage, TrialPage, PolicyPages, SuppressionPages, NodesPage):
        pages = kind(frame, parts)
        views |= pages.views
        forms |= pages.forms
    return Console(frame, pages=views, forms=forms, access=access, bodies=bodies, memory=memory, is_unix=is_unix)
