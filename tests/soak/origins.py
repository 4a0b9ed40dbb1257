"""Requests to the admin API with random Host and Origin headers: only those that no browser was led to are answered.

Owns the requests, and knows of each whether it may be answered. Never asks what the answer says.
"""

import random
import socket
import time
from collections import Counter
from collections.abc import Callable

from msgspec import Struct

from tests.mta.places import free_port
from tests.mta.postfix import HOST
from tests.mta.processes import wait_until
from tests.wire.program import Program

_OWN_NAMES = ("127.0.0.1", "localhost", "[::1]", "LOCALHOST", "LocalHost")
_EVIL_NAMES = (
    *("evil.example", "127.0.0.1.evil.example", "localhost.evil.example", "evil.example.localhost", "xlocalhost", "localhostx"),
    *("127.0.0.2", "127.1", "0", "2130706433", "0x7f000001", "0177.0.0.1", "[::]", "[::ffff:127.0.0.1]", "::1", "[::1"),
    *("user@localhost", "localhost@evil.example", "localhost:80@evil.example", "localhost/evil.example", "localhost#x"),
    *("localhost,evil.example", "evil.example,localhost", "localhost evil.example", "", " ", ".", "localhost:port"),
    *("localhost:80:80", "localhost:-1", "127.0.0.1:8x", "ｌocalhost", "locaIhost", "localhost.", "%6cocalhost", "*"),
)
_ORIGINS = ("null", "http://localhost", "http://127.0.0.1", "https://evil.example", "", "file://", "http://[::1]", "localhost")
_PATHS = (
    "/v1/listener-domain?domain=x.example",
    "/metrics",
    "/healthz",
    "/readyz",
    "/openapi.json",
    "/",
    "/v1/explain",
    "/nowhere",
)
_METHODS = ("GET", "GET", "GET", "POST", "OPTIONS", "HEAD", "PUT", "DELETE")

_QUESTION = '{"peer": "203.0.113.9", "from": "", "to": ["x@relay.example"]}'

_FORBIDDEN = {400, 403}


class Request(Struct, frozen=True, kw_only=True):
    """One request as it is sent, and whether it may be answered."""

    text: str
    permitted: bool


class Asked(Struct, frozen=True, kw_only=True):
    """How many requests were sent, how many of those were permitted, and each that was answered otherwise."""

    requests: int
    permitted: int
    statuses: dict[int, int]
    wrong: list[str]


def attack(number: int, *, seed: int, seconds: float = 600) -> Asked:
    """Send so many requests to the admin API on a TCP port, or for `seconds`, and compare the status of each."""
    source = random.Random(f"{seed} origins")  # noqa: S311 - repeatable
    port = free_port()
    with Program(milter=f'workers = 1\n[admin]\nsocket = "inet:{HOST}:{port}"'):
        wait_until(lambda: _listens(port), "the admin API listens")
        statuses: Counter[int] = Counter()
        permitted, wrong = 0, list[str]()
        deadline = time.monotonic() + seconds
        while statuses.total() < number and time.monotonic() < deadline:
            request = _request(source)
            status = _ask(port, request.text)
            statuses[status] += 1
            permitted += request.permitted
            if (status in _FORBIDDEN) == request.permitted:
                wrong.append(f"{status}: {request.text!r}")
    return Asked(requests=statuses.total(), permitted=permitted, statuses=dict(statuses), wrong=wrong)


def _request(source: random.Random) -> Request:
    hosts, permitted = _hosts(source)
    lines = [f"{_any_case(source, 'Host')}:{source.choice((' ', '', '  '))}{host}" for host in hosts]
    if source.random() < 0.35:
        lines.append(f"{_any_case(source, 'Origin')}: {source.choice(_ORIGINS)}")
        permitted = False
    method, path = source.choice(_METHODS), source.choice(_PATHS)
    body = _QUESTION if (method, path) == ("POST", "/v1/explain") else ""
    lines += source.sample(
        ("Accept: */*", "X-Forwarded-Host: localhost", "Forwarded: host=localhost", "Referer: http://x"), k=2
    )
    source.shuffle(lines)
    head = "".join(
        f"{line}\r\n" for line in (f"{method} {path} HTTP/1.1", *lines, f"Content-Length: {len(body)}", "Connection: close")
    )
    return Request(text=f"{head}\r\n{body}", permitted=permitted)


def _hosts(source: random.Random) -> tuple[list[str], bool]:
    """Return the Host headers, and whether they are one that names us."""
    own = source.choice(_OWN_NAMES) + source.choice(("", "", ":80", ":8080", ":65535"))
    evil = source.choice(_EVIL_NAMES) if source.random() < 0.7 else _mutated(own, source)
    return source.choice((([own], True), ([own], True), ([evil], False), ([evil], False), ([], False), ([own, evil], False)))


def _mutated(name: str, source: random.Random) -> str:
    """Return the name with a letter that no port and no case explains."""
    place = source.randrange(1, len(name.partition(":")[0]) + 1) if name[0] != "[" else 1
    return name[:place] + source.choice("x-_.@/") + name[place:]


def _any_case(source: random.Random, name: str) -> str:
    change: Callable[[str], str] = source.choice((str, str.lower, str.upper, str.swapcase))
    return change(name)


def _ask(port: int, request: str) -> int:
    """Send a request; return the status of its answer."""
    with socket.create_connection((HOST, port), timeout=120) as connection:
        connection.sendall(request.encode())
        answer = b""
        while b" " not in answer or len(answer.split(b" ", 2)[1]) < 3:
            piece = connection.recv(4096)
            if not piece:
                raise ConnectionError(f"no answer to {request!r}")
            answer += piece
    return int(answer.split(b" ", 2)[1][:3])


def _listens(port: int) -> bool:
    try:
        return _ask(port, "GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n") == 200
    except OSError:
        return False
