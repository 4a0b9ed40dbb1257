"""The list of the settings, for the commands that read it."""

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import click

from sidecar.core.settings.settings import Settings
from sidecar.core.settings.suppression import SuppressionSettings
from sidecar.core.text import printable
from sidecar.journal.database import DamagedError, StoreError, database_faults
from sidecar.output.problems import reader_settings_or_exit
from sidecar.suppression.opening import open_reader
from sidecar.suppression.reading import normal_key
from sidecar.suppression.store import Database

READ_STATUSES = {0: "success", 1: "the list cannot be read"}


def list_settings(config: Path | None) -> tuple[Settings, SuppressionSettings]:
    """Return the settings, and those of the list. Raise click.ClickException without [suppression]."""
    settings = reader_settings_or_exit(config)
    if settings.suppression is None:
        raise click.ClickException("The settings have no [suppression]. Write this section, and reload the sidecar.")
    return settings, settings.suppression


@contextmanager
def opened(settings: SuppressionSettings) -> Iterator[Database]:
    """Open the list to read it, and turn its faults into sentences."""
    with faults(settings), open_reader(settings) as database:
        yield database


@contextmanager
def known_list(settings: SuppressionSettings) -> Iterator[Database | None]:
    """Open the list to read it; None if that is not possible: it may not exist yet."""
    with faults(settings), ExitStack() as stack:
        database = None
        with suppress(StoreError):
            database = stack.enter_context(open_reader(settings))
        yield database


@contextmanager
def faults(settings: SuppressionSettings) -> Iterator[None]:
    """Turn the faults of a list into sentences."""
    try:
        with database_faults(settings.database):
            yield
    except DamagedError as error:
        fix = "Restart the sidecar: it makes a new list from the readable part and the journal."
        raise click.ClickException(printable(f"{error}. {fix}")) from error


def key_or_usage_error(address: str) -> str:
    """Return an address in normal form. Raise click.UsageError if it is none."""
    if (key := normal_key(address)) is None:
        raise click.UsageError(f"{address[:100]!r} is no address. Write one such as user@example.com.")
    return key


def now() -> int:
    """Return the time in seconds since 1970."""
    return int(time.time())
