"""START HERE. One SMTP connection, sans-IO: events in; verdicts and records out; one transition table."""

from sidecar.session.kumomta import session_type
from sidecar.session.quota import Quota
from sidecar.session.session import ProtocolError, Session, World

__all__ = ["ProtocolError", "Quota", "Session", "World", "session_type"]
