"""An MTA's words as the session's events: bytes are decoded here, once, as UTF-8 with U+FFFD for what is not.

Owns the decoding. Never decides: the session rejects an address that did not decode.
"""

import re
import socket
from collections.abc import Callable, Mapping
from functools import lru_cache

from sidecar.core.names import endpoint, normal_listener, plain_address
from sidecar.core.records import Tls
from sidecar.core.records.build import NAME_LIMIT
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

# In bytes: a name with ten parts of the usual lengths.
_SUBJECT_LIMIT = 1024
# A slash that begins the next part: a value can have one, too.
_PART = re.compile(rb"/(?=[A-Za-z0-9.]{1,40}=)")
_HEX = re.compile(rb"\+([0-9A-Fa-f]{2})")


class AnySpelling:
    """The macros of libmilter, which finds `{i}` as `i`, but a longer name only as it was sent: with braces, or without."""

    __slots__ = ("_context",)

    def __init__(self, context: Macros) -> None:
        self._context = context

    def getsymval(self, name: str, /) -> str | None:
        """Return a macro. Raise UnicodeDecodeError if it is not UTF-8."""
        value = self._context.getsymval(name)
        return self._context.getsymval(name[1:-1]) if value is None and name[0] == "{" else value


class UnknownPeerError(Exception):
    """The MTA reported a peer without an IP address, which every decision needs, or a user whose name is not UTF-8."""


def connect(macros: Macros, _name: str, family: int, address: tuple[str, int] | str | None) -> Connect:
    """Return the peer's address and port, and the listener. Raise UnknownPeerError for a peer without an IP address."""
    if family not in {socket.AF_INET, socket.AF_INET6} or not isinstance(address, tuple):
        raise UnknownPeerError(f"the MTA reported a peer of address family {family}, which has no IP address")
    # A scope (fe80::1%eth0) is part of no network, and MTAs show a "%" of a reply in different ways.
    return Connect(peer=_address(address[0].partition("%")[0]), port=address[1] or None, listener=listener(macros))


def helo(macros: Macros, name: str) -> Helo:
    """Return the peer's own name, and what the MTA reports of TLS."""
    return Helo(name=name, tls=_tls(macros))


def mail(macros: Macros, sender: bytes, *parameters: bytes) -> Mail:
    """Return the envelope sender, the identity of SMTP AUTH, and the declared size."""
    sizes = (found for parameter in parameters if (found := _SIZE.fullmatch(parameter)))
    size = next(sizes, None)
    return Mail(
        sender=_bare(text(sender)),
        authz_id=_authz_id(macros),
        declared_size=int(size[1]) if size is not None else None,
        queue_id=_queue_id(macros),
    )


def rcpt(macros: Macros, recipient: bytes, *_parameters: bytes) -> Rcpt:
    """Return one recipient."""
    spelling = text(recipient)
    return Rcpt(address=_bare(spelling), mta_spelling=spelling, queue_id=_queue_id(macros))


def data(macros: Macros, *_: bytes) -> Data:
    """Return the end of the envelope."""
    return Data(queue_id=_queue_id(macros))


def header(_macros: Macros, name: str, value: bytes) -> Header:
    """Return one header field. The MTA passes its value with the space after the colon."""
    return Header(name=name.encode(), value=value.removeprefix(b" "))


def body(_macros: Macros, chunk: bytes) -> Body:
    """Return a piece of the body."""
    return Body(chunk=chunk)


def daemon_name(macros: Macros) -> str | None:
    """Return the name that the MTA gives itself, if it does in UTF-8."""
    try:
        return AnySpelling(macros).getsymval("{daemon_name}")
    except UnicodeDecodeError:
        return None


def listener(macros: Macros) -> str | None:
    """Return the MTA's own end as `IP:port`; None if the MTA does not report it, or not in a readable form.

    Sendmail's `{daemon_addr}` is what the daemon was configured with, often 0.0.0.0, and its `{if_addr}` the address of the
    interface, left out on the loopback. Postfix's `{daemon_addr}` is the connection's own. IPv6 is `IPv6:::1` or `::1`.
    """
    try:
        host = macros.getsymval("{if_addr}") or macros.getsymval("{daemon_addr}")
        return _endpoint(host or "", macros.getsymval("{daemon_port}") or "")
    except UnicodeDecodeError:
        return None


def _tls(macros: Macros) -> Tls | None:
    """Return what the MTA reports of a TLS session; None if it reports none, or not in UTF-8."""
    try:
        cipher, version = macros.getsymval("{cipher}"), macros.getsymval("{tls_version}")
        if not (cipher or version):
            return None
        subject = _subject(macros.getsymval("{cert_subject}") or "", macros.getsymval("{verify}"))
    except UnicodeDecodeError:
        return None
    return Tls(cipher=(cipher or "")[:NAME_LIMIT], protocol_version=(version or "")[:NAME_LIMIT], subject=subject)


def _subject(name: str, verified: str | None) -> tuple[str, ...]:
    """Return the parts of a certificate's name.

    Postfix passes the common name, of a verified certificate only. Sendmail passes the whole name, of any certificate, as
    `/C=DE/CN=...` with some characters as `+` and two hex digits, and the result of its check.
    """
    if not name or (verified is None and name.startswith("/")):  # from a Sendmail that does not pass its check
        return ()
    if verified is None:
        return (f"CN={name}"[:NAME_LIMIT],)
    parts = _PART.split(name.encode()[:_SUBJECT_LIMIT]) if verified == "OK" else ()
    return tuple(text(_HEX.sub(lambda digits: bytes.fromhex(text(digits[1])), part))[:NAME_LIMIT] for part in parts if part)


# Relay hosts connect again and again. Only the parsed address is kept, never a decision.
_address = lru_cache(maxsize=1024)(plain_address)


@lru_cache(maxsize=1024)
def _endpoint(host: str, port: str) -> str | None:
    """Return the normal spelling of an MTA's own end. There are few, and reading one takes a tenth of a session's time."""
    try:
        address = endpoint(plain_address(host.removeprefix("IPv6:").strip("[]")), None)
        return normal_listener(f"{address}:{port}")
    except ValueError:
        return None


def _authz_id(macros: Macros) -> str | None:
    """Return the identity of SMTP AUTH. Raise UnknownPeerError for one that is not UTF-8."""
    try:
        return macros.getsymval("{auth_authen}") or None
    except UnicodeDecodeError as error:
        raise UnknownPeerError("the MTA reported a user whose name is not UTF-8") from error


def _queue_id(macros: Macros) -> str | None:
    """Return the MTA's queue id; None if it reports none, or not in UTF-8."""
    try:
        return macros.getsymval("i") or None
    except UnicodeDecodeError:
        return None


def text(octets: bytes) -> str:
    """Decode UTF-8, with U+FFFD for what is not."""
    return octets.decode("utf-8", "replace")


def _bare(path: str) -> str:
    """Return a path without angle brackets; both MTAs pass them on as the peer wrote them, and a peer can leave them out."""
    return path[1:-1] if path.startswith("<") and path.endswith(">") else path


PLAIN: Mapping[Step, Callable[..., Event]] = {
    Step.DATA: data,
    Step.END_OF_HEADERS: lambda _macros, *_: EndOfHeaders(),
    Step.BODY: body,
    Step.END_OF_MESSAGE: lambda macros, *_: EndOfMessage(queue_id=_queue_id(macros)),
    Step.ABORT: lambda _macros, *_: Abort(),
    Step.CLOSE: lambda _macros, *_: Close(),
}
"""The steps whose events are the same with both engines, which may pass an empty payload."""

TRANSLATIONS: Mapping[Step, Callable[..., Event]] = {
    Step.CONNECT: lambda context, *words: connect(AnySpelling(context), *words),
    Step.HELO: lambda context, *words: helo(AnySpelling(context), *words),
    Step.MAIL: lambda context, *words: mail(AnySpelling(context), *words),
    Step.RCPT: rcpt,
    Step.HEADER: header,
    **PLAIN,
}
"""How each step of libmilter becomes an event."""
