"""The check of a policy as this node would load it, and what it changes."""

from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

import click

from sidecar.commands.fleet.opening import Fleet
from sidecar.config import Reading
from sidecar.config.diff.rules import Listing, changes
from sidecar.config.diff.values import Side
from sidecar.config.files import read_document
from sidecar.config.policy import PolicyFile
from sidecar.core.evaluate.evaluator import Evaluator
from sidecar.core.findings import Finding
from sidecar.core.text import counted
from sidecar.fleet.policy.manifest import Manifest, PolicyError
from sidecar.fleet.policy.publishing import write_copy
from sidecar.output.changes import print_difference
from sidecar.output.problems import finding_line

_SHOWN = 20
_OPEN_RELAY = "open_relay"


def checked(files: Mapping[str, bytes], fleet: Fleet, name: str) -> tuple[Side, tuple[Finding, ...]]:
    """Load these files with the settings of this machine. Return them for a comparison, and the warnings.

    `name` is the policy file in findings. Raise PolicyError with all errors.
    """
    with TemporaryDirectory(prefix="sidecar-policy-") as folder:
        path = write_copy(files, Path(folder))
        reading = Reading(fleet.config, policy=PolicyFile(path=path, file=name))
        if reading.loaded.settings is None:
            lines = [finding_line(one) for one in reading.loaded.problems if one.level == "error"]
            raise PolicyError("\n".join([f"{name} is not valid", *lines]))
        place = read_document(path, name, is_json=False).place
        evaluator = Evaluator(reading.loaded.settings)
        side = Side(file=name, folder=fleet.config.parent.absolute(), place=place, evaluator=evaluator)
        return side, reading.warnings()


def print_warnings(warnings: tuple[Finding, ...], *, force: bool) -> None:
    """Print the warnings. Raise click.ClickException if there is an open relay."""
    for one in warnings:
        click.echo(finding_line(one), err=True)
    relays = sum(1 + one.more for one in warnings if one.code == _OPEN_RELAY)
    if relays and not force:
        raise click.ClickException(f"This policy is an open relay ({counted(relays, 'place')}). To publish it, write --force.")


def print_changes(old: Side | None, new: Side, *, in_full: bool) -> None:
    """Print what a policy opens and closes compared with the one before."""
    if old is None:
        settings = new.evaluator.settings
        click.echo(f"This is the first revision: it has {counted(len(settings.domains), 'listener domain')}.")
        return
    listing = Listing(None if in_full else _SHOWN)
    for change in changes(old, new):
        listing.add(change)
    print_difference(listing, None, limit=None)


def side_of(files: Mapping[str, bytes], manifest: Manifest, fleet: Fleet) -> Side | None:
    """Return a revision for a comparison; None if this program cannot load it, which is printed."""
    try:
        return checked(files, fleet, f"revision {manifest.revision}/policy.toml")[0]
    except PolicyError as error:
        click.echo(f"It cannot be compared with revision {manifest.revision}: {error}", err=True)
        return None
