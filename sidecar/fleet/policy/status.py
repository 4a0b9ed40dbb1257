"""The state of each node of a fleet, from its report and the revisions: what `sidecar fleet status` and the console show."""

import asyncio
import time
from typing import Final

import msgspec
from msgspec import Struct

from sidecar.core.fleet_view import FleetUnavailableError, FleetView, NodeStatus, RevisionView, StateWord
from sidecar.core.settings.fleet import FleetSettings
from sidecar.core.text import counted
from sidecar.fleet import FleetError
from sidecar.fleet.connection import FleetConnection
from sidecar.fleet.policy.buckets import Buckets, Report
from sidecar.fleet.policy.manifest import Manifest, PolicyError
from sidecar.fleet.policy.publishing import History, read_history
from sidecar.fleet.policy.report import NodeReport

SILENT_SECONDS: Final = 30
"""A node reports every 10 seconds."""


class Node(Struct, frozen=True, kw_only=True):
    """A node, its last report, and how many seconds ago that was."""

    name: str
    silent: int
    report: NodeReport


async def read_nodes(buckets: Buckets) -> list[Node]:
    """Return all nodes that ever reported, by name. Raise FleetError."""
    now = time.time()
    return sorted((_node(one, now) for one in await buckets.reports()), key=lambda node: node.name)


def _node(report: Report, now: float) -> Node:
    try:
        found = msgspec.json.decode(report.value, type=NodeReport)
    except (ValueError, RecursionError) as error:
        found = NodeReport(node=report.node, program="", error=f"its report is not valid: {error}")
    return Node(name=report.node, silent=max(0, int(now - report.stored)), report=found)


def node_status(node: Node, history: History) -> NodeStatus:
    """Return the state of a node: the worst that is true."""
    report = node.report
    wanted = next((one.revision for one in reversed(history.revisions) if one.is_for(node.name)), 0)
    held = report.held if report.held_revision == wanted else ""
    state: StateWord = "ok" if report.revision == wanted else "behind"
    if report.error:
        state = "error"
    if held:
        state = "held"
    if node.silent >= SILENT_SECONDS:
        state = "silent"
    return NodeStatus(
        node=node.name,
        state=state,
        program=report.program,
        revision=report.revision,
        wanted=wanted,
        silent=node.silent,
        lag=report.lag,
        error=report.error,
        held=held,
        health=report.health,
    )


def nodes_of(manifest: Manifest) -> str:
    """Return for which nodes a revision is."""
    if manifest.canary is None:
        return "all nodes"
    nodes = manifest.canary.nodes
    return ", ".join(nodes) if len(nodes) <= 3 else f"{', '.join(nodes[:2])} and {counted(len(nodes) - 2, 'other')}"  # noqa: PLR2004 - a line


def action_of(manifest: Manifest) -> str:
    """Return what a revision is, in words."""
    return manifest.action if manifest.of is None else f"{manifest.action} of {manifest.of}"


# --- for the console


def read_fleet_view(fleet: FleetSettings) -> FleetView:
    """Return the nodes and revisions of a fleet. Raise FleetUnavailableError."""

    async def reading() -> FleetView:
        async with FleetConnection(fleet, role="console") as connection:
            buckets = Buckets(connection.client, fleet)
            history = await read_history(buckets, fleet, fleet.policy_keys)
            return _view(history, [node_status(one, history) for one in await read_nodes(buckets)])

    try:
        return asyncio.run(reading())
    except (FleetError, PolicyError) as error:
        raise FleetUnavailableError(str(error)) from error


def _view(history: History, nodes: list[NodeStatus]) -> FleetView:
    used = history.latest
    return FleetView(
        nodes=tuple(nodes),
        revisions=tuple(
            RevisionView(
                revision=one.revision,
                created=one.created,
                by=one.by,
                action=action_of(one),
                nodes=nodes_of(one),
                canary=() if one.canary is None else tuple(one.canary.nodes),
                is_in_use=used is not None and used.canary is None and used.files == one.files,
            )
            for one in reversed(history.revisions)
        ),
        invalid=tuple(f"{one.key}: {one.why}" for one in history.invalid),
    )
