"""`sidecar run`: the milter."""

import gc
import importlib
import signal
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Final

import click

from sidecar import log
from sidecar.core.fleet_view import FleetView
from sidecar.core.settings.fleet import FleetSettings
from sidecar.core.settings.settings import Settings
from sidecar.core.sharing import Connect
from sidecar.core.suppressed import EditableList
from sidecar.daemon.process.admin import ListAccess
from sidecar.daemon.process.loader import Loader, LoaderError
from sidecar.daemon.process.side_task import SideTask
from sidecar.daemon.process.signals import Terminal
from sidecar.daemon.process.start import run
from sidecar.fleet import READER as SHIPPER
from sidecar.fleet import WEBHOOK
from sidecar.output.help import Command
from sidecar.output.problems import config_file, config_option, loaded_or_exit
from sidecar.output.streams import sentence
from sidecar.suppression import READER
from sidecar.suppression.filter import AddressFilter
from sidecar.suppression.lookup import Lookup, problem_of

_INDEX_GARBAGE: Final = 200_000

_LOG = log.get("suppression")


def _suppression(settings: Settings) -> tuple[SideTask, ListAccess]:
    """Return the process of the suppression list, and how others reach the list. They share a filter in memory."""
    shared = AddressFilter()
    if settings.suppression is not None and settings.suppression.checks:
        # Before the fork, so that the workers share what SQLite needs.
        importlib.import_module("sidecar.suppression.opened")

    def follow_journal(settings: Settings, wait: Callable[[float], bool]) -> None:
        from sidecar.suppression.consumer import follow  # noqa: PLC0415 - the workers do not need SQLite

        follow(settings, wait, shared, _other_nodes(settings))

    follower = SideTask(
        name=READER,
        what="the process of the suppression list",
        wanted=lambda settings: settings.suppression is not None,
        run=follow_journal,
    )
    return follower, ListAccess(known=Lookup(shared), problem_of=problem_of, open=_open_list, fleet=_read_fleet)


def _other_nodes(settings: Settings) -> Connect | None:
    """Return what connects the suppression list with other nodes. The list of a node works without it."""
    if settings.fleet is None:
        return None
    try:
        from sidecar.fleet.suppression import ListExchange  # noqa: PLC0415 - only with the extra sidecar[fleet]
    except ImportError as error:
        _LOG.error(f"the suppression list is not shared with other nodes: {error}; install sidecar[fleet]")
        return None
    return partial(ListExchange, settings)


def _open_list(settings: Settings) -> EditableList | None:
    """Open the suppression list for HTTP."""
    from sidecar.suppression.serving import ServedList  # noqa: PLC0415 - the workers do not need SQLite

    return None if settings.suppression is None else ServedList(settings)


def _read_fleet(fleet: FleetSettings) -> FleetView:
    """Read the nodes of the fleet for the console."""
    from sidecar.fleet.policy.status import read_fleet_view  # noqa: PLC0415 - only with the extra sidecar[fleet]

    return read_fleet_view(fleet)


def _ship(settings: Settings, wait: Callable[[float], bool]) -> None:
    """Ship records to the fleet."""
    from sidecar.fleet.shipper import ship  # noqa: PLC0415 - only with the extra sidecar[fleet]

    ship(settings, wait)


def _deliver(settings: Settings, wait: Callable[[float], bool]) -> None:
    """Deliver records to webhooks."""
    from sidecar.fleet.webhooks import deliver  # noqa: PLC0415 - only with the extra sidecar[fleet]

    deliver(settings, wait)


def _index(settings: Settings, wait: Callable[[float], bool]) -> None:
    """Keep the index of the journal for the console."""
    from sidecar.journal.index.keeping import follow  # noqa: PLC0415 - the workers do not need SQLite

    # The rows of a transaction are no garbage.
    gc.set_threshold(_INDEX_GARBAGE)
    follow(settings, wait)


_INDEX: Final = SideTask(
    name="index",
    what="the process of the index",
    wanted=lambda settings: settings.admin is not None and settings.admin.console,
    run=_index,
)
_WEBHOOKS: Final = SideTask(
    name=WEBHOOK,
    what="the process of the webhooks",
    wanted=lambda settings: bool(settings.webhook),
    run=_deliver,
)


def _follow_policy(settings: Settings, wait: Callable[[float], bool]) -> None:
    """Take the policy of the fleet."""
    from sidecar.fleet.policy.agent import follow_policy  # noqa: PLC0415 - only with the extra sidecar[fleet]

    follow_policy(settings, wait)


_POLICY_AGENT: Final = SideTask(
    name="policy",
    what="the process of the fleet's policy",
    wanted=lambda settings: settings.fleet is not None and bool(settings.fleet.policy_keys),
    run=_follow_policy,
)


_SHIPPER: Final = SideTask(
    name=SHIPPER,
    what="the shipper",
    wanted=lambda settings: settings.fleet is not None,
    run=_ship,
)


@click.command(
    "run",
    cls=Command,
    examples=["sidecar run --config /etc/sidecar/sidecar.toml"],
    statuses={0: "it was stopped", 1: "it could not start; the last line has the reason"},
)
@config_option
def command(config: Path | None) -> None:
    """Run the milter in the foreground until it is stopped.

    It reloads its settings on SIGHUP, and when one of their files changes. SIGTERM, Ctrl-C and the end of its terminal stop it;
    messages in progress get some seconds to finish.
    """
    terminal = Terminal()
    # SIGHUP while the settings are being loaded needs no reload. Its default action would end the program.
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    loader = Loader(config_file(config))
    try:
        loaded = loader.wait()
    except LoaderError as error:
        click.echo(sentence(error), err=True)
        sys.exit(1)
    settings = loaded_or_exit(loaded)
    log.configure(level=settings.log.level, format=settings.log.format)
    follower, suppression = _suppression(settings)
    side_tasks = follower, _SHIPPER, _WEBHOOKS, _POLICY_AGENT, _INDEX
    sys.exit(run(settings, loaded.sources, loader, terminal, side_tasks=side_tasks, suppression=suppression))
