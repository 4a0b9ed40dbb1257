"""An endpoint that does what a sidecar never does: answers of any shape, slow ones, and none.

Owns the faults. What a right answer is, a real sidecar shows elsewhere.
"""

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

GOOD: dict[str, Any] = {
    "relay_to": True,
    "relay_from": [],
    "relay_from_authz": [],
    "log_oob": "Ignore",
    "log_arf": "LogThenDrop",
}
OURS = {"Sidecar-Revision": "0123456789ab"}


class Endpoint(ThreadingHTTPServer):
    """Answers with `status`, `headers` and `body`, whatever is asked; `mood` is how. `asked` has every question."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.status = 200
        self.headers = OURS
        self.body = json.dumps(GOOD).encode()
        self.mood = "well"
        self.asked: list[dict[str, str]] = []
        self.ended = threading.Event()

    @property
    def url(self) -> str:
        """Where it is."""
        return f"http://127.0.0.1:{self.server_address[1]}"

    def answer(self, value: Any) -> None:
        """Answer with this from now on."""
        self.body = value if isinstance(value, bytes) else json.dumps(value).encode()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Log nothing about clients that have gone away."""


class _Handler(BaseHTTPRequestHandler):
    server: Endpoint

    def do_GET(self) -> None:
        """Answer."""
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        query = parse_qs(urlsplit(self.path).query, keep_blank_values=True)
        self.server.asked.append({name: values[0] for name, values in query.items()})
        if self.server.mood == "silent":
            self.server.ended.wait(600)
            return
        if self.server.mood == "hangs up":
            with suppress(OSError):
                self.connection.shutdown(socket.SHUT_RDWR)
            return
        self.send_response(self.server.status)
        for name, value in self.server.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(self.server.body) + (self.server.mood == "breaks off")))
        self.end_headers()
        self._send()

    do_POST = do_GET  # noqa: N815 - as http.server has it

    def _send(self) -> None:
        if self.server.mood != "drips":
            self.wfile.write(self.server.body)
            return
        for byte in self.server.body:
            self.wfile.write(bytes([byte]))
            if self.server.ended.wait(2.0):
                return

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - as http.server has it
        """Log nothing."""


@contextmanager
def endpoint() -> Iterator[Endpoint]:
    """Serve until it is over."""
    with Endpoint() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.ended.set()
            server.shutdown()
            thread.join()
