"""What the commands of a fleet share: its settings, the operator's key, the connection, and the words of a revision."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

import click
from msgspec import Struct

from sidecar.core.settings.fleet import FleetSettings
from sidecar.fleet import FleetError
from sidecar.fleet.connection import FleetConnection
from sidecar.fleet.policy.buckets import Buckets
from sidecar.fleet.policy.manifest import PolicyError
from sidecar.fleet.policy.publishing import History, read_history
from sidecar.fleet.policy.signature import SigningKey, read_private
from sidecar.output.problems import config_file, settings_or_exit
from sidecar.output.streams import sentence

T = TypeVar("T")

key_option = click.option(
    "--key",
    "key_file",
    metavar="FILE",
    required=True,
    type=click.Path(path_type=Path),
    help="The private key that signs, made by `sidecar keys policy`.",
)
force_option = click.option("--force", is_flag=True, help="Continue even if a check fails.")
json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON object, for programs.")


class Fleet(Struct, frozen=True, kw_only=True):
    """The section [fleet] of the settings at `config`."""

    config: Path
    settings: FleetSettings


def fleet_or_exit(config: Path | None) -> Fleet:
    """Load the settings of a fleet command. Raise click.ClickException if they have no fleet, or no key of its policy."""
    file = config_file(config)
    fleet = settings_or_exit(file).fleet if file is not None else None
    if file is None or fleet is None:
        raise click.ClickException("The settings have no [fleet]. Write its servers there.")
    if not fleet.policy_keys:
        fix = 'Write policy_keys = ["policy.key.pub"] below [fleet]; `sidecar keys policy` makes the file.'
        raise click.ClickException(f"The settings name no key that signs the policy. {fix}")
    return Fleet(config=file, settings=fleet)


def key_or_exit(file: Path, fleet: Fleet) -> SigningKey:
    """Read the private key. Raise click.ClickException if no node would take what it signs."""
    try:
        key = read_private(file)
    except OSError as error:
        raise click.ClickException(f"{file} cannot be read: {error.strerror}.") from error
    if isinstance(key, str):
        raise click.ClickException(f"{file} is no key for signatures: {key}.")
    if key.id not in {one.id for one in fleet.settings.policy_keys}:
        fix = f"Add {file}.pub to policy_keys, here and on all nodes."
        raise click.ClickException(f"No node takes what the key {key.id} signs: it is not in policy_keys. {fix}")
    return key


def connected(fleet: Fleet, work: Callable[[Buckets], Awaitable[T]]) -> T:
    """Work with the buckets of a fleet. Raise click.ClickException if the servers do not answer."""

    async def working() -> T:
        async with FleetConnection(fleet.settings, role="operator") as connection:
            return await work(Buckets(connection.client, fleet.settings))

    try:
        return asyncio.run(working())
    except (FleetError, PolicyError) as error:
        raise click.ClickException(sentence(error)) from error


async def history_of(buckets: Buckets, fleet: Fleet) -> History:
    """Return all revisions of the fleet."""
    return await read_history(buckets, fleet.settings, fleet.settings.policy_keys)
