"""Serving the milter protocol from one thread: all connections of a worker in one loop, without libmilter.

Owns the connections, and the threads that wait for the disk. Never looks into a packet.

libmilter reads each packet with five system calls, in a thread for each connection, and the threads take turns at the
interpreter. Here one system call brings all that an MTA has sent, often most of a message, and only the end of a message, which
may wait for the disk, is left to another thread.
"""

import errno
import os
import select
import socket
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from queue import SimpleQueue
from typing import NoReturn, TypeVar

from sidecar import log
from sidecar.daemon.milter.conversation import Call, Conversation, Steps
from sidecar.daemon.milter.packets import MalformedError

# Ends of messages that wait for the disk at once; one more waits for its turn. The journal syncs in one go what was written
# while it was busy, so that even a disk that takes 10 ms lets a worker answer a thousand reports a second.
_THREADS = 16
# Most messages as a whole.
_READ_SIZE = 16 * 1024
# A connection that has more to say after this time waits until all others had their turn: one read may bring 3,000 packets.
_TURN_SECONDS = 0.001
# Within a packet that is larger, which is a piece of a body: two of them.
_LARGE_READ_SIZE = 128 * 1024
_EVENTS = 64
# As libmilter's: an MTA that was cut off from us never ends its connections.
_PATIENCE_SECONDS = 7210.0
_SWEEP_SECONDS = 60.0
_LEAVE_SECONDS = 5.0
# The system has no descriptor, or no memory, for one more connection: it waits until there is.
_SHORTAGES = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
_RETRY_SECONDS = 0.1

_Said = TypeVar("_Said")

_LOG = log.get("milter")


class _Connection:
    """A socket with its conversation.

    It is `busy` while the end of a message is with another thread, and `waiting` while it has packets left for the next turn.
    """

    __slots__ = ("busy", "conversation", "descriptor", "heard", "socket", "unsent", "waiting", "watched")

    def __init__(self, one: socket.socket, steps: Steps, now: float) -> None:
        self.socket = one
        self.descriptor = one.fileno()
        self.conversation = Conversation(steps)
        self.heard = now
        self.busy = False
        self.waiting = False
        self.watched = True
        self.unsent = b""

    @property
    def awaited(self) -> int:
        """What is to be heard of: until all is sent nothing more is read, so that there is never much of it."""
        return select.EPOLLOUT if self.unsent else select.EPOLLIN


class Loop:
    """Serves the socket that listens as `descriptor`; `ended` is called if that comes to an end, which it never should."""

    def __init__(self, descriptor: int, steps: Steps, ended: Callable[[], None]) -> None:
        # A descriptor of its own, which it can close.
        self._listening = socket.socket(fileno=os.dup(descriptor))
        self._listening.settimeout(0.0)
        self._steps = steps
        self._ended = ended
        self._now = time.monotonic()
        self._connections: dict[int, _Connection] = {}
        self._calls: SimpleQueue[tuple[_Connection, Call]] = SimpleQueue()
        self._to_do: deque[Callable[[], None]] = deque()
        self._waiting: list[_Connection] = []
        self._buffer = bytearray(_LARGE_READ_SIZE)
        self._view = memoryview(self._buffer)
        self._left = threading.Event()
        self._accept_again: float | None = None
        self._short = False
        self._sweep_at = self._now + _SWEEP_SECONDS
        self._epoll = select.epoll()
        self._bell = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._epoll.register(self._bell, select.EPOLLIN)
        self._accept_from_now()

    def start(self) -> None:
        """Begin to accept connections, in threads of its own."""
        for _ in range(_THREADS):
            threading.Thread(target=self._make_calls, name="end of message", daemon=True).start()
        threading.Thread(target=self._run, name="milter", daemon=True).start()

    def leave(self) -> None:
        """Stop accepting; connections that are open stay open. On return none is accepted any more."""
        self._do_in_loop(self._leave)
        self._left.wait(_LEAVE_SECONDS)

    def open_connections(self) -> int:
        """Count the connections from MTAs."""
        return len(self._connections)

    def prove_alive(self, say: Callable[[], None]) -> None:
        """Have this called by the loop itself, so that it is not if that hangs."""
        self._do_in_loop(say)

    def _do_in_loop(self, do: Callable[[], None]) -> None:
        self._to_do.append(do)
        os.eventfd_write(self._bell, 1)

    # --- the threads that wait

    def _make_calls(self) -> None:
        while True:
            connection, call = self._calls.get()
            self._do_in_loop(partial(self._resume, connection, _made(call)))

    # --- the loop

    def _run(self) -> None:
        try:
            while True:
                self._turn()
        except Exception as error:  # noqa: BLE001 - nobody else is there to tell of it
            _LOG.error("the milter's loop failed", exc_info=error)
        self._ended()

    def _turn(self) -> None:
        until = self._sweep_at if self._accept_again is None else self._accept_again
        waiting, self._waiting = self._waiting, []
        events = self._epoll.poll(0.0 if waiting else max(0.0, until - self._now), _EVENTS)
        self._now = time.monotonic()
        for descriptor, _ in events:
            connection = self._connections.get(descriptor)
            if connection is not None:
                self._attend(connection)
            elif descriptor == self._bell:
                self._hear_bell()
            elif not self._left.is_set():
                self._accept()
        for connection in waiting:
            connection.waiting = False
            self._talk(connection, connection.conversation.receive, b"")
        if self._accept_again is not None and self._now >= self._accept_again:
            self._accept_from_now()
        if self._now >= self._sweep_at:
            self._sweep()

    def _hear_bell(self) -> None:
        os.eventfd_read(self._bell)
        while self._to_do:
            self._to_do.popleft()()

    def _leave(self) -> None:
        if not self._left.is_set():
            self._accept_no_more()
            self._listening.close()
            self._left.set()

    def _sweep(self) -> None:
        """End what has been silent for too long."""
        self._sweep_at = self._now + _SWEEP_SECONDS
        for connection in list(self._connections.values()):
            if not connection.busy and not connection.waiting and self._now - connection.heard > _PATIENCE_SECONDS:
                self._end(connection)

    # --- accepting

    def _accept_from_now(self) -> None:
        self._accept_again = None
        if not self._left.is_set():
            # One worker wakes for a connection, not all of them (epoll_ctl(2)).
            self._epoll.register(self._listening, select.EPOLLIN | select.EPOLLEXCLUSIVE)

    def _accept_no_more(self) -> None:
        with suppress(OSError):  # where it waits for better times already
            self._epoll.unregister(self._listening)

    def _accept(self) -> None:
        try:
            one, _ = self._listening.accept()
        except OSError as error:
            if error.errno in _SHORTAGES:
                self._wait_to_accept(error)
            return  # or somebody else was faster, or the MTA has given up by now
        self._short = False
        one.settimeout(0.0)
        connection = _Connection(one, self._steps, self._now)
        self._connections[connection.descriptor] = connection
        if self._watch(connection):
            # An MTA speaks first, so most likely there is something by now.
            self._attend(connection)

    def _wait_to_accept(self, error: OSError) -> None:
        if not self._short:  # a shortage may last, and is told of once
            _LOG.error(f"cannot accept a connection: {error.strerror}; trying again until that is over")
        self._short = True
        self._accept_no_more()
        self._accept_again = self._now + _RETRY_SECONDS

    # --- one connection

    def _watch(self, connection: _Connection) -> bool:
        """Hear of what comes. False: the system has no room for that (epoll_ctl(2)), and the connection is ended."""
        try:
            self._epoll.register(connection.descriptor, connection.awaited)
        except OSError as error:
            _LOG.error(f"a connection is ended that cannot be watched: {error.strerror}")
            self._end(connection)
            return False
        connection.watched = True
        return True

    def _attend(self, connection: _Connection) -> None:
        """Do what can be done now: send what could not be sent before, or take what came."""
        if connection.waiting:
            return
        if connection.busy:
            # All has to wait, even the end of the connection, of which the system would tell again and again.
            self._epoll.unregister(connection.descriptor)
            connection.watched = False
            return
        if connection.unsent:
            if self._send(connection, b""):
                self._wait_or_end(connection)
            return
        try:
            is_large = connection.conversation.wanted > _READ_SIZE
            size = connection.socket.recv_into(self._buffer, _LARGE_READ_SIZE if is_large else _READ_SIZE)
        except BlockingIOError:
            return
        except OSError:
            size = 0
        if size:
            connection.heard = self._now
            self._talk(connection, connection.conversation.receive, bytes(self._view[:size]))
        else:
            self._end(connection)

    def _resume(self, connection: _Connection, made: Call) -> None:
        """Go on with a connection that another thread has been busy with."""
        connection.busy = False
        if connection.watched or self._watch(connection):
            self._talk(connection, lambda made: connection.conversation.resume(made()), made)

    def _talk(self, connection: _Connection, hear: Callable[[_Said], Call | None], said: _Said) -> None:
        """Let the conversation go on, and send its answers."""
        conversation = connection.conversation
        try:
            call = hear(said)
            if conversation.more and call is None:
                call = _go_on(conversation)
        except MalformedError as error:
            _LOG.warning(f"a connection is ended that does not speak the milter protocol as MTAs do: {error}")
            self._end(connection)
            return
        except Exception as error:  # noqa: BLE001 - one connection's trouble is not the others'
            _LOG.error("an unexpected fault; a connection is answered with a temporary failure, and ended", exc_info=error)
            conversation.fail()
            call = None
        if conversation.output:
            output = b"".join(conversation.output)
            conversation.output.clear()
            if not self._send(connection, output):
                return
        if call is not None:
            connection.busy = True
            self._calls.put((connection, call))
        else:
            self._wait_or_end(connection)

    def _send(self, connection: _Connection, output: bytes) -> bool:
        """Send what can be sent, and see that the rest will be. False: the MTA is gone, and the connection ended."""
        before = connection.unsent
        output = before + output
        try:
            sent = connection.socket.send(output)
        except BlockingIOError:
            sent = 0
        except OSError:
            self._end(connection)
            return False
        connection.unsent = output[sent:]
        if bool(before) != bool(connection.unsent):
            self._epoll.modify(connection.descriptor, connection.awaited)
        return True

    def _wait_or_end(self, connection: _Connection) -> None:
        """Once all is sent, end the connection if it is over, or let it wait for its next turn if it has more to say."""
        if connection.unsent:
            return
        if connection.conversation.over:
            self._end(connection)
        elif connection.conversation.more:
            connection.waiting = True
            self._waiting.append(connection)

    def _end(self, connection: _Connection) -> None:
        del self._connections[connection.descriptor]
        try:
            connection.conversation.close()
        except Exception as error:  # noqa: BLE001 - it is over; the others are not
            _LOG.error("an unexpected fault at the end of a connection", exc_info=error)
        connection.socket.close()


def _go_on(conversation: Conversation) -> Call | None:
    """Let a conversation go on for the time of its turn."""
    until = time.monotonic() + _TURN_SECONDS
    call = None
    while conversation.more and call is None and not conversation.over and time.monotonic() < until:
        call = conversation.receive(b"")
    return call


def _made(call: Call) -> Call:
    """Make a call; what this gives has its code, or raises what it raised, in the thread that asks."""
    try:
        code = call()
    except Exception as error:  # noqa: BLE001 - raised again, where it ends the connection; here it would end the thread
        return partial(_raise, error)
    return lambda: code


def _raise(error: Exception) -> NoReturn:
    raise error
