"""The most expensive inputs known, and the processes that send them.

Owns the inputs. Never measures.
"""

import base64
import contextlib
import smtplib
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing import get_context
from multiprocessing.sharedctypes import Synchronized
from multiprocessing.synchronize import Event, Semaphore

from msgspec import Struct

from tests.mta.client import Connection, Peer, Refused
from tests.mta.processes import wait_until
from tests.wire.client import Mta

MEGABYTE = 1024 * 1024

DOMAINS = """\
["bounce.example"]
log_oob = "LogThenDrop"
["*.bounce.example"]
log_oob = "LogThenDrop"
["fbl.example"]
log_arf = "LogThenDrop"
"""
BOUNCES, COMPLAINTS, ELSEWHERE = "x7@bounce.example", "x7@fbl.example", "x7@elsewhere.example"

# Recipients in one write: their replies must fit into the socket's buffers, or both ends wait for each other.
_WINDOW = 100

# A piece of a body in one packet, as Postfix sends it.
_CHUNK = 65_535

# Seconds for the senders' last messages; none of them needs an orderly end.
_GRACE = 5


class Input(Struct, frozen=True, kw_only=True):
    """What each message of a hostile sender is: its envelope and content, CRLF line ends. `wire` bypasses the MTA."""

    name: str
    sender: str = ""
    recipients: tuple[str, ...] = (BOUNCES,)
    content: bytes = b""
    helo: str = "peer.example.net"
    parameters: str = ""
    wire: bool = False


class Sent(Struct, frozen=True, kw_only=True):
    """What the hostile senders sent: messages that had their last reply, and their bytes, envelope included."""

    messages: int
    size: int


def report(kind: str, part: str, fields: str, returned: bytes = b"") -> bytes:
    """Return a report whose machine-readable part has these fields, with CRLF line ends."""
    head = (
        f"From: MAILER-DAEMON@remote.example\nMIME-Version: 1.0\nContent-Type: multipart/report; report-type={kind}; boundary=b"
    )
    parts = f"{head}\n\n--b\nContent-Type: {part}\n\n{fields}\n--b\nContent-Type: message/rfc822\n\n"
    return parts.replace("\n", "\r\n").encode() + returned + b"\r\n--b--\r\n"


def _with_header(header: str) -> bytes:
    return f"{header}\r\nhello\r\n".encode()


def _status(groups: str) -> bytes:
    return report("delivery-status", "message/delivery-status", f"Reporting-MTA: dns; mx.remote.example\n{groups}")


def _complaint(returned: bytes) -> bytes:
    fields = "Feedback-Type: abuse\nUser-Agent: Desk/1.0\nVersion: 1\n"
    return report("feedback-report", "message/feedback-report", fields, returned)


_GROUP = "\nFinal-Recipient:{}@a\nAction:failed\nStatus:5.0.0\n"
# As deep as a date is read: 128 characters.
_DATES = "".join(f"{field}: {'(' * 64}{')' * 64}\n" for field in ("Last-Attempt-Date", "Will-Retry-Until"))
_DELAYED = _GROUP.replace("failed", "delayed").format("x") + _DATES
_DELETES = b"\x7f" * 900 + b"\r\n"


def inputs(share: float = 1) -> tuple[Input, ...]:
    """Return all inputs, as long as messages of their kind get at most, or a share of it."""

    def size(whole: int) -> int:
        return max(1, int(whole * share))

    comments = _with_header(f"Content-Type: text/plain;{'()' * 32_000}\r\n" * size(16))
    groups = "".join(_GROUP.format(f"x{number}") for number in range(size(1000)))
    return (
        Input(name="comments in Content-Type", content=comments),
        Input(name="comments in Content-Type, no MTA", content=comments, wire=True),
        Input(
            name="IDN recipients of 26 labels",
            recipients=tuple(f"x{number}@{'é.' * 26}bounce.example" for number in range(size(900))),
            parameters="SMTPUTF8",
        ),
        Input(name="tiny header fields", content=_with_header("a:\r\n" * size(250_000))),
        Input(
            name="rejected RCPTs, long names",
            helo="h" * 500,
            sender=f"{'s' * 900}@peer.example.net",
            recipients=tuple(f"x{number}@elsewhere.example" for number in range(size(900))),
        ),
        Input(
            name="complaint of 10 MB of 0x7f",
            recipients=(COMPLAINTS,),
            content=_complaint(_DELETES * size(MEGABYTE * 10 // 902 - 1)),
        ),
        Input(name="bounce of 1,000 recipients", content=_status(groups)),
        Input(name="nested comments in dates", content=_status(_DELAYED * size(2400))),
    )


def large_reports(size: int = 9_000_000) -> tuple[Input, ...]:
    """Return reports of about this size, each slow to read in another way, for senders that bypass the MTA."""
    text = b"All work and no play makes a dull letter, and yet here it is.\r\n"
    encoded = base64.encodebytes(text * (size * 3 // 4 // len(text))).replace(b"\n", b"\r\n")
    plain = _complaint(b"Subject: x\r\n\r\n" + text * (size // len(text)))
    contents = {
        "plain": plain,
        "not UTF-8": _complaint(b"Subject: x\r\n\r\n" + b"\xe9\xe8\xff\r\n" * (size // 5)),
        "base64": _complaint(encoded).replace(
            b"message/rfc822\r\n", b"message/rfc822\r\nContent-Transfer-Encoding: base64\r\n"
        ),
        "unparsable": plain.replace(b"Feedback-Type", b"Feedback-Kind"),
    }
    return tuple(
        Input(name=f"large complaint, {name}", recipients=(COMPLAINTS,), content=content, wire=True)
        for name, content in contents.items()
    )


@contextmanager
def hostile_senders(what: Input, number: int, *, port: int, milter: str) -> Iterator[Callable[[], Sent]]:
    """Run so many processes within the context, each of which sends `what` from an address of its own, over and over.

    All have begun to send when the context begins. Yields a function that returns what they sent so far.
    """
    # Not fork: a test run has threads.
    context = get_context("spawn")
    messages, size, stop = context.Value("q", 0), context.Value("q", 0), context.Event()
    begun = context.Semaphore(0)
    running = [
        context.Process(target=_send_on, args=(what, port, milter, 1 + index, begun, messages, size, stop), daemon=True)
        for index in range(number)
    ]
    try:
        for process in running:
            process.start()
        for _ in running:
            wait_until(
                lambda: begun.acquire(block=False), "the hostile senders send", seconds=600, give_up=lambda: _dead(running)
            )
        yield lambda: Sent(messages=messages.value, size=size.value)
    finally:
        stop.set()
        deadline = time.monotonic() + _GRACE
        for process in running:
            process.join(timeout=max(0, deadline - time.monotonic()))
            process.kill()
            process.join()


def _dead(running: Sequence[object]) -> str | None:
    ended = [process for process in running if getattr(process, "exitcode", None) is not None]
    return f"{len(ended)} ended" if ended else None


def _send_on(
    what: Input,
    port: int,
    milter: str,
    number: int,
    begun: Semaphore,
    messages: "Synchronized[int]",
    size: "Synchronized[int]",
    stop: Event,
) -> None:
    """Be one hostile sender until `stop`."""
    peer = f"203.0.113.{number}"
    cost = len(what.content) + sum(map(len, map(str.encode, what.recipients)))
    begun.release()

    def sent() -> None:
        for counter, more in ((messages, 1), (size, cost)):
            with counter.get_lock():
                counter.value += more

    while not stop.is_set():
        # An MTA or a sidecar that hangs up is one way to hold out; the sender only connects again.
        with contextlib.suppress(OSError, EOFError, smtplib.SMTPException, Refused):
            if what.wire:
                _by_wire(what, milter, peer, stop, sent)
            else:
                _by_smtp(what, port, Peer(address=f"{peer}:4444", helo=what.helo), stop, sent)


def _by_smtp(what: Input, port: int, peer: Peer, stop: Event, sent: Callable[[], None]) -> None:
    with Connection(port, peer) as connection:
        while not stop.is_set():
            connection.say(f"MAIL FROM:<{what.sender}> {what.parameters}".rstrip())
            codes = [
                connection.reply().code
                for first in range(0, len(what.recipients), _WINDOW)
                for _ in _written(connection, what.recipients[first : first + _WINDOW])
            ]
            if what.content and 250 in codes and connection.say("DATA").code == 354:
                connection.write(what.content + b".\r\n")
                connection.reply()
            else:
                connection.say("RSET")
            sent()


def _written(connection: Connection, recipients: Sequence[str]) -> Sequence[str]:
    connection.write("".join(f"RCPT TO:<{recipient}>\r\n" for recipient in recipients).encode())
    return recipients


def _by_wire(what: Input, milter: str, peer: str, stop: Event, sent: Callable[[], None]) -> None:
    with Mta(milter) as mta:
        mta.negotiate()
        mta.connect(peer)
        mta.helo(what.helo.encode())
        header, _, body = what.content.partition(b"\r\n\r\n")
        fields = [line.partition(b":")[::2] for line in header.split(b"\r\n")]
        while not stop.is_set():
            mta.mail(f"<{what.sender}>".encode())
            for recipient in what.recipients:
                mta.rcpt(f"<{recipient}>".encode())
            mta.data()
            replies = (mta.ask(b"L", name + b"\0" + value + b"\0") for name, value in fields)
            if all(reply.code in {"", "c"} for reply in replies) and mta.ask(b"N").code in {"", "c"}:
                for start in range(0, len(body), _CHUNK):
                    mta.ask(b"B", body[start : start + _CHUNK])
                mta.ask(b"E")
            mta.send(b"A")
            sent()
