"""The milter door, the only room that imports libmilter's binding: callbacks, negotiation, replies, the listening socket.

Owns how an MTA is spoken to. Never decides anything about mail.
"""

from sidecar.milter.adapter import Adapter
from sidecar.milter.listener import Listener, ListenError, listen
from sidecar.milter.negotiation import Step
from sidecar.milter.recorder import Recorder
from sidecar.milter.routes import open_routes
from sidecar.milter.serve import ServeError, serve

__all__ = ["Adapter", "ListenError", "Listener", "Recorder", "ServeError", "Step", "listen", "open_routes", "serve"]
