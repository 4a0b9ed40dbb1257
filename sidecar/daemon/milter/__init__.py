"""The milter: engines, callbacks, negotiation, replies, socket.

Owns the communication with an MTA. Never decides about mail.
"""

from sidecar.daemon.milter.adapter import Adapter
from sidecar.daemon.milter.engine import ENGINES, Serving
from sidecar.daemon.milter.listener import Listener, listen
from sidecar.daemon.milter.negotiation import Step

__all__ = ["ENGINES", "Adapter", "Listener", "Serving", "Step", "listen"]
