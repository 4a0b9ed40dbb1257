"""The supervisor: prefork, readiness, reload, restart with backoff, orderly stop. nginx's model.

Owns processes. Never sees a message.
"""

from sidecar.daemon.process.loader import Loader, LoaderError
from sidecar.daemon.process.signals import Terminal
from sidecar.daemon.process.start import run

__all__ = ["Loader", "LoaderError", "Terminal", "run"]
