"""Writing records: segments, commit, quarantine, routing by record type, and the limits on what one network can cause."""

from sidecar.journal.write.journal import Journal
from sidecar.journal.write.quarantine import Quarantine, QuarantineFullError
from sidecar.journal.write.recorder import Recorder
from sidecar.journal.write.routes import Routes

__all__ = ["Journal", "Quarantine", "QuarantineFullError", "Recorder", "Routes"]
