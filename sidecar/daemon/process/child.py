"""A forked child: it runs one function, and ends with the status that this returns.

Owns the fork. Whatever goes wrong in the child ends the child: its stack is a copy of the supervisor's, and an exception that
left it would make a second supervisor.
"""

import os
import signal
import sys
from collections.abc import Callable
from socket import socket
from typing import Final, NoReturn

from sidecar import log
from sidecar.daemon.process.signals import WATCHED, held_back

Work = Callable[[socket], int]
Start = Callable[[socket, Work], int]
"""Starts a child with its end of the control socket. Returns its process id. Raises OSError if the system cannot start one."""

FAILED: Final = 1

_LOG = log.get("supervisor")


def start(control: socket, work: Work) -> int:
    """Fork, and run `work` in the child."""
    with held_back():
        pid = os.fork()
        if pid == 0:
            _end_with(control, work)
    return pid


def _end_with(control: socket, work: Work) -> NoReturn:
    status = FAILED
    try:
        status = work(control)
    except BaseException as error:  # noqa: BLE001 - see above: nothing may leave this function
        _LOG.error("a child process failed", exc_info=error)
    finally:
        try:
            sys.stderr.flush()
        finally:
            os._exit(status)


def leave_signals_to_supervisor() -> None:
    """Ignore what Ctrl-C and systemd send to every process of the group: only the supervisor's word counts in a child."""
    for number in WATCHED:
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
