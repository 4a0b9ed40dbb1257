"""Policy over HTTP: what KumoMTA's nodes ask for a domain, what operators ask and monitoring reads.

Owns an ASGI application and the one process that serves it, on the loopback or a UNIX socket. Imported in that process only:
whatever it costs in memory and time, no verdict waits for it. Never reads a file, and never changes anything.
"""

from sidecar.admin.app import application
from sidecar.admin.serve import serve
from sidecar.admin.service import Service

__all__ = ["Service", "application", "serve"]
