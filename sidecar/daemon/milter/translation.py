"""An MTA's words as the session's events: bytes are decoded here, once, as UTF-8 with U+FFFD for what is not.

Owns the decoding. Never judges: an address that did not decode is refused by the session.
"""

import re
import socket
from collections.abc import Callable, Mapping
from functools import lru_cache

from sidecar.core.names import endpoint, normal_listener, plain_address
from sidecar.core.session.events import (
    Abort,
    Body,
    Close,
    Connect,
    Data,
    EndOfHeaders,
    EndOfMessage,
    Event,
    Header,
    Helo,
    Mail,
    Rcpt,
)
from sidecar.daemon.milter.context import Macros
from sidecar.daemon.milter.negotiation import Step

# RFC 1870 section 3: at most 20 digits. With 18 the number fits the 64 bits in which readers of records hold a size.
_SIZE = re.compile(rb"SIZE=0{0,2}([0-9]{1,18})", re.IGNORECASE)


class UnknownPeerError(Exception):
    """The MTA told of a peer without an IP address, and without one nothing can be decided."""


def connect(told: Macros, _name: str, family: int, address: tuple[str, int] | str | None) -> Connect:
    """The peer's address and port, and the listener. Raises UnknownPeerError for a peer that has no IP address."""
    if family not in {socket.AF_INET, socket.AF_INET6} or not isinstance(address, tuple):
        raise UnknownPeerError(f"the MTA told of a peer of address family {family}, which has no IP address")
    return Connect(peer=_address(address[0]), port=address[1] or None, listener=listener(told))


def helo(_told: Macros, name: str) -> Helo:
    """The peer's name for itself."""
    return Helo(name=name)


def mail(told: Macros, sender: bytes, *parameters: bytes) -> Mail:
    """The envelope sender, who the peer proved to be, and the size it declared."""
    sizes = (found for parameter in parameters if (found := _SIZE.fullmatch(parameter)))
    size = next(sizes, None)
    return Mail(
        sender=_bare(_text(sender)),
        authz_id=told.getsymval("{auth_authen}") or None,
        declared_size=int(size[1]) if size is not None else None,
        queue_id=_queue_id(told),
    )


def rcpt(told: Macros, recipient: bytes, *_parameters: bytes) -> Rcpt:
    """One recipient."""
    given = _text(recipient)
    return Rcpt(address=_bare(given), mta_spelling=given, queue_id=_queue_id(told))


def data(told: Macros) -> Data:
    """The envelope is complete."""
    return Data(queue_id=_queue_id(told))


def header(_told: Macros, name: str, value: bytes) -> Header:
    """One header field. Its value comes with the space that follows the colon."""
    return Header(name=name.encode(), value=value.removeprefix(b" "))


def end_of_headers(_told: Macros) -> EndOfHeaders:
    """No more header fields."""
    return EndOfHeaders()


def body(_told: Macros, chunk: bytes) -> Body:
    """A piece of the body."""
    return Body(chunk=chunk)


def end_of_message(told: Macros) -> EndOfMessage:
    """The message is complete."""
    return EndOfMessage(queue_id=_queue_id(told))


def abort(_told: Macros) -> Abort:
    """The message is given up."""
    return Abort()


def close(_told: Macros) -> Close:
    """The connection is over."""
    return Close()


def listener(told: Macros) -> str | None:
    """Give the MTA's own end as `IP:port`; None where the MTA does not tell it, or not in a form that can be read.

    Sendmail's `{daemon_addr}` is what the daemon was configured with, often 0.0.0.0, and its `{if_addr}` the address of the
    interface, left out on the loopback. Postfix's `{daemon_addr}` is the connection's own. IPv6 comes as `IPv6:::1` or `::1`.
    """
    try:
        host = told.getsymval("{if_addr}") or told.getsymval("{daemon_addr}")
        return _endpoint(host or "", told.getsymval("{daemon_port}") or "")
    except UnicodeDecodeError:
        return None


# Relay hosts come again and again. What is kept is how an address reads, never what it may do.
_address = lru_cache(maxsize=1024)(plain_address)


@lru_cache(maxsize=1024)
def _endpoint(host: str, port: str) -> str | None:
    """Give the one spelling of an MTA's own end. It has a few, and reading one takes as long as a tenth of a session."""
    try:
        address = endpoint(plain_address(host.removeprefix("IPv6:").strip("[]")), None)
        return normal_listener(f"{address}:{port}")
    except ValueError:
        return None


def _queue_id(told: Macros) -> str | None:
    return told.getsymval("i") or None


def _text(given: bytes) -> str:
    return given.decode("utf-8", "replace")


def _bare(path: str) -> str:
    """Take the angle brackets off; both MTAs hand them over as the peer wrote them, and a peer may leave them out."""
    return path[1:-1] if path.startswith("<") and path.endswith(">") else path


TRANSLATIONS: Mapping[Step, Callable[..., Event]] = {
    Step.CONNECT: connect,
    Step.HELO: helo,
    Step.MAIL: mail,
    Step.RCPT: rcpt,
    Step.DATA: data,
    Step.HEADER: header,
    Step.END_OF_HEADERS: end_of_headers,
    Step.BODY: body,
    Step.END_OF_MESSAGE: end_of_message,
    Step.ABORT: abort,
    Step.CLOSE: close,
}
"""What becomes an event at each step of libmilter's."""
