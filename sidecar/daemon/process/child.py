"""Child processes: the fork, the messages on the control socket, and the wait before a dead child is started again.

Supervisor and child each have one end of a socket pair. The kernel closes it at death, so each sees the other's end there.

Owns these three things. Never decides when a child starts or ends.
"""

import os
import signal
import socket
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Final, Literal, NoReturn, cast

from sidecar import log
from sidecar.daemon.process.plan import Handover
from sidecar.daemon.process.signals import WATCHED, blocked

Work = Callable[[socket.socket], int]
Start = Callable[[socket.socket, Work], int]
"""Starts a child with its end of the control socket. Returns its process id. Raises OSError if the system cannot start one."""

FAILED: Final = 1

_LOG = log.get("supervisor")


def start(control: socket.socket, work: Work) -> int:
    """Fork, run `work` in the child, and end the child with the status that this returns. Return the process id."""
    # If the program's own parent ignores this signal, it is ignored here too, and no child could be waited for (waitpid(2)).
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    with blocked():
        pid = os.fork()
        if pid == 0:
            _run(control, work)
    return pid


def _run(control: socket.socket, work: Work) -> NoReturn:
    # The stack is a copy of the supervisor's: an exception that left this function would make a second supervisor.
    status = FAILED
    try:
        status = work(control)
    except BaseException as error:  # noqa: BLE001 - see above
        _LOG.error("a child process failed", exc_info=error)
    finally:
        try:
            sys.stderr.flush()
        finally:
            os._exit(status)


def reap(pid: int) -> tuple[int, str]:
    """Reap a child. Return its exit status, or the negative number of a signal, and the same in words."""
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return code, f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with status {code}"


def ignore_signals() -> None:
    """Ignore what Ctrl-C and systemd send to every process of the group: a child obeys its supervisor only."""
    for number in WATCHED:
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


# --- messages

Word = Literal["ready", "alive", "left", "applied"]
"""From a child: it accepts connections; it answers a ping; it accepts no more connections; it has applied the newest plan."""

_SIZE: Final = 64
_DESCRIPTORS: Final = 2


def control_pair() -> tuple[socket.socket, socket.socket]:
    """Return the supervisor's end and the child's. Each message is received whole."""
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)


def send(control: socket.socket, message: Word | Literal["ping"] | float) -> None:
    """Send a word to the supervisor, or to a child a ping or the order to end: a number is the grace in seconds.

    If the other end is dead, or its buffer is full, the message is lost: to wait for it would help no one.
    """
    with suppress(OSError):
        control.send(str(message).encode(), socket.MSG_DONTWAIT)


def send_plan(control: socket.socket, handover: Handover) -> None:
    """Pass a newer plan to a worker."""
    with suppress(OSError):
        socket.send_fds(control, [b"plan"], handover.descriptors, socket.MSG_DONTWAIT)


def receive_word(control: socket.socket) -> Word | None:
    """Return the next word of a child, None when it is dead."""
    try:
        message = control.recv(_SIZE).decode()
    except OSError:
        return None
    return cast("Word", message) if message else None


def receive_order(control: socket.socket) -> Literal["ping"] | float | Handover | None:
    """Return the supervisor's next order, None when it is dead. The caller closes a handover."""
    try:
        message, descriptors, _, _ = socket.recv_fds(control, _SIZE, _DESCRIPTORS)
    except OSError:
        return None
    if message == b"plan":
        return Handover(descriptors)
    return "ping" if message == b"ping" else float(message) if message else None


# --- the wait before the next start

# While no worker runs, no mail is served, and a start costs some 10 ms. Only the MTAs would notice a long wait.
FIRST_SECONDS = 1.0
LONGEST_SECONDS = 5.0
# A process that lived this long did not die of the way it was started.
STEADY_SECONDS = 60.0


class Backoff:
    """`first` seconds after the first failure, twice as long after each further one, up to `longest`.

    It begins again after a process that lived long.
    """

    def __init__(self, *, first: float = FIRST_SECONDS, longest: float = LONGEST_SECONDS) -> None:
        self._first = self._next = first
        self._longest = longest

    def after(self, lived: float) -> float:
        """Return the seconds to wait after the death of a process that lived so many seconds."""
        wait = self._first if lived >= STEADY_SECONDS else self._next
        self._next = min(wait * 2, self._longest)
        return wait
