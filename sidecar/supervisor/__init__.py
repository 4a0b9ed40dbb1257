"""The supervisor: prefork, readiness, reload, restart with backoff, orderly stop. nginx's model.

Owns processes. Never sees a message.
"""

from sidecar.supervisor.run import run, tell

__all__ = ["run", "tell"]
