"""`sidecar fleet history` and `sidecar fleet status`: all revisions, and what each node does with them."""

import sys
from pathlib import Path

import click

from sidecar.commands.fleet.opening import connected, fleet_or_exit, history_of, json_option
from sidecar.core.fleet_view import NodeStatus
from sidecar.core.text import counted, in_time
from sidecar.fleet.policy.buckets import Buckets
from sidecar.fleet.policy.publishing import History
from sidecar.fleet.policy.status import Node, action_of, node_status, nodes_of, read_nodes
from sidecar.output.help import Command
from sidecar.output.problems import config_option
from sidecar.output.streams import print_json
from sidecar.output.terminal import TextTable, console, plain, print_text


@click.command(
    "status",
    cls=Command,
    examples=["sidecar fleet status", "sidecar fleet status --json | jq -r '.nodes[] | select(.state != \"ok\").node'"],
    statuses={
        0: "every node has its revision",
        1: "a node is behind, has an error, is held or silent; or the fleet cannot be read",
    },
)
@config_option
@json_option
def status(config: Path | None, *, as_json: bool) -> None:
    """Show all nodes, with their revisions and errors.

    For each node it shows the revision that serves, its errors, the health of a canary, and the age of its oldest unshipped
    record. A node that has not reported for 30 seconds is silent. A node that never reported is not in the list.
    """
    fleet = fleet_or_exit(config)

    async def reading(buckets: Buckets) -> tuple[History, list[Node]]:
        return await history_of(buckets, fleet), await read_nodes(buckets)

    history, nodes = connected(fleet, reading)
    found = [node_status(node, history) for node in nodes]
    if as_json:
        latest, current = history.latest, history.current
        numbers = {"latest": latest.revision if latest else 0, "current": current.revision if current else 0}
        print_json({**numbers, "nodes": found})
    else:
        _print_status(history, found)
    sys.exit(1 if any(one.state != "ok" for one in found) else 0)


def _print_status(history: History, nodes: list[NodeStatus]) -> None:
    screen, latest = console(), history.latest
    if latest is None and history.invalid:
        print_text(screen, f"No node takes a revision: {history.invalid[-1].why}.")
    elif latest is None:
        print_text(screen, "No revision is published.")
    else:
        print_text(screen, f"The newest revision is {latest.revision}, for {nodes_of(latest)}.")
    table = TextTable("NODE", "STATE", "REVISION", "LAST REPORT", "LAG", "PROGRAM")
    for one in nodes:
        lag = in_time(one.lag) if one.lag else "-"
        revision = str(one.revision) if one.revision == one.wanted else f"{one.revision}, not {one.wanted}"
        cells = (one.node, one.state, revision, f"{in_time(one.silent)} ago", lag, one.program)
        table.add_row(*map(plain, cells), style="" if one.state == "ok" else "red")
    screen.print(table)
    for one in nodes:
        if text := one.held or one.error:
            print_text(screen, f"{one.node}: {text}", indent=4)
        elif (health := one.health) is not None:
            print_text(screen, f"{one.node}: canary: {counted(health.messages, 'message')}, {health}", indent=4)


@click.command(
    "history",
    cls=Command,
    examples=["sidecar fleet history", "sidecar fleet history --json | jq '.revisions[-1]'"],
    statuses={0: "success", 1: "the fleet cannot be read"},
)
@config_option
@json_option
def history(config: Path | None, *, as_json: bool) -> None:
    """List all revisions, the newest first.

    A revision is listed only if a key in `policy_keys` has signed it. Below are those that no node accepts, with the reason.
    """
    fleet = fleet_or_exit(config)
    found = connected(fleet, lambda buckets: history_of(buckets, fleet))
    if as_json:
        print_json({"revisions": found.revisions, "invalid": found.invalid})
        return
    table = TextTable("REVISION", "CREATED", "BY", "ACTION", "NODES", "FILES")
    for one in reversed(found.revisions):
        size = sum(file.size for file in one.files)
        files = f"{counted(len(one.files), 'file')}, {counted(size, 'byte')}"
        table.add_row(*map(plain, (str(one.revision), one.created, one.by, action_of(one), nodes_of(one), files)))
    screen = console()
    screen.print(table)
    for invalid in found.invalid:
        print_text(screen, f"No node takes revision {invalid.key}: {invalid.why}.", indent=4, style="red")
