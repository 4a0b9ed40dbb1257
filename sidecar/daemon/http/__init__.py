"""Policy over HTTP: what KumoMTA's nodes ask for a domain, what operators ask and monitoring reads.

Owns an ASGI application and the one process that serves it, on the loopback or a UNIX socket. Imported in that process only:
whatever it costs in memory and time, no verdict waits for it. Never reads a file, and never changes anything.
"""

from sidecar.daemon.http.app import application
from sidecar.daemon.http.serve import serve
from sidecar.daemon.http.service import Service

__all__ = ["Service", "application", "serve"]
