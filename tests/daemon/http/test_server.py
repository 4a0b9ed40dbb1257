"""The HTTP server with real connections: framing, several requests on a connection, and the end."""

import asyncio
import json
import os
import resource
import socket
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path

import pytest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sidecar.daemon.http import Server, server
from tests.daemon.http.asking import app as application

Client = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer with method, path and body. `/early` does not read the body, `/fault` stops in its answer."""
    body = b""
    if scope["path"] != "/early":
        more = True
        while more:
            message = await receive()
            body += message.get("body", b"")
            more = message.get("more_body", False)
    content = json.dumps([scope["method"], scope["path"], scope["query_string"].decode(), body.decode()]).encode()
    headers = [] if scope["path"] == "/chunked" else [(b"content-length", b"%d" % len(content))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    if scope["path"] != "/fault":
        await send({"type": "http.response.body", "body": content})


def run(work: Callable[[Server, Callable[[], Awaitable[Client]]], Awaitable[None]], path: Path, app: ASGIApp = echo) -> None:
    """Run a server on a UNIX socket, and a function that gets the server and a way to connect."""

    async def both() -> None:
        made = Server(app)
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind(str(path / "s"))
            listening.listen()
            made.start(listening)
            writers: list[asyncio.StreamWriter] = []

            async def connect() -> Client:
                reader, writer = await asyncio.open_unix_connection(path / "s")
                writers.append(writer)
                return reader, writer

            async with asyncio.timeout(30):
                await work(made, connect)
                if not made.draining:
                    await made.drain(0)
                for writer in writers:
                    writer.close()
                    with suppress(ConnectionError):
                        await writer.wait_closed()

    asyncio.run(both())


async def answer(reader: asyncio.StreamReader) -> tuple[bytes, list[str] | None]:
    """Read the head of an answer, and its content if it has a length."""
    head = await reader.readuntil(b"\r\n\r\n")
    for line in head.lower().splitlines():
        if line.startswith(b"content-length:"):
            return head, json.loads(await reader.readexactly(int(line.split()[1])))
    return head, None


FOUND = ["GET", "/x", "a=b", ""]
ONE = b"GET /x?a=b HTTP/1.1\r\nHost: x\r\n\r\n"
POST = b"POST /y HTTP/1.1\r\nHost: x\r\n"


@pytest.mark.parametrize(
    ("sent", "answers"),
    [
        ([ONE], [FOUND]),
        ([ONE + ONE], [FOUND] * 2),
        ([ONE[:10], ONE[10:]], [FOUND]),
        ([ONE.replace(b"/x", b"HTTP://y:80/x")], [FOUND]),
        ([b"GET http://y?a=b HTTP/1.1\r\nHost: x\r\n\r\n"], [["GET", "/", "a=b", ""]]),
        ([b"GET /http://y/ HTTP/1.1\r\nHost: x\r\n\r\n"], [["GET", "/http://y/", "", ""]]),
        ([b"GET /%C3%A4%2F HTTP/1.1\r\nHost: x\r\n\r\n"], [["GET", "/\xe4/", "", ""]]),
        ([POST + b"Content-Length: 4\r\n\r\nab", b"cd" + ONE], [["POST", "/y", "", "abcd"], FOUND]),
        ([POST + b"Transfer-Encoding: chunked\r\n\r\n2\r\nab\r\n2\r\ncd\r\n0\r\n\r\n"], [["POST", "/y", "", "abcd"]]),
        ([POST.replace(b"/y", b"/early") + b"Content-Length: 4\r\n\r\nab", b"cd" + ONE], [["POST", "/early", "", ""], FOUND]),
        ([b"GET /x HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\n", ONE], [["GET", "/x", "", ""], FOUND]),
    ],
    ids=[
        *("one", "two at once", "in pieces", "absolute", "absolute without a path", "a path like one", "escapes"),
        *("body, then another", "chunks", "a body that is not read", "upgrade"),
    ],
)  # fmt: skip
def test_each_request_is_answered_in_its_order(sent: list[bytes], answers: list[list[str]], tmp_path: Path) -> None:
    async def work(_server: Server, connect: Callable[[], Awaitable[Client]]) -> None:
        reader, writer = await connect()
        for piece in sent:
            writer.write(piece)
            await writer.drain()
        for wanted in answers:
            head, content = await answer(reader)
            assert (head[:15], content) == (b"HTTP/1.1 200 \r\n", wanted)
            assert b"\r\ndate: " in head

    run(work, tmp_path)


@pytest.mark.parametrize(
    ("target", "host", "status"),
    [
        (b"http://127.0.0.1:8894/healthz", b"elsewhere.example", b"200"),
        (b"http://elsewhere.example/healthz", b"127.0.0.1:8894", b"403"),
        (b"http://x@127.0.0.1/healthz", b"127.0.0.1:8894", b"403"),
        (b"http:///healthz", b"127.0.0.1:8894", b"404"),
    ],
)
def test_the_host_of_an_absolute_target_counts(target: bytes, host: bytes, status: bytes, tmp_path: Path) -> None:
    """The Host header beside it does not (RFC 9112 section 3.2.2): no page can ask with a name that resolves to loopback."""

    async def work(_server: Server, connect: Callable[[], Awaitable[Client]]) -> None:
        reader, writer = await connect()
        writer.write(b"GET " + target + b" HTTP/1.1\r\nHost: " + host + b"\r\n\r\n")
        head, _ = await answer(reader)
        assert head.split()[1] == status

    run(work, tmp_path, application())


@pytest.mark.parametrize(
    ("sent", "end"),
    [
        (b"GET /x HTTP/1.0\r\n\r\n", b'["GET", "/x", "", ""]'),
        (b"GET /x HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", b'["GET", "/x", "", ""]'),
        (b"HEAD /x HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", b"Connection: close\r\n\r\n"),
        (b"GET /chunked HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", b'1b\r\n["GET", "/chunked", "", ""]\r\n0\r\n\r\n'),
        # The client may or may not send the body now: the next request could begin anywhere.
        (POST.replace(b"/y", b"/early") + b"Content-Length: 4\r\nExpect: 100-continue\r\n\r\n", b'["POST", "/early", "", ""]'),
        (b"GET /fault HTTP/1.1\r\nHost: x\r\n\r\n", b""),
        (POST + b"Transfer-Encoding: chunked\r\n\r\nnot a length\r\n", b'["POST", "/y", "", ""]'),
        (b"GET /x HTTP/1.1\r\n\r\n", b'its head is too big."}\n'),
        # Behind a proxy that goes by the length, the rest could be another client's request.
        (
            POST + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + ONE,
            b'it has both Content-Length and Transfer-Encoding."}\n',
        ),
    ],
    ids=["HTTP/1.0", "close", "HEAD", "no length", "no continue", "fault", "broken chunk", "no host", "two lengths"],
)
def test_the_connection_ends_after_the_answer(sent: bytes, end: bytes, tmp_path: Path) -> None:
    async def work(_server: Server, connect: Callable[[], Awaitable[Client]]) -> None:
        reader, writer = await connect()
        writer.write(sent)
        assert (await reader.read()).endswith(end)

    run(work, tmp_path)


def test_the_client_learns_that_it_may_send_its_body(tmp_path: Path) -> None:
    async def work(_server: Server, connect: Callable[[], Awaitable[Client]]) -> None:
        reader, writer = await connect()
        writer.write(POST + b"Content-Length: 4\r\nExpect: 100-continue\r\n\r\n")
        assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 \r\n\r\n"
        writer.write(b"abcd")
        assert (await answer(reader))[1] == ["POST", "/y", "", "abcd"]

    run(work, tmp_path)


def test_a_client_that_sends_more_than_is_read_after_100_continue_keeps_its_connection(tmp_path: Path) -> None:
    """Closed before the end of its body, the client could lose the answer."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await (receive() if scope["method"] == "POST" else asyncio.sleep(0))
        scope["path"] = "/early"
        await echo(scope, receive, send)

    async def work(_server: Server, connect: Callable[[], Awaitable[Client]]) -> None:
        reader, writer = await connect()
        writer.write(POST + b"Content-Length: 4\r\nExpect: 100-continue\r\n\r\n")
        assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 \r\n\r\n"
        writer.write(b"ab")
        assert (await answer(reader))[1] == ["POST", "/early", "", ""]
        writer.write(b"cd" + ONE)
        assert (await answer(reader))[1] == ["GET", "/early", "a=b", ""]

    run(work, tmp_path, app)


def test_a_body_in_tiny_chunks_does_not_stop_others(tmp_path: Path) -> None:
    number, pieces = 10_000, 0
    begun = asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        async def counted() -> Message:
            nonlocal pieces
            if scope["method"] == "POST":
                pieces += 1
                begun.set()
            return await receive()

        await echo(scope, counted, send)

    async def work(_server: Server, connect: Callable[[], Awaitable[Client]]) -> None:
        reader, writer = await connect()
        slow_reader, slow_writer = await connect()
        slow_writer.write(POST + b"Transfer-Encoding: chunked\r\n\r\n" + b"1\r\na\r\n" * number + b"0\r\n\r\n")
        await begun.wait()
        writer.write(ONE)
        assert (await answer(reader))[1] == FOUND
        assert pieces < number // 2
        assert (await answer(slow_reader))[1] == ["POST", "/y", "", "a" * number]

    run(work, tmp_path, app)


def test_requests_of_a_client_that_has_gone_are_not_answered(tmp_path: Path) -> None:
    asked, begun = 0, asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        nonlocal asked
        asked += 1
        begun.set()
        await echo(scope, receive, send)

    async def work(made: Server, _connect: Callable[[], Awaitable[Client]]) -> None:
        with socket.socket(socket.AF_UNIX) as client:
            client.setblocking(False)
            client.connect(str(tmp_path / "s"))
            client.send(ONE * 500)
        await begun.wait()
        await made.drain(20)
        assert asked == 1

    run(work, tmp_path, app)


def test_without_a_free_descriptor_the_connection_that_was_answered_longest_ago_is_closed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)

    async def one_too_many(path: str, oldest: asyncio.StreamReader) -> None:
        with socket.socket(socket.AF_UNIX) as late:
            late.setblocking(False)
            free = os.dup(late.fileno())
            os.close(free)
            resource.setrlimit(resource.RLIMIT_NOFILE, (free, hard))
            try:
                late.connect(path)
                late.send(ONE)
                assert await oldest.read() == b""
                assert (await asyncio.get_running_loop().sock_recv(late, 100)).startswith(b"HTTP/1.1 200 ")
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))

    async def work(_server: Server, connect: Callable[[], Awaitable[Client]]) -> None:
        for _ in range(2):
            reader, writer = await connect()
            writer.write(ONE)
            await answer(reader)
            await one_too_many(str(tmp_path / "s"), reader)

    run(work, tmp_path)
    assert capsys.readouterr().err.count("cannot accept a connection: Too many open files") == 1


def test_a_client_that_resets_its_connection_is_no_fault_of_the_application(tmp_path: Path) -> None:
    """Its body is incomplete, and each such client would fill the log."""
    begun, ended = asyncio.Event(), asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["method"] == "POST":
            begun.set()
        await echo(scope, receive, send)
        if scope["method"] == "POST":
            ended.set()

    async def work(_server: Server, _connect: Callable[[], Awaitable[Client]]) -> None:
        with socket.socket(socket.AF_UNIX) as client:
            client.setblocking(False)
            client.connect(str(tmp_path / "s"))
            client.send(ONE + POST + b"Content-Length: 4\r\n\r\n")
            await begun.wait()
        # Closed with an unread answer, it was reset.
        await ended.wait()

    run(work, tmp_path, app)


def test_one_connection_too_many_closes_the_one_that_was_answered_longest_ago(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(server, "CONNECTIONS_LIMIT", 3)

    async def work(_server: Server, connect: Callable[[], Awaitable[Client]]) -> None:
        clients = [await connect() for _ in range(3)]
        reader, writer = clients[0]
        writer.write(ONE)
        await answer(reader)
        clients.append(await connect())
        assert await clients[1][0].read() == b""
        for reader, writer in (clients[0], *clients[2:]):
            writer.write(ONE)
            assert (await answer(reader))[1] == FOUND

    run(work, tmp_path)


def test_at_the_end_each_connection_gets_one_more_answer(tmp_path: Path) -> None:
    """The answer has "Connection: close"."""

    async def work(made: Server, connect: Callable[[], Awaitable[Client]]) -> None:
        reader, writer = await connect()
        writer.write(ONE)
        await answer(reader)
        ended = asyncio.create_task(made.drain(20))
        await asyncio.sleep(0)
        writer.write(ONE)
        assert b"\r\nconnection: close\r\n" in (await answer(reader))[0].lower()
        await ended
        with pytest.raises(OSError, match="refused"):
            await connect()

    run(work, tmp_path)


@pytest.mark.parametrize("turns", range(2, 7))
def test_a_connection_that_was_just_accepted_is_answered(turns: int, tmp_path: Path) -> None:
    """The second turn of the loop accepts it. Before that, it is left to the next process."""

    async def work(made: Server, _connect: Callable[[], Awaitable[Client]]) -> None:
        with socket.socket(socket.AF_UNIX) as late:
            late.setblocking(False)
            late.connect(str(tmp_path / "s"))
            late.send(ONE)
            for _ in range(turns):
                await asyncio.sleep(0)
            await made.drain(20)
            assert late.recv(100).startswith(b"HTTP/1.1 200 ")

    run(work, tmp_path)


def test_the_end_waits_no_longer_than_its_grace(tmp_path: Path) -> None:
    async def work(made: Server, connect: Callable[[], Awaitable[Client]]) -> None:
        await connect()
        await made.drain(0.1)

    run(work, tmp_path)
