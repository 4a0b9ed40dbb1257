"""What the supervisor and a worker say to each other, over a pair of sockets that also tells each of the other's death.

Owns the messages. Never acts on them.
"""

import socket
from contextlib import suppress

_READY = b"ready\n"


def pair() -> tuple[socket.socket, socket.socket]:
    """Give the supervisor's end and the worker's. Messages keep their bounds."""
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)


def say_ready(control: socket.socket) -> None:
    """Tell the supervisor that this worker accepts connections."""
    with suppress(OSError):
        control.send(_READY)


def say_retire(control: socket.socket, grace: float) -> None:
    """Tell a worker to accept no more connections, and to end when its own are over, after `grace` seconds at the latest."""
    with suppress(OSError):
        control.send(f"{grace}".encode())


def hear_ready(control: socket.socket) -> bool:
    """Read what a worker said: True for "ready", False when it is dead."""
    return _receive(control) == _READY


def hear_grace(control: socket.socket) -> float | None:
    """Read what the supervisor said: the seconds of grace, or None when it is dead."""
    return float(said) if (said := _receive(control)) else None


def _receive(control: socket.socket) -> bytes:
    """Read one message; none when the other end is gone."""
    try:
        return control.recv(64)
    except OSError:
        return b""
