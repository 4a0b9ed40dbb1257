"""Messages to systemd (sd_notify(3)), and the watchdog: a sign of life only if all workers and the socket answer.

Owns the datagrams, the times of the questions, and the connection to our own socket. Never kills a process.
"""

import math
import os
import re
import selectors
import socket
import struct
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from sidecar import log
from sidecar.daemon.process.workers import Worker
from sidecar.daemon.sockets import resolve

ASK_SECONDS = 5.0
# A worker answers within a millisecond. This long after, the connection is given up and another one tried.
CONNECT_WITHIN = 10.0

# The milter protocol: the length of what follows, a command's letter, its data. The offer is Postfix 3.7's: version 6, all
# actions, all steps, so that no worker finds a shortcoming.
_OFFER = struct.pack("!IcIII", 13, b"O", 6, 0x1FF, 0x1FFFFF)
_QUIT = struct.pack("!Ic", 1, b"Q")
_HEAD = 5

_LOG = log.get("supervisor")


def notify(*lines: str) -> None:
    """Send assignments such as `READY=1` to the socket in NOTIFY_SOCKET, if there is one. Never raise OSError."""
    name = os.environ.get("NOTIFY_SOCKET")
    if not name:
        return
    address = "\0" + name[1:] if name.startswith("@") else name
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as one:
        one.sendto("\n".join(lines).encode(), address)


def watchdog_seconds(environ: Mapping[str, str] = os.environ) -> float | None:
    """Return the seconds within which systemd wants a sign of life, None if it wants none (sd_watchdog_enabled(3))."""
    microseconds, pid = environ.get("WATCHDOG_USEC", ""), environ.get("WATCHDOG_PID", "")
    is_number = microseconds.isascii() and microseconds.isdigit()
    if not is_number or int(microseconds) == 0 or pid not in {"", str(os.getpid())}:
        return None
    return int(microseconds) / 1e6


def unit_name(environ: Mapping[str, str] = os.environ, cgroup: Path = Path("/proc/self/cgroup")) -> str | None:
    """Return the name of the system's service that this process is, such as `sidecar` or `sidecar@mx1`, None if it is none.

    systemd.exec(5), SYSTEMD_EXEC_PID: a program that a service starts is not the service.
    """
    if environ.get("SYSTEMD_EXEC_PID") != str(os.getpid()):
        return None
    try:
        text = cgroup.read_text("utf-8", "replace")
    except OSError:
        return None
    found = re.search(r"(?m)^\d+:(?:name=systemd)?:/(?!user\.slice/)(?:.*/)?([^/]+)\.service$", text)
    return found[1] if found else None


class Watchdog:
    """`ask` and `feed` may be called at any time; each does what is due.

    systemd wants a sign of life `within` so many seconds. If it wants none (None), only the workers are asked.
    """

    def __init__(
        self,
        *,
        within: float | None,
        listening: str,
        selector: selectors.BaseSelector,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._clock = clock
        # sd_watchdog_enabled(3) recommends half the time.
        self._half = math.inf if within is None else within / 2
        self._every = min(ASK_SECONDS, self._half / 4)
        self._probe = Probe(listening, selector, clock)
        self._fed = self.ask_at = clock()

    def ask(self, processes: Iterable[Worker]) -> None:
        """Ask the processes, and with systemd the socket as well."""
        now = self._clock()
        if now < self.ask_at:
            return
        self.ask_at = now + self._every
        for one in processes:
            one.ask()
        if self._half < math.inf:
            self._probe.begin()

    def feed(self, workers: Iterable[Worker]) -> None:
        """Send systemd a sign of life, if every worker and the socket have answered since the last one."""
        now = self._clock()
        if now >= self._fed + self._half and min([self._probe.answered, *(one.answered for one in workers)]) > self._fed:
            notify("WATCHDOG=1")
            self._fed = now

    def close(self) -> None:
        """Close the connection, in a forked child."""
        self._probe.close()


class Probe:
    """Asks our own socket as an MTA does: connect, offer, answer. It never waits: the selector says when it can continue.

    `listening` is the socket in the settings' spelling, `answered` is on the clock.
    """

    def __init__(self, listening: str, selector: selectors.BaseSelector, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self.answered = 0.0
        self._address: str | tuple[Any, ...]
        path = listening.removeprefix("unix:")
        self._family, self._address = resolve(listening) if path == listening else (socket.AF_UNIX, path)
        self._selector = selector
        self._socket: socket.socket | None = None
        self._began = 0.0
        self._offered = False
        self._received = b""
        self._is_logged = False

    def begin(self) -> None:
        """Ask, unless an earlier question may still be answered."""
        now = self._clock()
        if self._socket is not None:
            if now < self._began + CONNECT_WITHIN:
                return
            self._fail(f"no answer within {CONNECT_WITHIN:.0f} seconds")
        self._began, self._offered, self._received = now, False, b""
        self._socket = socket.socket(self._family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        self._selector.register(self._socket, selectors.EVENT_WRITE, self.step)
        try:
            self._socket.connect(self._address)
        except BlockingIOError:
            pass  # an error shows when the offer is sent
        except PermissionError:
            # The socket is for the MTA only, which is no fault. Then the answers of the workers must be enough.
            self._succeed()
        except OSError as error:
            self._fail(error.strerror or str(error))

    def step(self) -> None:
        """Take the next step, when the selector says that there is one."""
        if self._socket is None:
            return
        try:
            if self._offered:
                self._read_answer(self._socket)
            else:
                self._socket.send(_OFFER)
                self._offered = True
                self._selector.modify(self._socket, selectors.EVENT_READ, self.step)
        except OSError as error:
            self._fail(error.strerror or str(error))

    def close(self) -> None:
        """Close the connection, if there is one; also in a forked child."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _read_answer(self, one: socket.socket) -> None:
        piece = one.recv(64)
        self._received += piece
        if piece and len(self._received) < _HEAD:
            return
        if self._received[_HEAD - 1 : _HEAD] == b"O":
            one.send(_QUIT)
            self._succeed()
        else:
            self._fail("no answer to the offer")

    def _succeed(self) -> None:
        self.answered = self._clock()
        self._is_logged = False
        self._disconnect()

    def _fail(self, why: str) -> None:
        if not self._is_logged:
            _LOG.error(f"the milter socket does not answer: {why}; systemd gets no sign of life until it does")
            self._is_logged = True
        self._disconnect()

    def _disconnect(self) -> None:
        if self._socket is not None:
            self._selector.unregister(self._socket)
            self.close()
