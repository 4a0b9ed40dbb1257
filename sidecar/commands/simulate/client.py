"""One message over SMTP, on its own connection, as an external host sends it. All replies of the MTA are kept.

Owns the dialogue and its limits in time and size. Never sends twice, and never connects to another MTA.
"""

import errno
import smtplib
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

from msgspec import Struct
from msgspec.structs import replace

from sidecar.core.names import endpoint, plain_address, split_endpoint

# RFC 5321 section 4.5.3.1.5 allows 512 octets in a line; replies to EHLO have some 20 lines.
_REPLY_LIMIT = 64 * 1024
# The address belongs to another machine, cannot reach this target, or has the other IP version.
_NO_SUCH_ADDRESS = {errno.EADDRNOTAVAIL, errno.EINVAL, socket.EAI_ADDRFAMILY}
_OK = 2
_GO_AHEAD = 354
_READY = 220


class UnreachableError(Exception):
    """The MTA does not answer as expected. The text is one sentence for the operator."""


class Target(Struct, frozen=True, kw_only=True):
    """The MTA, and how to connect to it.

    `bind` is our source address; `xclient`, `IP[:port]`, is the peer that Postfix sees instead (XCLIENT). `timeout` is in
    seconds, for each step of the dialogue.
    """

    host: str
    port: int
    bind: str | None = None
    xclient: str | None = None
    timeout: float = 30.0

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class Answer(Struct, frozen=True, kw_only=True):
    """One SMTP reply. The lines of a longer one are joined by a space."""

    code: int
    text: str

    def __str__(self) -> str:
        return f"{self.code} {self.text}".rstrip()

    @property
    def kind(self) -> int:
        """The first digit: 2 accepted, 4 tempfailed, 5 rejected."""
        return self.code // 100


class Dialogue(Struct, frozen=True, kw_only=True):
    """The answers of the MTA. `peer` and `listener` (`IP:port`) are the ends of the connection, as the MTA should see them.

    `recipients` are the answers to each RCPT, `last` is the answer that decided; None if the message was not offered. `lacking`
    names the missing extension if the message needs one.
    """

    peer: str
    listener: str
    recipients: tuple[Answer, ...] = ()
    last: Answer | None = None
    lacking: str | None = None


class _Client(smtplib.SMTP):
    """The standard library's client, with a limit for the time and the length of each reply."""

    def getreply(self) -> tuple[int, bytes]:
        """Read one reply. Raises OSError (TimeoutError among them) and SMTPException."""
        if self.sock is None:
            raise smtplib.SMTPServerDisconnected("the connection is closed")
        deadline = time.monotonic() + self.timeout
        read = b""
        while not _is_whole(read):
            self.sock.settimeout(max(deadline - time.monotonic(), 0.001))
            more = self.sock.recv(4096)
            if not more:
                raise smtplib.SMTPServerDisconnected("the MTA closed the connection")
            read += more
            if len(read) > _REPLY_LIMIT:
                raise smtplib.SMTPServerDisconnected("the reply has no end")
        self.sock.settimeout(self.timeout)
        lines = read.splitlines()
        code = lines[-1][:3]
        return int(code) if code.isdigit() else -1, b"\n".join(line[4:].strip() for line in lines)


def _is_whole(read: bytes) -> bool:
    """Return True if the last line of a reply has no hyphen behind the code (RFC 5321 section 4.2.1)."""
    if not read.endswith(b"\n"):
        return False
    last = read[read.rfind(b"\n", 0, -1) + 1 :]
    return last[3:4] != b"-"


def deliver(target: Target, *, helo: str, sender: str, recipients: Sequence[str], content: bytes) -> Dialogue:
    """Send one message, whose lines end with CRLF. Raises UnreachableError if the MTA does not answer."""
    with _connected(target, helo) as (smtp, greeting):
        peer, listener = _ends(smtp, target)
        answers = Dialogue(peer=peer, listener=listener)
        rejected = _send_ehlo(smtp, target, helo) if greeting.code == _READY else greeting
        if rejected is not None:
            return replace(answers, last=rejected)
        # The parameters that MAIL needs for these addresses and this content.
        wanted = []
        if not (content.partition(b"\r\n\r\n")[0].isascii() and all(map(str.isascii, (sender, *recipients)))):
            wanted.append(("SMTPUTF8", " SMTPUTF8"))
        if not content.isascii():
            wanted.append(("8BITMIME", " BODY=8BITMIME"))
        for extension, _ in wanted:
            if not smtp.has_extn(extension):
                return replace(answers, lacking=extension)
        mail = f"FROM:<{sender}>{''.join(parameter for _, parameter in wanted)}"
        named, last = _transact(smtp, mail, recipients, content)
        return replace(answers, recipients=named, last=last)


@contextmanager
def _connected(target: Target, helo: str) -> Iterator[tuple[_Client, Answer]]:
    """Yield a connection and its greeting. Raise UnreachableError for its errors."""
    source = None if target.bind is None else (target.bind, 0)
    # With a host, the constructor connects at once and raises on a negative greeting; without a name, it asks the DNS for one.
    smtp = _Client(local_hostname=helo, timeout=float(target.timeout), source_address=source)
    # Addresses in UTF-8 need SMTPUTF8 (RFC 6531 section 3.3).
    smtp.command_encoding = "utf-8"
    try:
        yield smtp, _answer(smtp.connect(target.host, target.port))
        with suppress(OSError):
            smtp.docmd("QUIT")
    except TimeoutError as error:
        raise UnreachableError(
            f"{target} did not answer within {target.timeout:g} s: see its log, or use a longer --timeout."
        ) from error
    except OSError as error:
        if target.bind is not None and error.errno in _NO_SUCH_ADDRESS:
            raise UnreachableError(
                f"{target} cannot be reached from {target.bind}: --bind needs an address of this machine that reaches it."
            ) from error
        # SMTPException is an OSError too, without a strerror.
        reason = error.strerror or error
        raise UnreachableError(f"{target} cannot be used: {reason}. Is this the MTA, and is it running?") from error
    finally:
        smtp.close()


def _ends(smtp: _Client, target: Target) -> tuple[str, str]:
    assert smtp.sock is not None  # noqa: S101 - it is connected
    # A link-local address has its zone, which no policy knows.
    names = (smtp.sock.getsockname(), smtp.sock.getpeername())
    peer, listener = (endpoint(plain_address(name[0].partition("%")[0]), name[1]) for name in names)
    return (endpoint(*split_endpoint(target.xclient)) if target.xclient else peer), listener


def _send_ehlo(smtp: _Client, target: Target, helo: str) -> Answer | None:
    """Send EHLO, and XCLIENT if it is wanted; return a negative answer."""
    if (answer := _answer(smtp.ehlo(helo))).kind != _OK:
        return answer
    if target.xclient is None:
        return None
    if not smtp.has_extn("xclient"):
        raise UnreachableError(
            f"{target} does not offer XCLIENT to this machine: add it to Postfix's smtpd_authorized_xclient_hosts, or omit "
            "--xclient."
        )
    address, port = split_endpoint(target.xclient)
    addr = f"IPV6:{address}" if address.version == 6 else str(address)  # noqa: PLR2004 - XCLIENT's form
    attributes = f"NAME=[UNAVAILABLE] ADDR={addr} PORT={port or '[UNAVAILABLE]'}"
    if (answer := _answer(smtp.docmd("XCLIENT", attributes))).code != _READY:
        return answer
    return answer if (answer := _answer(smtp.ehlo(helo))).kind != _OK else None


def _transact(smtp: _Client, mail: str, recipients: Sequence[str], content: bytes) -> tuple[tuple[Answer, ...], Answer]:
    """Send MAIL, RCPT and DATA, as far as the MTA accepts them. Return the answers to RCPT, and the answer that decided."""
    if (answer := _answer(smtp.docmd("MAIL", mail))).kind != _OK:
        return (), answer
    named = tuple(_answer(smtp.docmd("RCPT", f"TO:<{recipient}>")) for recipient in recipients)
    if not any(answer.kind == _OK for answer in named):
        return named, named[0]
    if (answer := _answer(smtp.docmd("DATA"))).code != _GO_AHEAD:
        return named, answer
    smtp.send(content.replace(b"\r\n.", b"\r\n..") + b".\r\n")
    return named, _answer(smtp.getreply())


def _answer(reply: tuple[int, bytes]) -> Answer:
    code, text = reply
    return Answer(code=code, text=text.decode("utf-8", "replace").replace("\n", " "))
