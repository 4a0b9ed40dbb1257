"""A server of logins for Postfix's AUTH: Dovecot's authentication protocol, as much of it as AUTH PLAIN needs.

Owns the accounts: any name, whose password is `PASSWORD`. Never knows what a login permits.
"""

import base64
import binascii
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from tests.mta.postfix import HOST

PASSWORD = "secret"  # noqa: S105 - of accounts that exist in a test only

_GREETING = b"VERSION\t1\t1\nMECH\tPLAIN\tplaintext\nSPID\t1\nCUID\t1\nCOOKIE\t00\nDONE\n"


class _Handler(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        self.wfile.write(_GREETING)
        for line in self.rfile:
            command, *words = line.rstrip(b"\n").split(b"\t")
            if command == b"AUTH":
                name, password = _response(words)
                verdict = b"OK" if name and password == PASSWORD.encode() else b"FAIL"
                self.wfile.write(b"%b\t%b\tuser=%b\n" % (verdict, words[0], name))


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True


def _response(words: list[bytes]) -> tuple[bytes, bytes]:
    """Return name and password of a PLAIN response (RFC 4616); empty where it has none."""
    encoded = next((word.removeprefix(b"resp=") for word in words if word.startswith(b"resp=")), b"")
    try:
        _, name, password = base64.b64decode(encoded).split(b"\0")
    except (ValueError, binascii.Error):
        return b"", b""
    return name, password


@contextmanager
def logins() -> Iterator[dict[str, str]]:
    """Serve logins within the context; yield the settings by which Postfix asks for them."""
    with _Server((HOST, 0), _Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield {
                "smtpd_sasl_auth_enable": "yes",
                "smtpd_sasl_type": "dovecot",
                "smtpd_sasl_path": f"inet:{HOST}:{server.server_address[1]}",
                "smtpd_sasl_security_options": "noanonymous",
            }
        finally:
            server.shutdown()


def plain(name: str, password: str = PASSWORD) -> str:
    """Return the initial response of AUTH PLAIN."""
    return base64.b64encode(f"\0{name}\0{password}".encode()).decode()
