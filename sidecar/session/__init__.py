"""START HERE. One SMTP connection, sans-IO: events in; verdicts and records out; one transition table."""

from sidecar.session.quota import Quota
from sidecar.session.rules import NewestRules, NoRulesError, Rules
from sidecar.session.session import ProtocolError, Session, World

__all__ = ["NewestRules", "NoRulesError", "ProtocolError", "Quota", "Rules", "Session", "World"]
