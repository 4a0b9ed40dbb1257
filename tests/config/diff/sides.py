"""Two configurations for tests, built by hand."""

from pathlib import PurePath
from typing import Any

from sidecar.config.diff.values import Side
from sidecar.config.places import Place
from sidecar.core.evaluate.evaluator import Evaluator
from sidecar.core.settings.settings import Settings
from sidecar.core.settings.values import DomainEntry
from tests.building import settings


def side(*domains: DomainEntry, **more: Any) -> Side:
    """Make a side around some listener domains."""
    return side_of(settings(domains, **more))


def side_of(made: Settings, folder: str = "/etc/sidecar") -> Side:
    return Side(file="sidecar.toml", folder=PurePath(folder), place=Place(1), evaluator=Evaluator(made))
