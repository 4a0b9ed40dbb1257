"""The stream of records: its name, its subjects, the headers of its messages, and its creation.

What is here is permanent: other programs read it (deploy/docs/fleet.md).
"""

from typing import Any, Final

from sidecar.core.settings.fleet import FleetSettings

MESSAGE_ID: Final = "Nats-Msg-Id"
VERSION: Final = "Sidecar-Record-Version"
RECORD_VERSION: Final = 1
"""The form of records in this version of the program. A change that a reader must know of makes it higher."""

# A stream remembers ids for so long: a shipper that was killed must be back by then. Each id takes some 100 bytes.
_DUPLICATE_SECONDS: Final = 600
_DAY: Final = 86400
_NANOSECONDS: Final = 1_000_000_000


def stream_of(fleet: FleetSettings) -> str:
    """Return the name of the stream of records."""
    return f"{fleet.name}_records"


def subject_of(fleet: FleetSettings, record_type: str, node: str | None = None) -> str:
    """Return the subject of a record of a node, by default of this one; `*` stands for every type or node."""
    return f"{fleet.name}.records.{node or fleet.node}.{record_type}"


def stream_settings(fleet: FleetSettings, *, replicas: int = 1, days: int = 90) -> dict[str, Any]:
    """Return the settings of the stream, as NATS reads them.

    The oldest records are deleted after so many days. A full stream rejects new records, which then wait in the journals.
    """
    return {
        "name": stream_of(fleet),
        "subjects": [f"{fleet.name}.records.>"],
        "retention": "limits",
        "discard": "new",
        "storage": "file",
        "compression": "s2",
        "num_replicas": replicas,
        "max_age": days * _DAY * _NANOSECONDS,
        "duplicate_window": _DUPLICATE_SECONDS * _NANOSECONDS,
        "allow_direct": True,
        "deny_delete": True,
    }
