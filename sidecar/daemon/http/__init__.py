"""Policy over HTTP: the questions of KumoMTA nodes and operators, health, and metrics.

Owns an ASGI application and its server, for one process on loopback or a UNIX socket. Only that process imports this package,
and no verdict waits for it. Never opens a file that a client names, and never changes anything.
"""

from sidecar.daemon.http.app import application
from sidecar.daemon.http.server import Server

__all__ = ["Server", "application"]
