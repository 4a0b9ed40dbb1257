"""What the supervisor and a worker say to each other, over a pair of sockets that also tells each of the other's death.

Owns the messages. Never acts on them.
"""

import socket
from contextlib import suppress
from typing import Final, Literal

_READY: Final = b"ready"
_ALIVE: Final = b"alive"
_LEFT: Final = b"left"
_ASK: Final = b"alive?"


def pair() -> tuple[socket.socket, socket.socket]:
    """Give the supervisor's end and the worker's. Messages keep their bounds."""
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)


def say_ready(control: socket.socket) -> None:
    """Tell the supervisor that this worker accepts connections."""
    _send(control, _READY)


def say_alive(control: socket.socket) -> None:
    """Answer the supervisor's question."""
    _send(control, _ALIVE)


def say_left(control: socket.socket) -> None:
    """Tell the supervisor that this worker accepts no more connections."""
    _send(control, _LEFT)


def say_retire(control: socket.socket, grace: float) -> None:
    """Tell a worker to accept no more connections, and to end when its own are over, after `grace` seconds at the latest."""
    _send(control, f"{grace}".encode())


def ask_alive(control: socket.socket) -> None:
    """Ask a worker for a sign of life."""
    _send(control, _ASK)


def hear_worker(control: socket.socket) -> Literal["ready", "alive", "left"] | None:
    """Read what a worker said; None when it is dead."""
    said = _receive(control)
    return "ready" if said == _READY else "alive" if said == _ALIVE else "left" if said == _LEFT else None


def hear_supervisor(control: socket.socket) -> float | Literal["alive?"] | None:
    """Read what the supervisor said: the seconds of grace before the end, a question to answer, or None when it is dead."""
    said = _receive(control)
    return "alive?" if said == _ASK else float(said) if said else None


def _send(control: socket.socket, message: bytes) -> None:
    """Send a message; one that the other end cannot take any more is lost, and waiting for it would help nobody."""
    with suppress(OSError):
        control.send(message, socket.MSG_DONTWAIT)


def _receive(control: socket.socket) -> bytes:
    """Read one message; none when the other end is gone."""
    try:
        return control.recv(64)
    except OSError:
        return b""
