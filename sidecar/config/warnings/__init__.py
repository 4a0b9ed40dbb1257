"""What is allowed in settings and yet hardly meant: warnings, which never keep a file from taking effect.

Each module here owns one subject: a function for each finding, and the sentence it becomes. What a later step cannot see any
more (`written`) is noted while the files are read, the rest over the finished settings. Never makes an error of a finding.
"""

from sidecar.config.warnings.findings import Findings
from sidecar.config.warnings.listeners import note_listeners
from sidecar.config.warnings.names import note_idle, note_name
from sidecar.config.warnings.openings import note_opening, note_relay_hosts
from sidecar.config.warnings.shadows import note_shadows
from sidecar.config.warnings.written import note_true
from sidecar.core.settings.domain_table import table_of
from sidecar.core.settings.values import Settings


def note_warnings(settings: Settings, findings: Findings) -> None:
    """Note what the settings, as a whole, hardly mean."""
    note_relay_hosts(settings, findings)
    note_listeners(settings, findings)
    for entry in settings.domains:
        note_name(entry, findings)
        note_opening(entry, findings)
        note_true(entry, findings)
    by_listener = table_of(settings.domains).listeners
    note_shadows(by_listener, findings)
    note_idle(by_listener, findings)
