"""What the supervisor and a worker say to each other, over a pair of sockets that also tells each of the other's death.

Owns the messages. Never acts on them.
"""

import socket
from contextlib import suppress
from typing import Final, Literal

from sidecar.daemon.process.plan import Handover

_READY: Final = b"ready"
_ALIVE: Final = b"alive"
_LEFT: Final = b"left"
_TAKEN: Final = b"taken"
_ASK: Final = b"alive?"
_PLAN: Final = b"plan"
_SIZE: Final = 64
_DESCRIPTORS: Final = 2

Word = Literal["ready", "alive", "left", "taken"]
_WORDS: Final[dict[bytes, Word]] = {_READY: "ready", _ALIVE: "alive", _LEFT: "left", _TAKEN: "taken"}


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


def say_taken(control: socket.socket) -> None:
    """Tell the supervisor that this worker judges no new message by an earlier plan than the last one it was passed."""
    _send(control, _TAKEN)


def say_plan(control: socket.socket, handover: Handover) -> None:
    """Pass a newer plan to a worker."""
    with suppress(OSError):
        socket.send_fds(control, [_PLAN], handover.descriptors, socket.MSG_DONTWAIT)


def say_retire(control: socket.socket, grace: float) -> None:
    """Tell a worker to accept no more connections, and to end when its own are over, after `grace` seconds at the latest."""
    _send(control, f"{grace}".encode())


def ask_alive(control: socket.socket) -> None:
    """Ask a worker for a sign of life."""
    _send(control, _ASK)


def hear_worker(control: socket.socket) -> Word | None:
    """Read what a worker said; None when it is dead."""
    try:
        return _WORDS.get(control.recv(_SIZE))
    except OSError:
        return None


def hear_supervisor(control: socket.socket) -> float | Literal["alive?"] | Handover | None:
    """Read what the supervisor said.

    The seconds of grace before the end, a question to answer, a newer plan to close after use, or None when it is dead.
    """
    try:
        said, descriptors, _, _ = socket.recv_fds(control, _SIZE, _DESCRIPTORS)
    except OSError:
        return None
    if said == _PLAN:
        return Handover(descriptors)
    return "alive?" if said == _ASK else float(said) if said else None


def _send(control: socket.socket, message: bytes) -> None:
    """Send a message; one that the other end cannot take any more is lost, and waiting for it would help nobody."""
    with suppress(OSError):
        control.send(message, socket.MSG_DONTWAIT)
