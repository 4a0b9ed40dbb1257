"""Telling systemd how the service is (sd_notify(3)).

Owns the datagram. Does nothing where systemd did not ask for it, and never fails the caller.
"""

import os
import socket
from contextlib import suppress


def notify(*lines: str) -> None:
    """Send assignments such as `READY=1` to the socket in NOTIFY_SOCKET, if there is one."""
    name = os.environ.get("NOTIFY_SOCKET")
    if not name:
        return
    address = "\0" + name[1:] if name.startswith("@") else name
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as one:
        one.sendto("\n".join(lines).encode(), address)
