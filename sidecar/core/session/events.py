"""The events of one SMTP connection, as the session handles them, and its states. Text was decoded where it entered."""

import re
from collections.abc import Iterator
from enum import Enum, auto

from msgspec import Struct

from sidecar.core.names import IPAddress
from sidecar.core.policy import without_route
from sidecar.core.records import Tls

# Postfix and Sendmail pass the body in pieces of this size (MILTER_CHUNK_SIZE).
CHUNK = 65535

# RFC 5322 section 2.2: a field name is printable ASCII without a space, and a colon follows.
_FIELD = re.compile(rb"([!-9;-~]++)[ \t]*+:([^\n]*+(?>(?:\n[ \t][^\n]*+)*))\n?")
_EMPTY_LINE = re.compile(rb"\r?\n")


class ProtocolError(Exception):
    """An event arrived that is not allowed in this state. It is our fault or the MTA's, never the peer's."""


class State(Enum):
    """Where an SMTP connection stands."""

    NEW = auto()
    OPEN = auto()
    ENVELOPE = auto()
    HEADERS = auto()
    BODY = auto()
    REJECTED = auto()
    CLOSED = auto()

    # Enum hashes the name, in Python; a member is itself, and each event is a look-up in the table.
    __hash__ = object.__hash__


class Connect(Struct, frozen=True, kw_only=True):
    """A peer connected. `listener` is the MTA's own end, `IP:port`. The MTA can omit it, and `port`."""

    peer: IPAddress
    port: int | None = None
    listener: str | None


class Helo(Struct, frozen=True, kw_only=True):
    """The peer gave its name with HELO or EHLO; again after STARTTLS."""

    name: str
    tls: Tls | None = None


class Mail(Struct, frozen=True, kw_only=True):
    """MAIL FROM: a message begins.

    `sender` has no angle brackets, `""` is the null sender; `authz_id` is the user of SMTP AUTH; `declared_size` is SIZE=
    (RFC 1870), in bytes; `queue_id` is the MTA's, if it has one (Sendmail here, Postfix from the second recipient on).
    """

    sender: str
    authz_id: str | None = None
    declared_size: int | None = None
    queue_id: str | None = None


class Rcpt(Struct, frozen=True, kw_only=True):
    """RCPT TO. `address` has no angle brackets; `mta_spelling` is the address as the MTA wrote it."""

    address: str
    mta_spelling: str
    queue_id: str | None = None

    @property
    def removable_name(self) -> str:
        """The name by which the MTA can remove this recipient: its spelling without a source route, which Postfix drops."""
        mailbox = without_route(self.address)
        return self.mta_spelling if mailbox == self.address else f"<{mailbox}>"


class Data(Struct, frozen=True, kw_only=True):
    """DATA: the content follows."""

    queue_id: str | None = None


class Header(Struct, frozen=True, kw_only=True):
    """One header field, as bytes; a folded value keeps its line breaks."""

    name: bytes
    value: bytes


class Fields(Struct, frozen=True, kw_only=True):
    """Header fields that arrived together: names and values, as in `Header`.

    `size` is their size in the message in bytes, with the short ones that are left out after `ENOUGH`.
    """

    fields: list[tuple[bytes, bytes]]
    size: int


class EndOfHeaders(Struct, frozen=True, kw_only=True):
    """The header section is over."""


class Body(Struct, frozen=True, kw_only=True):
    """A piece of the body."""

    chunk: bytes


class EndOfMessage(Struct, frozen=True, kw_only=True):
    """The message is complete, and the MTA waits for the verdict."""

    queue_id: str | None = None


class Abort(Struct, frozen=True, kw_only=True):
    """The message is aborted (RSET, a new HELO, a lost peer). The connection can continue."""


class Close(Struct, frozen=True, kw_only=True):
    """The connection is over."""


Event = Connect | Helo | Mail | Rcpt | Data | Header | Fields | EndOfHeaders | Body | EndOfMessage | Abort | Close


def content_events(message: bytes) -> Iterator[Event]:
    """Yield the events after DATA, as an MTA makes them of a message.

    The header section ends at the first line that is no field, as in Postfix.
    """
    start = 0
    while field := _FIELD.match(message, start):
        name, value = field.groups()
        yield Header(name=name, value=value.removeprefix(b" ").rstrip(b"\r\n"))
        start = field.end()
    yield EndOfHeaders()
    if empty := _EMPTY_LINE.match(message, start):
        start = empty.end()
    for offset in range(start, len(message), CHUNK):
        yield Body(chunk=message[offset : offset + CHUNK])
    yield EndOfMessage()
