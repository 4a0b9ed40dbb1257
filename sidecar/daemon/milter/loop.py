"""Serving the milter protocol from one thread: all connections of a worker in one loop, without libmilter.

Owns the connections. Never looks into a packet, and never waits for a disk.

libmilter reads each packet with five system calls, in a thread for each connection, and the threads take turns at the
interpreter. Here one system call reads all that an MTA has sent, often most of a message. Other threads do the work that
waits for the disk or takes long, and pass the rest back to the loop.
"""

import os
import select
import socket
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import TypeVar

from sidecar import log
from sidecar.daemon.milter.conversation import Conversation, Finish, Steps
from sidecar.daemon.milter.packets import MalformedError
from sidecar.daemon.sockets import SHORTAGES

# Most messages as a whole.
_READ_SIZE = 16 * 1024
# A connection with more packets after this time waits until all others had their turn: one read can bring 3,000 packets.
_TURN_SECONDS = 0.001
# Within a packet that is larger, which is a piece of a body: two of them.
_LARGE_READ_SIZE = 128 * 1024
_EVENTS = 64
# As libmilter's: an MTA that was cut off from the sidecar never ends its connections.
_IDLE_SECONDS = 7210.0
_SWEEP_SECONDS = 60.0
_LEAVE_SECONDS = 5.0
_RETRY_SECONDS = 0.1
# A shortage lasts, although each connection that ends interrupts it: it is logged once in this time.
_SHORTAGE_LOG_SECONDS = 60.0

_Argument = TypeVar("_Argument")

_LOG = log.get("milter")


class _Connection:
    """A socket with its conversation. It is `queued` while it has packets left for the next turn."""

    __slots__ = ("active_at", "conversation", "descriptor", "queued", "socket", "unsent", "watched")

    def __init__(self, one: socket.socket, now: float) -> None:
        self.socket = one
        self.descriptor = one.fileno()
        self.conversation: Conversation
        self.active_at = now
        self.queued = False
        self.watched = True
        self.unsent = b""

    @property
    def events(self) -> int:
        """The epoll mask: EPOLLOUT while output is pending (back-pressure), EPOLLIN otherwise."""
        return select.EPOLLOUT if self.unsent else select.EPOLLIN


class Loop:
    """Serves the socket that listens as `descriptor`; calls `ended` if the loop fails."""

    def __init__(self, descriptor: int, steps: Steps, ended: Callable[[], None]) -> None:
        # A copy of the descriptor, so that the loop can close it.
        self._listening = socket.socket(fileno=os.dup(descriptor))
        self._listening.settimeout(0.0)
        self._steps = steps
        self._ended = ended
        self._now = time.monotonic()
        self._connections: dict[int, _Connection] = {}
        self._tasks: deque[Callable[[], None]] = deque()
        self._woken = False
        self._queue: list[_Connection] = []
        self._buffer = bytearray(_LARGE_READ_SIZE)
        self._view = memoryview(self._buffer)
        self._left = threading.Event()
        self._accept_again: float | None = None
        self._log_shortage_at = 0.0
        self._sweep_at = self._now + _SWEEP_SECONDS
        self._epoll = select.epoll()
        self._wakeup = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._epoll.register(self._wakeup, select.EPOLLIN)
        self._start_accepting()

    def start(self) -> None:
        """Begin to accept connections, in a thread."""
        threading.Thread(target=self._run, name="milter", daemon=True).start()

    def leave(self) -> None:
        """Stop accepting; open connections stay open. On return no connection is accepted any more."""
        self._do_in_loop(self._leave)
        self._left.wait(_LEAVE_SECONDS)

    def open_connections(self) -> int:
        """Count the connections from MTAs."""
        return len(self._connections)

    def prove_alive(self, report: Callable[[], None]) -> None:
        """Let the loop itself call this: it does not if it hangs."""
        self._do_in_loop(report)

    def _do_in_loop(self, task: Callable[[], None]) -> None:
        self._tasks.append(task)
        # One wake-up for all tasks of a group commit. The loop resets this before it takes the tasks.
        if not self._woken:
            self._woken = True
            os.eventfd_write(self._wakeup, 1)

    # --- the loop

    def _run(self) -> None:
        try:
            while True:
                self._turn()
        except Exception as error:  # noqa: BLE001 - the process ends, and another worker takes its place
            _LOG.error("the milter's loop failed", exc_info=error)
        self._ended()

    def _turn(self) -> None:
        until = self._sweep_at if self._accept_again is None else self._accept_again
        queue, self._queue = self._queue, []
        events = self._epoll.poll(0.0 if queue else max(0.0, until - self._now), _EVENTS)
        self._now = time.monotonic()
        for descriptor, _ in events:
            connection = self._connections.get(descriptor)
            if connection is not None:
                self._serve(connection)
            elif descriptor == self._wakeup:
                self._run_tasks()
            elif not self._left.is_set():
                self._accept()
        for connection in queue:
            connection.queued = False
            self._converse(connection, connection.conversation.receive, b"")
        if self._accept_again is not None and self._now >= self._accept_again:
            self._start_accepting()
        if self._now >= self._sweep_at:
            self._sweep()

    def _run_tasks(self) -> None:
        os.eventfd_read(self._wakeup)
        self._woken = False
        while self._tasks:
            self._tasks.popleft()()

    def _leave(self) -> None:
        if not self._left.is_set():
            self._stop_accepting()
            self._listening.close()
            self._left.set()

    def _sweep(self) -> None:
        """End connections that were idle for too long."""
        self._sweep_at = self._now + _SWEEP_SECONDS
        for connection in list(self._connections.values()):
            is_busy = connection.conversation.waiting or connection.queued
            if not is_busy and self._now - connection.active_at > _IDLE_SECONDS:
                self._end(connection)

    # --- accepting

    def _start_accepting(self) -> None:
        self._accept_again = None
        if not self._left.is_set():
            # One worker wakes for a connection, not all of them (epoll_ctl(2)).
            self._epoll.register(self._listening, select.EPOLLIN | select.EPOLLEXCLUSIVE)

    def _stop_accepting(self) -> None:
        with suppress(OSError):  # not registered during a shortage
            self._epoll.unregister(self._listening)

    def _accept(self) -> None:
        try:
            one, _ = self._listening.accept()
        except OSError as error:
            if error.errno in SHORTAGES:
                self._accept_later(error)
            return  # or another worker was faster, or the MTA has closed it
        one.settimeout(0.0)
        connection = _Connection(one, self._now)
        connection.conversation = Conversation(self._steps, partial(self._resume_later, connection))
        self._connections[connection.descriptor] = connection
        if self._watch(connection):
            # An MTA speaks first, so there is probably something to read.
            self._serve(connection)

    def _accept_later(self, error: OSError) -> None:
        if self._now >= self._log_shortage_at:
            self._log_shortage_at = self._now + _SHORTAGE_LOG_SECONDS
            _LOG.error(f"cannot accept a connection: {error.strerror}; trying again until that is over")
        self._stop_accepting()
        self._accept_again = self._now + _RETRY_SECONDS

    # --- one connection

    def _watch(self, connection: _Connection) -> bool:
        """Register with epoll. Return False if that fails (epoll_ctl(2)), and the connection is ended."""
        try:
            self._epoll.register(connection.descriptor, connection.events)
        except OSError as error:
            _LOG.error(f"a connection is ended that cannot be watched: {error.strerror}")
            self._end(connection)
            return False
        connection.watched = True
        return True

    def _serve(self, connection: _Connection) -> None:
        """Send what could not be sent before, or read what arrived."""
        if connection.queued:
            return
        if connection.conversation.waiting:
            # All has to wait, even the end of the connection, which epoll would report again and again.
            self._epoll.unregister(connection.descriptor)
            connection.watched = False
            return
        if connection.unsent:
            if self._send(connection, b""):
                self._queue_or_end(connection)
            return
        try:
            is_large = connection.conversation.wanted > _READ_SIZE
            size = connection.socket.recv_into(self._buffer, _LARGE_READ_SIZE if is_large else _READ_SIZE)
        except BlockingIOError:
            return
        except OSError:
            size = 0
        if size:
            connection.active_at = self._now
            self._converse(connection, connection.conversation.receive, bytes(self._view[:size]))
        else:
            self._end(connection)

    def _resume_later(self, connection: _Connection, finish: Finish) -> None:
        self._do_in_loop(partial(self._resume, connection, finish))

    def _resume(self, connection: _Connection, finish: Finish) -> None:
        """Continue with a connection whose answer has waited."""
        if connection.watched or self._watch(connection):
            self._converse(connection, lambda finish: connection.conversation.resume(finish()), finish)

    def _converse(self, connection: _Connection, step: Callable[[_Argument], None], argument: _Argument) -> None:
        """Let the conversation take a step, and send its answers."""
        conversation = connection.conversation
        try:
            step(argument)
            if conversation.more and not conversation.waiting:
                _use_turn(conversation)
        except MalformedError as error:
            _LOG.warning(f"a connection is ended that does not speak the milter protocol as MTAs do: {error}")
            # The packets before it are answered.
            conversation.over = True
        except Exception as error:  # noqa: BLE001 - other connections continue
            _LOG.error("an unexpected fault; a connection is answered with a temporary failure, and ended", exc_info=error)
            conversation.fail()
        if conversation.output:
            output = b"".join(conversation.output)
            conversation.output.clear()
            if not self._send(connection, output):
                return
        if not conversation.waiting:
            self._queue_or_end(connection)

    def _send(self, connection: _Connection, output: bytes) -> bool:
        """Send what can be sent, and keep the rest. Return False if the MTA is gone, and the connection is ended."""
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
            self._epoll.modify(connection.descriptor, connection.events)
        return True

    def _queue_or_end(self, connection: _Connection) -> None:
        """Once all is sent, end the connection if it is over, or queue it for its next turn if it has more packets."""
        if connection.unsent:
            return
        if connection.conversation.over:
            self._end(connection)
        elif connection.conversation.more:
            connection.queued = True
            self._queue.append(connection)

    def _end(self, connection: _Connection) -> None:
        del self._connections[connection.descriptor]
        try:
            connection.conversation.close()
        except Exception as error:  # noqa: BLE001 - other connections continue
            _LOG.error("an unexpected fault at the end of a connection", exc_info=error)
        connection.socket.close()
        # Without this reference it is freed at once, and not by a collection of garbage.
        connection.conversation.resume_later = _ignore


def _ignore(_finish: Finish) -> None:
    """Do nothing: the connection has ended."""


def _use_turn(conversation: Conversation) -> None:
    """Let a conversation continue for the time of its turn."""
    until = time.monotonic() + _TURN_SECONDS
    while conversation.more and not (conversation.waiting or conversation.over) and time.monotonic() < until:
        conversation.receive(b"")
