"""An MTA on loopback with the answers of a test, which keeps all commands.

Owns one connection at a time. Never takes mail anywhere.
"""

import socket
import threading
from collections.abc import Mapping
from contextlib import suppress
from types import TracebackType
from typing import Self

ANSWERS: Mapping[str, bytes] = {
    "": b"220 mx.example ESMTP\r\n",
    "EHLO": b"250-mx.example\r\n250-8BITMIME\r\n250-SMTPUTF8\r\n250 XCLIENT ADDR PORT NAME\r\n",
    "XCLIENT": b"220 mx.example ESMTP\r\n",
    "MAIL": b"250 2.1.0 Ok\r\n",
    "RCPT": b"250 2.1.5 Ok\r\n",
    "DATA": b"354 go ahead\r\n",
    ".": b"250 2.0.0 Ok: queued as 4dSim\r\n",
    "QUIT": b"221 2.0.0 Bye\r\n",
}


class FakeMta:
    """A context manager: it answers each verb, or one line, with `answers`; after an empty answer the connection stays open.

    The greeting answers the verb `""`, and the end of a message `"."`. `heard` is all lines but those of messages, `content`
    what came of these, with CRLF.
    """

    def __init__(self, **answers: bytes) -> None:
        named = {"greeting": "", "end": "."}
        self._answers = dict(ANSWERS) | {named.get(verb, verb.upper()): answer for verb, answer in answers.items()}
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._server.getsockname()[1]
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._open: list[socket.socket] = []
        self.heard: list[str] = []
        self.content: list[bytes] = []

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._close(self._server)
        # The thread may have accepted one more meanwhile.
        while self._thread.is_alive() or self._open:
            while self._open:
                self._close(self._open.pop())
            self._thread.join(timeout=0.05)

    @staticmethod
    def _close(one: socket.socket) -> None:
        """Wake the thread out of accept and recv."""
        if one.fileno() >= 0:
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._server.accept()
            except OSError:
                return
            self._open.append(connection)
            try:
                self._talk(connection)
            except OSError:
                continue

    def _talk(self, connection: socket.socket) -> None:
        connection.sendall(self._answers[""])
        with connection.makefile("rb") as lines:
            while line := lines.readline():
                verb, _, rest = line.decode().rstrip("\r\n").partition(" ")
                verb = verb.upper()
                self.heard.append(f"{verb} {rest}".rstrip())
                connection.sendall(self._answers.get(self.heard[-1].upper(), self._answers.get(verb, b"250 Ok\r\n")))
                if verb == "QUIT":
                    connection.close()
                    return
                if verb == "DATA" and self._answers[verb].startswith(b"354"):
                    content = b""
                    while (more := lines.readline()) != b".\r\n" and more:
                        content += more
                    self.content.append(content)
                    connection.sendall(self._answers["."])
