"""START HERE. One SMTP connection, without I/O: events in, verdicts and records out, one transition table."""

from sidecar.core.session.events import ProtocolError
from sidecar.core.session.quota import Quota
from sidecar.core.session.rules import NewestRules, NoRulesError, Rules, World
from sidecar.core.session.session import Session

__all__ = ["NewestRules", "NoRulesError", "ProtocolError", "Quota", "Rules", "Session", "World"]
