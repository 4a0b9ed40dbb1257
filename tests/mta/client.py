"""An SMTP client that plays any peer: XCLIENT tells Postfix who is calling and on which listener.

Owns the dialogue and keeps every reply of it. Never judges a reply.
"""

import re
import smtplib
import ssl
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from msgspec import Struct

from sidecar.core.names import split_endpoint
from tests.mta.logins import plain
from tests.mta.postfix import HOST


class Answer(Struct, frozen=True, kw_only=True):
    """One SMTP reply; the lines of a longer one are joined by a line feed."""

    code: int
    text: str

    def __str__(self) -> str:
        return f"{self.code} {self.text}"


class Answers(Struct, frozen=True, kw_only=True):
    """The replies to one message: to MAIL, to each RCPT in order, and to the content (None when it was not sent)."""

    mail: Answer
    recipients: tuple[Answer, ...]
    content: Answer | None = None

    @property
    def last(self) -> Answer:
        """The reply that decided: that to the content, else that to the last RCPT, else that to MAIL."""
        return self.content or (self.mail, *self.recipients)[-1]


class Refused(Exception):  # noqa: N818 - an answer like any other, that comes early
    """The peer was refused before it could say MAIL."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(str(answer))
        self.answer = answer


class Peer(Struct, frozen=True, kw_only=True):
    """Who calls: its `IP:port`, its HELO name, the listener it calls, and as whom it authenticated."""

    address: str = "203.0.113.9:4444"
    helo: str = "peer.example.net"
    listener: str = "10.1.1.1:25"
    login: str | None = None

    def xclient(self) -> str:
        """Give the attributes of the XCLIENT command (Postfix's XCLIENT_README)."""
        listener, listener_port = split_endpoint(self.listener)
        peer, port = split_endpoint(self.address)
        attributes = {
            "ADDR": _prefixed(str(peer)),
            "PORT": "[UNAVAILABLE]" if port is None else str(port),
            "DESTADDR": _prefixed(str(listener)),
            "DESTPORT": str(listener_port),
            "LOGIN": self.login or "[UNAVAILABLE]",
        }
        return " ".join(f"{name}={value}" for name, value in attributes.items())


EXTERNAL = Peer()
"""A peer that no list of relay hosts holds."""


class Connection:
    """A context manager: one SMTP connection of `peer` to the MTA on `port`. Refused when the MTA does not want the peer."""

    def __init__(self, port: int, peer: Peer) -> None:
        self._peer = peer
        self._smtp = smtplib.SMTP(HOST, port, timeout=300)

    def __enter__(self) -> Self:
        self.say("EHLO localhost")
        greeting = self.say(f"XCLIENT {self._peer.xclient()}")
        if greeting.code != 220:
            self._smtp.close()
            raise Refused(greeting)
        self.say(f"EHLO {self._peer.helo}")
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._smtp.close()

    def say(self, line: str) -> Answer:
        """Send one command and give its reply."""
        self.write(f"{line}\r\n".encode())
        return self.reply()

    def write(self, data: bytes) -> None:
        """Send bytes as they are."""
        self._smtp.send(data)

    def reply(self) -> Answer:
        """Wait for the next reply."""
        code, text = self._smtp.getreply()
        return Answer(code=code, text=text.decode("utf-8", "replace"))

    def log_in(self, password: str) -> None:
        """Prove the peer's login with AUTH PLAIN, if it has one."""
        if self._peer.login is not None:
            assert self.say(f"AUTH PLAIN {plain(self._peer.login, password)}").code == 235

    def encrypt(self, certificate: Path | None = None) -> None:
        """STARTTLS, whatever the server's certificate, and EHLO again. `certificate` is a folder with the client's own."""
        self.say("STARTTLS")
        self.wrap(certificate)
        self.say(f"EHLO {self._peer.helo}")

    def wrap(self, certificate: Path | None = None) -> None:
        """Begin TLS, whatever the server's certificate; the reply to STARTTLS was read."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        if certificate is not None:
            context.load_cert_chain(certificate / "certificate.pem", certificate / "key.pem")
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        assert self._smtp.sock is not None
        self._smtp.sock = context.wrap_socket(self._smtp.sock)
        self._smtp.file = None

    def close(self) -> None:
        """Hang up."""
        self._smtp.close()

    def send(self, sender: str, recipients: Sequence[str], content: bytes, *, parameters: str = "") -> Answers:
        """Offer one message; its content is sent only if a recipient was accepted. `parameters` go with MAIL."""
        mail = self.say(f"MAIL FROM:<{sender}> {parameters}".rstrip())
        if mail.code != 250:
            return Answers(mail=mail, recipients=())
        answers = tuple(self.say(f"RCPT TO:<{recipient}>") for recipient in recipients)
        if not any(answer.code == 250 for answer in answers):
            self.say("RSET")
            return Answers(mail=mail, recipients=answers)
        return Answers(mail=mail, recipients=answers, content=self.content(content))

    def content(self, content: bytes) -> Answer:
        """Send the content of a message, and give the reply to its end, or to DATA if that was refused."""
        go_ahead = self.say("DATA")
        if go_ahead.code != 354:
            return go_ahead
        lines = re.sub(rb"\r?\n", b"\r\n", content.removesuffix(b"\n") + b"\n")
        self.write(re.sub(rb"(?m)^\.", b"..", lines) + b".\r\n")
        return self.reply()


def _prefixed(address: str) -> str:
    """XCLIENT wants IPv6 addresses with a prefix."""
    return f"IPV6:{address}" if ":" in address else address
