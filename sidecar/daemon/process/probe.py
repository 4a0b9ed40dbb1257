"""Our own socket asked as an MTA asks it: connect, offer, and an answer to the offer.

Owns that one connection, and never waits on it: the supervisor's selector says when it can go on.
"""

import selectors
import socket
import struct
import time
from collections.abc import Callable

from sidecar import log

# A worker answers within a millisecond; this long after, the connection is given up and another one tried.
ANSWER_WITHIN = 10.0

# The milter protocol: the length of what follows, a command's letter, its data. The offer is Postfix 3.7's: version 6, all
# actions, all steps, so that no worker finds shortcomings in us.
_OFFER = struct.pack("!IcIII", 13, b"O", 6, 0x1FF, 0x1FFFFF)
_QUIT = struct.pack("!Ic", 1, b"Q")
_HEAD = 5

_LOG = log.get("supervisor")


class Probe:
    """Asks the socket at `listening`, in the settings' spelling. `answered` is on the monotonic clock."""

    def __init__(self, listening: str, selector: selectors.BaseSelector, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self.answered = 0.0
        self._family, self._address = _address(listening)
        self._selector = selector
        self._socket: socket.socket | None = None
        self._began = 0.0
        self._offered = False
        self._heard = b""
        self._complained = False

    def begin(self) -> None:
        """Ask, unless an earlier question may still be answered."""
        now = self._clock()
        if self._socket is not None:
            if now < self._began + ANSWER_WITHIN:
                return
            self._fail(f"no answer within {ANSWER_WITHIN:.0f} seconds")
        self._began, self._offered, self._heard = now, False, b""
        self._socket = socket.socket(self._family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        self._selector.register(self._socket, selectors.EVENT_WRITE, self)
        try:
            self._socket.connect(self._address)
        except BlockingIOError:
            pass  # on its way; what came of it shows when the offer is sent
        except PermissionError:
            # The socket's rights are for the MTA and not for us: that is no fault, and then the workers' word must do.
            self._succeed()
        except OSError as error:
            self._fail(error.strerror or str(error))

    def go_on(self) -> None:
        """Take the next step; the selector says that there is one."""
        if self._socket is None:
            return
        try:
            if self._offered:
                self._listen(self._socket)
            else:
                self._socket.send(_OFFER)
                self._offered = True
                self._selector.modify(self._socket, selectors.EVENT_READ, self)
        except OSError as error:
            self._fail(error.strerror or str(error))

    def end(self) -> None:
        """Hang up, if there is a connection; also in a forked child."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _listen(self, one: socket.socket) -> None:
        piece = one.recv(64)
        self._heard += piece
        if piece and len(self._heard) < _HEAD:
            return
        if self._heard[_HEAD - 1 : _HEAD] == b"O":
            one.send(_QUIT)
            self._succeed()
        else:
            self._fail("no answer to the offer")

    def _succeed(self) -> None:
        self.answered = self._clock()
        self._complained = False
        self._hang_up()

    def _fail(self, why: str) -> None:
        if not self._complained:
            _LOG.error(f"the milter socket does not answer: {why}; systemd is told nothing until it does")
            self._complained = True
        self._hang_up()

    def _hang_up(self) -> None:
        if self._socket is not None:
            self._selector.unregister(self._socket)
            self.end()


def _address(listening: str) -> tuple[socket.AddressFamily, str | tuple[str, int]]:
    kind, _, where = listening.partition(":")
    if kind == "unix":
        return socket.AF_UNIX, where
    host, _, port = where.rpartition(":")
    # A socket on all addresses answers here too: to connect to 0.0.0.0 or :: is to connect to the loopback.
    family, _, _, _, address = socket.getaddrinfo(host.strip("[]"), int(port), type=socket.SOCK_STREAM)[0]
    return family, (str(address[0]), int(address[1]))
