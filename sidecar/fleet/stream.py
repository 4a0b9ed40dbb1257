"""The stream of records: its name, its subjects, and the headers of its messages.

What is here is permanent: other programs read it (deploy/docs/fleet.md).
"""

from typing import Final

from sidecar.core.settings.fleet import FleetSettings

MESSAGE_ID: Final = "Nats-Msg-Id"
VERSION: Final = "Sidecar-Record-Version"
RECORD_VERSION: Final = 1
"""The form of records in this version of the program. A change that a reader must know of makes it higher."""


def stream_of(fleet: FleetSettings) -> str:
    """Return the name of the stream of records."""
    return f"{fleet.name}_records"


def subject_of(fleet: FleetSettings, record_type: str, node: str | None = None) -> str:
    """Return the subject of a record of a node, by default of this one; `*` stands for every type or node."""
    return f"{fleet.name}.records.{node or fleet.node}.{record_type}"
