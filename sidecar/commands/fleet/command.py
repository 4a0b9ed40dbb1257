"""`sidecar fleet`: the group of its commands."""

import click

from sidecar.machine import has_package
from sidecar.output.help import CommandGroup

if not has_package("nats"):
    raise click.ClickException("`sidecar fleet` needs nats-py: install the extra sidecar[fleet].")

from sidecar.commands.fleet.nodes import history, status
from sidecar.commands.fleet.publish import promote, publish, rollback


@click.group(
    "fleet",
    cls=CommandGroup,
    examples=[
        "sidecar fleet publish --key policy.key --canary 10% policy.toml",
        "sidecar fleet status",
        "sidecar fleet promote --key policy.key",
        "sidecar fleet rollback --key policy.key",
        "sidecar fleet history",
    ],
    statuses={0: "success", 1: "the fleet cannot be reached, a check fails, or `status` finds a problem"},
)
def command() -> None:
    """Publish the policy of many nodes, and show what they do with it.

    [fleet] in the settings names the NATS servers and, in `policy_keys`, the public keys. Each change is a new revision, which
    is signed with the private key of an operator.
    """


for each in (publish, promote, rollback, status, history):
    command.add_command(each)
