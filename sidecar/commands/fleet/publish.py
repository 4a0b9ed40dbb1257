"""`sidecar fleet publish`, `promote` and `rollback`: new revisions, which are signed here."""

import hashlib
from pathlib import Path
from typing import Final

import click

from sidecar.commands.fleet.changes import checked, print_changes, print_warnings, side_of
from sidecar.commands.fleet.opening import (
    Fleet,
    connected,
    fleet_or_exit,
    force_option,
    history_of,
    key_option,
    key_or_exit,
)
from sidecar.core.fleet_view import promotion_obstacles
from sidecar.fleet.policy.buckets import Buckets, NoBucketsError
from sidecar.fleet.policy.manifest import Canary, Manifest, PolicyError
from sidecar.fleet.policy.publishing import History, collect, fetch, manifest_files, new_revision, store_revision
from sidecar.fleet.policy.signature import SigningKey
from sidecar.fleet.policy.status import SILENT_SECONDS, node_status, nodes_of, read_nodes
from sidecar.output.help import Command
from sidecar.output.problems import config_option
from sidecar.output.streams import sentence

_HUNDRED: Final = 100
_STATUSES: Final = {0: "the revision is stored", 1: "nothing is stored; the last line has the reason"}


class CanaryNodes(click.ParamType[str]):
    """Names of nodes with commas between them, or a share such as 10%."""

    name = "nodes"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Check the form."""
        share = value.removesuffix("%")
        if value.endswith("%") and not (share.isdecimal() and 0 < int(share) < _HUNDRED):
            self.fail(f"{value} is no share: write 1% to 99%.", param, ctx)
        if not all(value.split(",")):
            self.fail(f"{value} has an empty name.", param, ctx)
        return value


@click.command(
    "publish",
    cls=Command,
    examples=[
        "sidecar fleet publish --key policy.key policy.toml",
        "sidecar fleet publish --key policy.key --canary mx1,mx2 policy.toml",
        "sidecar fleet publish --key policy.key --canary 10% --hold-at 2 policy.toml",
    ],
    statuses=_STATUSES,
)
@click.argument("policy", metavar="POLICY", type=click.Path(path_type=Path))
@config_option
@key_option
@click.option("--canary", metavar="NODES|N%", type=CanaryNodes(), help="Only these nodes use it, until it is promoted.")
@click.option(
    "--hold-at",
    metavar="PERCENT",
    type=click.FloatRange(0, _HUNDRED, min_open=True),
    default=5.0,
    show_default=True,
    help="A canary that tempfails more of its messages returns to its earlier revision.",
)
@click.option("--dry-run", is_flag=True, help="Check, show the changes, and publish nothing.")
@click.option("--all", "in_full", is_flag=True, help="List all changes, not only the first 20 of each kind.")
@force_option
def publish(  # noqa: PLR0913 - each is an option
    policy: Path,
    config: Path | None,
    key_file: Path,
    canary: str | None,
    hold_at: float,
    *,
    dry_run: bool,
    in_full: bool,
    force: bool,
) -> None:
    """Publish a policy as a new revision for the nodes.

    The revision has the settings file POLICY, and the files that POLICY names. POLICY has only settings that are policy: relay
    hosts, listener domains, the handling of reports, bounce rules, and parts of [verify] and [suppression]. A setting of one
    machine, such as a socket, and a file with a secret is an error.

    It is checked with the settings of this machine, which name the fleet. The changes are those from the newest revision for
    all nodes. An open relay, and a canary node that never reported, need --force.
    """
    fleet = fleet_or_exit(config)
    key = key_or_exit(key_file, fleet)
    try:
        files = collect(policy)
    except PolicyError as error:
        raise click.ClickException(sentence(error)) from error
    try:
        new, warnings = checked(files, fleet, str(policy))
    except PolicyError as error:
        raise click.ClickException(f"{error}") from error
    print_warnings(warnings, force=force)

    async def publishing(buckets: Buckets) -> None:
        if not dry_run:
            await buckets.create()
        try:
            history = await history_of(buckets, fleet)
        except NoBucketsError:  # a dry run before the first revision
            history = History(revisions=(), invalid=())
        current, described = history.current, manifest_files(files)
        if current is not None and current.files == described and current is history.latest:
            raise PolicyError(f"revision {current.revision} has the same files: there is nothing to publish")
        old = None if current is None else side_of(await fetch(buckets, current), current, fleet)
        if old is not None or current is None:
            print_changes(old, new, in_full=in_full)
        nodes = None if canary is None else await _canary(canary, buckets, history, force=force)
        if dry_run:
            return
        first = None if nodes is None else Canary(nodes=nodes, hold_at=hold_at)
        manifest = new_revision(fleet.settings, history, described, action="publish", canary=first)
        await store_revision(buckets, manifest, files, key)
        click.echo(f"Revision {manifest.revision} is published for {nodes_of(manifest)}.")

    connected(fleet, publishing)


async def _canary(wanted: str, buckets: Buckets, history: History, *, force: bool) -> tuple[str, ...]:
    """Return the nodes of a canary: those that are named, or a share of those that report."""
    known = await read_nodes(buckets)
    if not wanted.endswith("%"):
        names = tuple(dict.fromkeys(wanted.split(",")))
        unknown = [name for name in names if name not in {node.name for node in known}]
        if unknown and not known and not force:
            raise PolicyError("no node has reported yet; publish the first revision without --canary, or write --force")
        if unknown and not force:
            raise PolicyError(f"the node {unknown[0]} never reported; correct its name, or write --force")
        return names
    alive = [node.name for node in known if node.silent < SILENT_SECONDS]
    if not alive:
        raise PolicyError("no node reports: name the nodes of the canary")
    # Another choice for each revision, so that it is not always the same nodes.
    count = -(-len(alive) * int(wanted.removesuffix("%")) // _HUNDRED)
    order = sorted(alive, key=lambda name: hashlib.sha256(f"{history.next} {name}".encode()).digest())
    return tuple(sorted(order[:count]))


@click.command(
    "promote",
    cls=Command,
    examples=["sidecar fleet promote --key policy.key"],
    statuses=_STATUSES,
)
@config_option
@key_option
@force_option
def promote(config: Path | None, key_file: Path, *, force: bool) -> None:
    """Publish the policy of the canary for all nodes.

    It becomes a new revision with the same files. Without --force each node of the canary must use it now. A node that
    rejected it, or that has left it because of tempfails, prevents the promotion.
    """
    fleet = fleet_or_exit(config)
    key = key_or_exit(key_file, fleet)

    async def promoting(buckets: Buckets) -> None:
        history = await history_of(buckets, fleet)
        latest = history.latest
        if latest is None or latest.canary is None:
            raise PolicyError("the newest revision is no canary: there is nothing to promote")
        nodes = [node_status(one, history) for one in await read_nodes(buckets)]
        obstacles = promotion_obstacles(latest.revision, latest.canary.nodes, nodes)
        for obstacle in obstacles:
            click.echo(obstacle, err=True)
        if obstacles and not force:
            raise PolicyError(f"revision {latest.revision} is held. To promote it, write --force")
        manifest = new_revision(fleet.settings, history, latest.files, action="promote", of=latest.revision)
        await _store_again(buckets, manifest, key)

    connected(fleet, promoting)


@click.command(
    "rollback",
    cls=Command,
    examples=["sidecar fleet rollback --key policy.key", "sidecar fleet rollback --key policy.key 12"],
    statuses=_STATUSES,
)
@click.argument("revision", metavar="[REVISION]", type=click.IntRange(1), required=False)
@config_option
@key_option
@click.option("--all", "in_full", is_flag=True, help="List all changes, not only the first 20 of each kind.")
def rollback(revision: int | None, config: Path | None, key_file: Path, *, in_full: bool) -> None:
    """Return all nodes to an earlier revision.

    The files of that revision become a new revision for all nodes. Without REVISION a canary ends, and otherwise all nodes
    return to the files before the last change.
    """
    fleet = fleet_or_exit(config)
    key = key_or_exit(key_file, fleet)

    async def returning(buckets: Buckets) -> None:
        history = await history_of(buckets, fleet)
        target = history.get(revision) if revision is not None else _before(history)
        latest = history.latest
        if latest is not None and latest.files == target.files and latest.canary is None:
            raise PolicyError(f"all nodes have the files of revision {target.revision}: there is nothing to roll back")
        await _show(buckets, fleet, latest, target, in_full=in_full)
        manifest = new_revision(fleet.settings, history, target.files, action="rollback", of=target.revision)
        await _store_again(buckets, manifest, key)

    connected(fleet, returning)


def _before(history: History) -> Manifest:
    """Return the revision to return to. Raise PolicyError."""
    latest, current = history.latest, history.current
    found = current if latest is not current else None if latest is None else history.before(latest.revision)
    if found is None:
        raise PolicyError("there is no earlier revision for all nodes")
    return found


async def _show(buckets: Buckets, fleet: Fleet, latest: Manifest | None, target: Manifest, *, in_full: bool) -> None:
    """Print the changes from the newest revision to another one, if this program can load both."""
    if latest is None:
        return
    old, new = [side_of(await fetch(buckets, one), one, fleet) for one in (latest, target)]
    if old is not None and new is not None:
        print_changes(old, new, in_full=in_full)


async def _store_again(buckets: Buckets, manifest: Manifest, key: SigningKey) -> None:
    """Store a revision whose files another one has, too."""
    await store_revision(buckets, manifest, {}, key)
    click.echo(f"Revision {manifest.revision} is published for all nodes, with the files of revision {manifest.of}.")
