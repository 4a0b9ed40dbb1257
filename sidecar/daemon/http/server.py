"""The HTTP server: h11 on asyncio streams, for an ASGI application.

Owns the connections, their number, and the time of each. Never knows what is asked.
"""

import asyncio
import re
from contextlib import suppress
from email.utils import formatdate
from socket import socket
from urllib.parse import unquote

import h11
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Scope

from sidecar import log
from sidecar.daemon.http.answers import error_answer
from sidecar.daemon.sockets import SHORTAGES, user_of

# Each takes a descriptor and some 20 kB. One more closes the connection that was answered longest ago, so clients that only
# connect do not keep others out.
CONNECTIONS_LIMIT = 200
# From the beginning, or from the previous answer, until the client has the next answer, however slowly it writes and reads.
# An explanation takes some seconds at most.
PATIENCE_SECONDS = 30.0
# The head of a request: an honest one has some hundred bytes.
_HEAD_LIMIT = 16 * 1024
_READ_SIZE = 64 * 1024
_RETRY_SECONDS = 0.1
# A shortage lasts, although each closed connection ends it for a moment: it is logged once in this time.
_SHORTAGE_LOG_SECONDS = 60.0
# A target in absolute form, as for a proxy: every server accepts it (RFC 9112 section 3.2.2).
_ABSOLUTE = re.compile(rb"https?://([^/?]+)(.*)", re.IGNORECASE)

_LOG = log.get("admin")


class Server:
    """Serves an application on a listening socket, from `start` to the end of `drain`."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app
        self.draining = False
        self._listening: socket
        self._log_shortage_at = 0.0
        # The one that was answered longest ago is the first.
        self._connections: dict[asyncio.Task[None], None] = {}

    def start(self, listening: socket) -> None:
        """Accept connections, in the running loop."""
        listening.settimeout(0.0)
        self._listening = listening
        asyncio.get_running_loop().add_reader(listening, self._accept)

    async def drain(self, grace: float) -> None:
        """Accept no more connections, and close each with its next answer, all others after `grace` seconds.

        A connection that seems idle can have a question on its way.
        """
        self.draining = True
        asyncio.get_running_loop().remove_reader(self._listening)
        self._listening.close()
        with suppress(TimeoutError):
            async with asyncio.timeout(grace):
                while self._connections:
                    await asyncio.wait(self._connections)
        if self._connections:
            for task in self._connections:
                task.cancel()
            await asyncio.wait(self._connections)

    def _accept(self) -> None:
        try:
            one, _ = self._listening.accept()
        except OSError as error:
            if error.errno in SHORTAGES:
                self._accept_later(error)
            return  # or another process was faster, or the client has gone
        one.settimeout(0.0)
        task = asyncio.create_task(self._converse(one))
        self._connections[task] = None

        def end(task: asyncio.Task[None]) -> None:
            self._connections.pop(task, None)
            one.close()  # a task that is cancelled before its first step closes nothing

        task.add_done_callback(end)
        if len(self._connections) > CONNECTIONS_LIMIT:
            self._close_oldest()

    def _accept_later(self, error: OSError) -> None:
        """Make space for the connection that waits, and accept it in a moment."""
        loop = asyncio.get_running_loop()
        if loop.time() >= self._log_shortage_at:
            self._log_shortage_at = loop.time() + _SHORTAGE_LOG_SECONDS
            _LOG.error(f"cannot accept a connection: {error.strerror}; closing the one that was answered longest ago")
        self._close_oldest()
        loop.remove_reader(self._listening)
        loop.call_later(_RETRY_SECONDS, self._accept_again)

    def _accept_again(self) -> None:
        if not self.draining:
            asyncio.get_running_loop().add_reader(self._listening, self._accept)

    def _close_oldest(self) -> None:
        if self._connections:
            oldest = next(iter(self._connections))
            del self._connections[oldest]
            oldest.cancel()

    async def _converse(self, one: socket) -> None:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - a coroutine runs in a task
        reader, writer = await asyncio.open_connection(sock=one, limit=_READ_SIZE)
        connection = _HttpConnection(self, reader, writer, user_of(one))
        try:
            async with asyncio.timeout(PATIENCE_SECONDS) as patience:
                while await connection.answer_next():
                    patience.reschedule(asyncio.get_running_loop().time() + PATIENCE_SECONDS)
                    self._connections[task] = self._connections.pop(task)
                    # A client that sends many requests in advance must not stop all others.
                    await asyncio.sleep(0)
        except (TimeoutError, OSError, h11.RemoteProtocolError):
            pass  # the client is too slow, or has gone
        finally:
            writer.transport.abort()


class _HttpConnection:
    def __init__(self, server: Server, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, uid: int | None) -> None:
        self._server = server
        self._reader = reader
        self._writer = writer
        self._uid = uid
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=_HEAD_LIMIT)
        self._method = b""
        self._head = b""
        self._is_lost = False
        # The client sends its body only after "100 Continue", and has not got that.
        self._is_waited_for = False
        # So that `drain` waits until the system has the complete answer.
        writer.transport.set_write_buffer_limits(0)

    async def answer_next(self) -> bool:
        """Answer a request. Return False after the last one."""
        try:
            request = await self._next_event()
        except h11.RemoteProtocolError:
            return await self._reject("it is not HTTP/1.1, or its head is too big")
        if not isinstance(request, h11.Request):
            return False
        if {b"content-length", b"transfer-encoding"} <= {name for name, _ in request.headers}:
            # A proxy in front may have read another end of this request (RFC 9112 section 6.1).
            return await self._reject("it has both Content-Length and Transfer-Encoding")
        self._method = request.method
        self._is_waited_for = self._http.they_are_waiting_for_100_continue
        await self._server.app(_scope(request, self._uid), self._receive, self._send)
        # Closed before the end of its body, a client could lose the answer.
        while self._http.their_state is h11.SEND_BODY and not self._is_waited_for:
            await self._next_event()
        if self._is_lost or not self._http.our_state is self._http.their_state is h11.DONE:
            return False
        self._http.start_next_cycle()
        return True

    async def _reject(self, why: str) -> bool:
        self._method = b""
        error = error_answer(HTTPException(400, f"Invalid HTTP request received: {why}."))
        await error({"type": "http"}, self._receive, self._send)
        return False

    async def _next_event(self) -> h11.Event | type[h11.NEED_DATA] | type[h11.PAUSED]:
        while (event := self._http.next_event()) is h11.NEED_DATA:
            self._http.receive_data(await self._reader.read(_READ_SIZE))
        # A chunk can have one byte: without this, a client with thousands of them in one piece stops all others.
        await asyncio.sleep(0)
        return event

    async def _receive(self) -> Message:
        if self._http.they_are_waiting_for_100_continue:
            self._is_waited_for = False
            self._writer.write(self._http.send(h11.InformationalResponse(status_code=100, headers=[])) or b"")
        with suppress(h11.RemoteProtocolError, ConnectionError):
            event = await self._next_event()
            if isinstance(event, h11.Data):
                return {"type": "http.request", "body": bytes(event.data), "more_body": True}
            if isinstance(event, h11.EndOfMessage):
                return {"type": "http.request", "body": b"", "more_body": False}
            if event is h11.PAUSED:
                await self._writer.wait_closed()
        return {"type": "http.disconnect"}

    async def _send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = [(b"date", formatdate(usegmt=True).encode()), *message["headers"]]
            if self._server.draining:
                headers.append((b"connection", b"close"))
            self._head = self._http.send(h11.Response(status_code=message["status"], headers=headers)) or b""
            return
        body = b"" if self._method == b"HEAD" else message.get("body", b"")
        data = self._head + (self._http.send(h11.Data(data=body)) or b"")
        self._head = b""
        if not message.get("more_body", False):
            data += self._http.send(h11.EndOfMessage()) or b""
        try:
            self._writer.write(data)
            await self._writer.drain()
        except ConnectionError:
            self._is_lost = True  # what else it has asked in advance is not answered


def _scope(request: h11.Request, uid: int | None) -> Scope:
    target, headers = request.target, list(request.headers)
    if absolute := _ABSOLUTE.fullmatch(target):
        # Its host counts, and the Host header does not.
        target = absolute[2]
        headers = [(b"host", absolute[1]), *((name, value) for name, value in headers if name != b"host")]
    path, _, query = target.partition(b"?")
    path = path or b"/"
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": request.http_version.decode("ascii"),
        "method": request.method.decode("ascii"),
        "scheme": "http",
        "path": unquote(path.decode("ascii")),
        "raw_path": path,
        "query_string": query,
        "root_path": "",
        "headers": headers,
        "server": None,
        "client": None,
        "state": {"uid": uid},
    }
