"""Whether a milter socket can be reached from other machines.

Owns that one question. Never listens, and never decides whether it is allowed.
"""

import ipaddress

from sidecar.core.names import plain_address
from sidecar.machine import addresses_of


def is_remote(listening: str) -> bool:
    """Tell it of `unix:/path` or `inet:host:port`.

    A host name is looked up, and all its addresses count; one that nobody knows cannot be listened on at all.
    """
    kind, _, where = listening.partition(":")
    if kind == "unix":
        return False
    host = where.rpartition(":")[0].strip("[]")
    try:
        return not plain_address(host).is_loopback
    except ValueError:
        return any(not ipaddress.ip_address(address).is_loopback for address in addresses_of(host))
