"""Many nodes: records and policy over NATS JetStream, and records to HTTP endpoints.

Owns all connections to other machines. No verdict waits for them. Without `[fleet]` and `[[webhook]]` nothing else here is
imported: it needs the extra `sidecar[fleet]`.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Final

from sidecar.core.settings.fleet import FleetSettings
from sidecar.core.text import OperatorError

if TYPE_CHECKING:
    from sidecar.fleet.source import StreamSource

READER: Final = "fleet"
"""The name of the shipper's checkpoint."""

WEBHOOK: Final = "webhook"
"""The names of the webhooks' checkpoints begin with it and a dash."""

STREAM: Final = "nats:"
"""Sources of records that begin with it are streams: `nats://`, or `nats://` and the name of a node."""


class FleetError(OperatorError):
    """The fleet's servers did not do what was asked."""


def is_stream(path: Path) -> bool:
    """Return True for a source of records that is no file."""
    return str(path).startswith(STREAM)


def open_stream(path: Path, fleet: FleetSettings | None) -> "StreamSource":
    """Return the stream that a path names, as a context manager. Raise FleetError."""
    try:
        from sidecar.fleet.source import StreamSource  # noqa: PLC0415 - only with the extra
    except ImportError as error:
        raise FleetError(f"{path} needs the extra sidecar[fleet], which cannot be loaded: {error}") from error
    return StreamSource(path, fleet)
