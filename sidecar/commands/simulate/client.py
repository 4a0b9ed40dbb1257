"""One message over SMTP, on a connection of its own, as a stranger sends it: every reply of the MTA is kept.

Owns the dialogue and its bounds in time and size. Never judges a reply, never sends twice, and speaks to no MTA but its target.
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

# RFC 5321 section 4.5.3.1.5 allows 512 octets a line; replies to EHLO have some 20 lines.
_REPLY_LIMIT = 64 * 1024
# Of another machine, of no use for this target, of the other version of IP.
_NO_SUCH_ADDRESS = {errno.EADDRNOTAVAIL, errno.EINVAL, socket.EAI_ADDRFAMILY}
_OK = 2
_GO_AHEAD = 354
_READY = 220


class UnreachableError(Exception):
    """The MTA cannot be talked to as was asked; the text is one sentence for the operator."""


class Target(Struct, frozen=True, kw_only=True):
    """The MTA, and as whom to call it.

    `bind` is the own address to call from; `xclient`, `IP[:port]`, whom the MTA shall take us for (Postfix's XCLIENT).
    `timeout` is in seconds, for each step of the dialogue.
    """

    host: str
    port: int
    bind: str | None = None
    xclient: str | None = None
    timeout: float = 30.0

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class Answer(Struct, frozen=True, kw_only=True):
    """One SMTP reply; the lines of a longer one are joined by a space."""

    code: int
    text: str

    def __str__(self) -> str:
        return f"{self.code} {self.text}".rstrip()

    @property
    def kind(self) -> int:
        """The first digit: 2 taken, 4 not now, 5 never."""
        return self.code // 100


class Dialogue(Struct, frozen=True, kw_only=True):
    """What the MTA answered. `peer` and `listener` (`IP:port`) are the ends of the connection, as the MTA should see them.

    `rejected` is the answer to the connection, or to EHLO, where that was no welcome; `mail`, `recipients` and `content` are
    the answers to MAIL, to each RCPT, and to the content, as far as it came. `lacking` names the extension without which the
    message could not be sent.
    """

    peer: str
    listener: str
    rejected: Answer | None = None
    mail: Answer | None = None
    recipients: tuple[Answer, ...] = ()
    content: Answer | None = None
    lacking: str | None = None

    @property
    def last(self) -> Answer | None:
        """The answer that decided, if the message was offered at all."""
        taken = next((answer for answer in self.recipients if answer.kind == _OK), None)
        return self.rejected or self.content or taken or next(iter(self.recipients), None) or self.mail


class _Client(smtplib.SMTP):
    """The standard library's client, with an end to the patience for each reply, and to its length."""

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
    """Tell whether a reply is complete: its last line has no hyphen behind the code (RFC 5321 section 4.2.1)."""
    if not read.endswith(b"\n"):
        return False
    last = read[read.rfind(b"\n", 0, -1) + 1 :]
    return last[3:4] != b"-"


def deliver(target: Target, *, helo: str, sender: str, recipients: Sequence[str], content: bytes) -> Dialogue:
    """Offer one message, whose lines end with CRLF. Raises UnreachableError where the MTA does not answer."""
    with _trouble_told(target), _connected(target, helo) as (smtp, greeting):
        peer, listener = _ends(smtp, target)
        answers = Dialogue(peer=peer, listener=listener)
        rejected = _welcome(smtp, target, helo) if greeting.code == _READY else greeting
        if rejected is not None:
            return replace(answers, rejected=rejected)
        parameters, lacking = _parameters(smtp, (sender, *recipients), content)
        if lacking is not None:
            return replace(answers, lacking=lacking)
        return _transact(smtp, answers, f"FROM:<{sender}>{parameters}", recipients, content)


@contextmanager
def _trouble_told(target: Target) -> Iterator[None]:
    """Turn what may happen to a connection into one sentence."""
    try:
        yield
    except TimeoutError as error:
        raise UnreachableError(
            f"{target} did not answer within {target.timeout:g} s: see its log, or give it more --timeout."
        ) from error
    except (OSError, smtplib.SMTPException) as error:
        if target.bind is not None and error.errno in _NO_SUCH_ADDRESS:
            raise UnreachableError(
                f"{target} cannot be called from {target.bind}: --bind wants an address of this machine that reaches it."
            ) from error
        # SMTPException is an OSError too, without a strerror.
        reason = error.strerror or error
        raise UnreachableError(f"{target} cannot be talked to: {reason}. Is this the MTA, and does it run?") from error


@contextmanager
def _connected(target: Target, helo: str) -> Iterator[tuple[_Client, Answer]]:
    source = None if target.bind is None else (target.bind, 0)
    # With a host, the constructor would connect at once and raise on a greeting that is no welcome; without a name, it would
    # look one up in the DNS.
    smtp = _Client(local_hostname=helo, timeout=float(target.timeout), source_address=source)
    # Addresses in UTF-8 come only with SMTPUTF8 (RFC 6531 section 3.3).
    smtp.command_encoding = "utf-8"
    try:
        yield smtp, _answer(smtp.connect(target.host, target.port))
        with suppress(OSError):
            smtp.docmd("QUIT")
    finally:
        smtp.close()


def _ends(smtp: _Client, target: Target) -> tuple[str, str]:
    assert smtp.sock is not None  # noqa: S101 - it is connected
    peer, listener = (_endpoint(name) for name in (smtp.sock.getsockname(), smtp.sock.getpeername()))
    return (endpoint(*split_endpoint(target.xclient)) if target.xclient else peer), listener


def _endpoint(name: tuple[str, int]) -> str:
    # A link-local address comes with its zone, which no policy knows.
    return endpoint(plain_address(name[0].partition("%")[0]), name[1])


def _welcome(smtp: _Client, target: Target, helo: str) -> Answer | None:
    """Say EHLO, and XCLIENT where it is wanted; give the answer that is no welcome, if one is not."""
    if (answer := _answer(smtp.ehlo(helo))).kind != _OK:
        return answer
    if target.xclient is None:
        return None
    if not smtp.has_extn("xclient"):
        raise UnreachableError(
            f"{target} does not offer XCLIENT to this machine: name it in Postfix's smtpd_authorized_xclient_hosts, or leave "
            "--xclient out."
        )
    address, port = split_endpoint(target.xclient)
    addr = f"IPV6:{address}" if address.version == 6 else str(address)  # noqa: PLR2004 - as XCLIENT has it
    attributes = f"NAME=[UNAVAILABLE] ADDR={addr} PORT={port or '[UNAVAILABLE]'}"
    if (answer := _answer(smtp.docmd("XCLIENT", attributes))).code != _READY:
        return answer
    return answer if (answer := _answer(smtp.ehlo(helo))).kind != _OK else None


def _parameters(smtp: _Client, addresses: Sequence[str], content: bytes) -> tuple[str, str | None]:
    """Give the parameters that MAIL needs for such addresses and content, and the extension that they lack, if one."""
    wanted = []
    if not (content.partition(b"\r\n\r\n")[0].isascii() and all(map(str.isascii, addresses))):
        wanted.append(("SMTPUTF8", " SMTPUTF8"))
    if not content.isascii():
        wanted.append(("8BITMIME", " BODY=8BITMIME"))
    lacking = next((extension for extension, _ in wanted if not smtp.has_extn(extension)), None)
    return "".join(parameter for _, parameter in wanted), lacking


def _transact(smtp: _Client, answers: Dialogue, mail: str, recipients: Sequence[str], content: bytes) -> Dialogue:
    """Play MAIL, RCPT and DATA, as far as the MTA goes along."""
    answers = replace(answers, mail=_answer(smtp.docmd("MAIL", mail)))
    if answers.mail is None or answers.mail.kind != _OK:
        return answers
    named = tuple(_answer(smtp.docmd("RCPT", f"TO:<{recipient}>")) for recipient in recipients)
    answers = replace(answers, recipients=named)
    if not any(answer.kind == _OK for answer in named):
        return answers
    go_ahead = _answer(smtp.docmd("DATA"))
    if go_ahead.code != _GO_AHEAD:
        return replace(answers, content=go_ahead)
    stuffed = content.replace(b"\r\n.", b"\r\n..")
    smtp.send(stuffed + b".\r\n")
    return replace(answers, content=_answer(smtp.getreply()))


def _answer(reply: tuple[int, bytes]) -> Answer:
    code, text = reply
    return Answer(code=code, text=text.decode("utf-8", "replace").replace("\n", " "))
