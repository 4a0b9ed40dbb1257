"""Probable mistakes in settings. A warning never prevents a start or a reload."""

from sidecar.config.findings import Findings
from sidecar.config.warnings.listeners import note_listeners
from sidecar.config.warnings.names import note_idle, note_name, note_shadows
from sidecar.config.warnings.openings import note_opening, note_relay_hosts
from sidecar.config.warnings.unverified import note_verify
from sidecar.core.settings.domain_table import table_of
from sidecar.core.settings.settings import Settings


def note_warnings(settings: Settings, findings: Findings) -> None:
    """Add the warnings that depend on the finished settings."""
    note_relay_hosts(settings, findings)
    note_listeners(settings, findings)
    sets_nothing = False
    # Each time that a million entries are read takes some seconds.
    for entry in settings.domains:
        note_name(entry, findings)
        note_opening(entry, findings)
        sets_nothing = sets_nothing or len(entry.steps) == 1
    by_listener = table_of(settings.domains).listeners
    note_shadows(by_listener, findings)
    if sets_nothing:
        note_idle(by_listener, findings)
    note_verify(settings.verify, by_listener, findings)
