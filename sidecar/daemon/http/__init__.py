"""Policy and the suppression list over HTTP: the questions of KumoMTA nodes, applications and operators, health, and metrics.

Owns an ASGI application and its server, for one process on loopback or a UNIX socket. Only that process imports this package,
and no verdict waits for it. Never opens a file that a client names. It changes the suppression list,
and nothing else.
"""

from sidecar.daemon.http.app import Application
from sidecar.daemon.http.server import Server

__all__ = ["Application", "Server"]
