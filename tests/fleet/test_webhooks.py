"""Webhooks: what an endpoint gets, and what happens when it fails."""

import hashlib
import hmac
import json
import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event, Thread
from typing import Any

import pytest
from msgspec import Struct
from msgspec.structs import replace

from sidecar.core.proof.secret import read_secret
from sidecar.core.settings.fleet import WebhookSettings
from sidecar.core.settings.keys import Secret
from sidecar.core.settings.settings import Settings
from sidecar.core.settings.values import JournalSettings
from sidecar.fleet.webhooks import deliver, ranges, signature
from sidecar.journal.read import Checkpoints, SegmentMark
from tests.building import settings
from tests.fleet.certificates import make
from tests.fleet.shipping import record, write
from tests.mta.places import free_port
from tests.mta.processes import wait_until

FIRST, SECOND = "20261130-120000.000001", "20261130-120000.000002"
KEY = "the-secret-of-the-tests-is-no-secret"


class Request(Struct):
    """A request that an endpoint got."""

    headers: dict[str, str]
    body: bytes

    @property
    def ids(self) -> list[int]:
        """The numbers of its records."""
        return [int(json.loads(line)["id"], 16) for line in self.body.splitlines()]


class QuietServer(ThreadingHTTPServer):
    """A server that logs nothing about a client that gave up: that is what some tests are about."""

    daemon_threads = True

    def handle_error(self, *_: Any) -> None:
        """Log nothing."""


class Endpoint:
    """An HTTP server. `answer` returns the status for a request, and can wait."""

    def __init__(self, answer: Callable[[Request], int] = lambda _: 200) -> None:
        self.answer, self.requests, self.accepted = answer, list[Request](), list[Request]()
        endpoint = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                request = Request(dict(self.headers.items()), self.rfile.read(int(self.headers["Content-Length"])))
                endpoint.requests.append(request)
                status = endpoint.answer(request)
                if status == 200:
                    endpoint.accepted.append(request)
                self.send_response(status)
                self.send_header("Content-Length", "0" if status != 299 else "200000")
                self.send_header("Location", "/elsewhere")
                self.end_headers()
                if status == 299:
                    self.wfile.write(b"x" * 200000)

            def log_message(self, *_: Any) -> None:
                """Log nothing."""

        self._handler = Handler
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}/in"

    @contextmanager
    def serving(self, tls: ssl.SSLContext | None) -> Iterator[None]:
        """Listen and answer."""
        with QuietServer(("127.0.0.1", self.port), self._handler) as server:
            if tls is not None:
                server.socket = tls.wrap_socket(server.socket, server_side=True)
            thread = Thread(target=server.serve_forever, args=(0.01,))
            thread.start()
            try:
                yield
            finally:
                server.shutdown()
                thread.join()

    @property
    def ids(self) -> list[int]:
        """The numbers of all records that it accepted, in order."""
        return [number for request in self.accepted for number in request.ids]


@contextmanager
def serving(*endpoints: Endpoint, tls: ssl.SSLContext | None = None) -> Iterator[None]:
    """Let endpoints listen within the context only: a test that fails leaves no socket."""
    with ExitStack() as stack:
        for one in endpoints:
            stack.enter_context(one.serving(tls))
        yield


def with_webhooks(folder: Path, *endpoints: Endpoint, **more: Any) -> Settings:
    """Return settings with webhooks w0, w1..., and everything in a folder."""
    (folder / "secret").write_text(KEY + "\n")
    hooks = tuple(
        WebhookSettings(name=f"w{number}", url=one.url, secret_file=folder / "secret", **more)
        for number, one in enumerate(endpoints)
    )
    return replace(settings(), state_directory=folder, journal=JournalSettings(directory=folder / "journal"), webhook=hooks)


@contextmanager
def delivering(made: Settings) -> Iterator[None]:
    end = Event()
    thread = Thread(target=deliver, args=(made, lambda seconds: end.wait(seconds) if seconds else end.is_set()))
    thread.start()
    try:
        yield
    finally:
        end.set()
        thread.join(30)
        assert not thread.is_alive()


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sidecar.fleet.webhooks._FIRST_RETRY", 0.02)
    monkeypatch.setattr("sidecar.fleet.webhooks._LAST_RETRY", 0.2)
    monkeypatch.setattr("sidecar.fleet.webhooks._LOOK_SECONDS", 0.02)


def mark(made: Settings, path: Path, name: str = "w0") -> SegmentMark | None:
    return Checkpoints(made.checkpoints_directory).load(f"webhook-{name}").segments.get(str(path))


def fault(made: Settings, name: str = "w0") -> str:
    known = Checkpoints(made.checkpoints_directory).all_known()
    return next((one.fault for one in known if one.name == f"webhook-{name}"), "")


def is_done(made: Settings, path: Path, name: str = "w0") -> bool:
    found = mark(made, path, name)
    return found is not None and found.done


def test_the_signature() -> None:
    """The test vector of the documents, and the same with other code."""
    secret = read_secret(b"0123456789abcdef0123456789abcdef\n")
    assert isinstance(secret, Secret)
    body = b'{"type":"OOB"}\n'
    found = signature(secret, body, 1_790_000_000)
    assert found == "t=1790000000,v1=10a24c70e8194fddfddfe9eaa75ad6060f080eda4f68560fc0223afd41a66112"
    assert found == "t=1790000000,v1=" + hmac.new(b"0123456789abcdef" * 2, b"1790000000." + body, hashlib.sha256).hexdigest()


@pytest.mark.parametrize(
    ("lines", "text"), [([1], "1"), ([1, 2, 3], "1-3"), ([1, 3, 4, 9], "1,3-4,9"), ([2, 4, 6], "2,4,6"), ([], "")]
)
def test_ranges(lines: list[int], text: str) -> None:
    assert ranges(lines) == text


def test_what_an_endpoint_gets(tmp_path: Path) -> None:
    """The lines as they were written, in batches of one segment, with a signature and their places."""
    endpoint = Endpoint()
    made = with_webhooks(tmp_path, endpoint, types=("Reception", "OOB"))
    kinds = ["Reception", "Rejection", "OOB", "OOB"]
    done = write(made, FIRST, [record(number, kind) for number, kind in enumerate(kinds, 1)], finished=True)
    live = write(made, SECOND, [record(5)])
    with serving(endpoint), delivering(made):
        wait_until(lambda: endpoint.ids == [1, 3, 4, 5], "all are delivered")
        write(made, SECOND, [record(6)])
        wait_until(lambda: endpoint.ids[4:] == [6], "also what was written later")
        wait_until(lambda: is_done(made, done), "the segment is done")
    assert mark(made, live) == SegmentMark(lines=2)
    first, second, _ = endpoint.requests
    lines = done.read_bytes().splitlines(keepends=True)
    assert first.body == lines[0] + lines[2] + lines[3]
    assert (first.headers["Sidecar-Segment"], first.headers["Sidecar-Lines"]) == (done.name, "1,3-4")
    assert (second.headers["Sidecar-Segment"], second.headers["Sidecar-Lines"]) == (live.name, "1")
    assert first.headers["Sidecar-Record-Version"] == "1"
    assert first.headers["Content-Type"] == "application/x-ndjson"
    moment, mac = (part.partition("=")[2] for part in first.headers["Sidecar-Signature"].split(","))
    assert abs(int(moment) - time.time()) < 120
    assert mac == hmac.new(KEY.encode(), f"{moment}.".encode() + first.body, "sha256").hexdigest()
    # Another process continues where this one ended.
    write(made, SECOND, [record(7)])
    with serving(endpoint := Endpoint()), delivering(with_webhooks(tmp_path, endpoint)):
        wait_until(lambda: endpoint.ids == [7], "only the new one")


def test_the_size_of_batches(tmp_path: Path) -> None:
    endpoint = Endpoint()
    made = with_webhooks(tmp_path, endpoint)
    path = write(made, FIRST, [record(number) for number in range(1200)] + [record(1200, text="x" * 600_000)], finished=True)
    with serving(endpoint), delivering(made):
        wait_until(lambda: is_done(made, path), "all are delivered")
    assert endpoint.ids == list(range(1201))
    assert [len(request.ids) for request in endpoint.requests] == [500, 500, 200, 1]


def test_an_endpoint_that_fails_holds_no_other_one(tmp_path: Path) -> None:
    """One answers 500, one redirects, one sends an endless answer, one never answers, one is not there."""
    hold = Event()
    bad = [
        Endpoint(lambda _: 500),
        Endpoint(lambda _: 307),
        Endpoint(lambda _: 299),
        Endpoint(lambda _: 500 * hold.wait(60)),
        Endpoint(),
    ]
    good = Endpoint()
    made = with_webhooks(tmp_path, *bad, good)
    path = write(made, FIRST, [record(number) for number in range(10)], finished=True)
    with serving(*bad[:4], good), delivering(made):
        wait_until(lambda: is_done(made, path, "w5"), "the good one has all")
        expected = [
            "it answers 500",
            "307, and redirects are not followed",
            "its answer has more than 65536 bytes",
            "",
            "onnect",
        ]
        for number, text in enumerate(expected):
            wait_until(lambda number=number, text=text: text in fault(made, f"w{number}"), text)  # type: ignore[misc]
            assert mark(made, path, f"w{number}") != SegmentMark(lines=10, done=True)
        for one in bad[:3]:
            one.answer = lambda _: 200
        hold.set()
        bad[3].answer = lambda _: 200
        for number in range(4):
            wait_until(lambda number=number: is_done(made, path, f"w{number}"), "it recovers")  # type: ignore[misc]
            assert bad[number].ids == list(range(10))
            wait_until(lambda number=number: fault(made, f"w{number}") == "", "the fault is over")  # type: ignore[misc]


def test_an_endpoint_that_is_slow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sidecar.fleet.webhooks._REQUEST_SECONDS", 0.3)
    hold = Event()
    endpoint = Endpoint(lambda _: 200 * hold.wait(60))
    made = with_webhooks(tmp_path, endpoint)
    write(made, FIRST, [record(1)])
    with serving(endpoint), delivering(made):
        wait_until(lambda: fault(made) == "no answer within 0 seconds", "it is given up")
        hold.set()
        wait_until(lambda: fault(made) == "", "it recovers")


def test_records_that_are_too_large(tmp_path: Path) -> None:
    """A batch is halved until it is accepted, a single record is kept, and sent again after the next start."""
    endpoint = Endpoint(lambda request: 413 if len(request.body) > 400 else 200)
    made = with_webhooks(tmp_path, endpoint)
    path = write(made, FIRST, [record(1), record(2, text="x" * 400), record(3), record(4)], finished=True)
    with serving(endpoint), delivering(made):
        wait_until(lambda: is_done(made, path), "the others are delivered")
        kept = list((tmp_path / "unshipped/webhook-w0").iterdir())
        assert [file.name for file in kept] == [f"{FIRST}.jsonl-2.record"]
        assert endpoint.ids == [1, 3, 4]
        wait_until(lambda: Checkpoints(made.checkpoints_directory).known("webhook-w0").kept == 1, "the status has it")
    endpoint.answer = lambda _: 200
    other = Endpoint()
    with serving(other), delivering(with_webhooks(tmp_path, other)):
        wait_until(lambda: other.ids == [2], "it is delivered")
        wait_until(lambda: not kept[0].exists(), "and kept no longer")


def test_tls(tmp_path: Path) -> None:
    """Only an endpoint with a certificate of a known authority gets anything."""
    ca, certificate, key = make(tmp_path)
    endpoint = Endpoint()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    endpoint.url = endpoint.url.replace("http:", "https:")
    made = with_webhooks(tmp_path, endpoint)
    write(made, FIRST, [record(1)])
    with serving(endpoint, tls=context):
        with delivering(made):
            wait_until(lambda: "its certificate is not valid" in fault(made), "the certificate is unknown")
        assert not endpoint.requests
        with delivering(with_webhooks(tmp_path, endpoint, tls_ca=ca)):
            wait_until(lambda: endpoint.ids == [1], "it is delivered")


def test_webhooks_that_are_removed(tmp_path: Path) -> None:
    """Retention does not wait for them."""
    endpoints = Endpoint(), Endpoint()
    made = with_webhooks(tmp_path, *endpoints)
    checkpoints = Checkpoints(made.checkpoints_directory)
    with serving(*endpoints):
        with delivering(made):
            wait_until(lambda: checkpoints.readers() == ("webhook-w0", "webhook-w1"), "both have a checkpoint")
        with delivering(replace(made, webhook=made.webhook[1:])):
            wait_until(lambda: checkpoints.readers() == ("webhook-w1",), "one is left")
