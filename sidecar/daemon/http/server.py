"""The HTTP server: h11 on asyncio streams, for an ASGI application.

Owns the connections, their number, and the time of each. Never knows what is asked.
"""

import asyncio
from contextlib import suppress
from email.utils import formatdate
from socket import socket
from urllib.parse import unquote

import h11
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Scope

from sidecar.daemon.http.answers import error_answer

# Each takes a descriptor and some 20 kB. One more closes the connection that was answered longest ago, so clients that only
# connect do not keep others out.
CONNECTIONS_LIMIT = 200
# From the beginning, or from the previous answer, until the client has the next answer, however slowly it writes and reads.
# An explanation takes some seconds at most.
PATIENCE_SECONDS = 30.0
# The head of a request: an honest one has some hundred bytes.
_HEAD_LIMIT = 16 * 1024
_READ_SIZE = 64 * 1024
# An accepted connection becomes a task after four turns of the event loop.
_TURNS = 10


class Server:
    """Serves an application on a listening socket, from `start` to the end of `drain`."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app
        self.draining = False
        # The one that was answered longest ago is the first.
        self._connections: dict[asyncio.Task[None], asyncio.StreamWriter] = {}

    async def start(self, listening: socket) -> None:
        """Accept connections."""
        self._acceptor = await asyncio.start_server(self._converse, sock=listening, limit=_READ_SIZE)

    async def drain(self, grace: float) -> None:
        """Accept no more connections, and close each with its next answer, all others after `grace` seconds.

        A connection that seems idle can have a question on its way.
        """
        self.draining = True
        # To close the acceptor at once would close connections that it has accepted in this moment.
        asyncio.get_running_loop().remove_reader(self._acceptor.sockets[0])
        for _ in range(_TURNS):
            await asyncio.sleep(0)
        self._acceptor.close()
        with suppress(TimeoutError):
            async with asyncio.timeout(grace):
                while self._connections:
                    await asyncio.wait(self._connections)
        if self._connections:
            for task in self._connections:
                task.cancel()
            await asyncio.wait(self._connections)

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - a coroutine runs in a task
        self._connections[task] = writer
        if len(self._connections) > CONNECTIONS_LIMIT:
            self._connections.pop(next(iter(self._connections))).transport.abort()
        connection = _HttpConnection(self, reader, writer)
        try:
            async with asyncio.timeout(PATIENCE_SECONDS) as patience:
                while await connection.answer_next():
                    patience.reschedule(asyncio.get_running_loop().time() + PATIENCE_SECONDS)
                    if self._connections.pop(task, None) is not None:
                        self._connections[task] = writer
                    # A client that sends many requests in advance must not stop all others.
                    await asyncio.sleep(0)
        except (TimeoutError, OSError, h11.RemoteProtocolError):
            pass  # the client is too slow, or has gone
        finally:
            self._connections.pop(task, None)
            writer.transport.abort()


class _HttpConnection:
    def __init__(self, server: Server, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._server = server
        self._reader = reader
        self._writer = writer
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=_HEAD_LIMIT)
        self._method = b""
        self._head = b""
        # So that `drain` waits until the system has the complete answer.
        writer.transport.set_write_buffer_limits(0)

    async def answer_next(self) -> bool:
        """Answer a request. Return False after the last one."""
        try:
            request = await self._next_event()
        except h11.RemoteProtocolError:
            self._method = b""
            sentence = "Invalid HTTP request received: it is not HTTP/1.1, or its head is too big."
            await error_answer(HTTPException(400, sentence))({"type": "http"}, self._receive, self._send)
            return False
        if not isinstance(request, h11.Request):
            return False
        self._method = request.method
        waits = self._http.they_are_waiting_for_100_continue
        await self._server.app(_scope(request), self._receive, self._send)
        # Closed before the end of its body, a client could lose the answer. One that waits for "100 Continue" sends none.
        while self._http.their_state is h11.SEND_BODY and not waits:
            await self._next_event()
        if not self._http.our_state is self._http.their_state is h11.DONE:
            return False
        self._http.start_next_cycle()
        return True

    async def _next_event(self) -> h11.Event | type[h11.NEED_DATA] | type[h11.PAUSED]:
        while (event := self._http.next_event()) is h11.NEED_DATA:
            self._http.receive_data(await self._reader.read(_READ_SIZE))
        return event

    async def _receive(self) -> Message:
        if self._http.they_are_waiting_for_100_continue:
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
        with suppress(ConnectionError):
            self._writer.write(data)
            await self._writer.drain()


def _scope(request: h11.Request) -> Scope:
    path, _, query = request.target.partition(b"?")
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
        "headers": list(request.headers),
        "server": None,
        "client": None,
    }
