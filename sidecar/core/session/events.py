"""The events of one SMTP connection, as the session handles them. Text is decoded already, where it enters."""

from msgspec import Struct

from sidecar.core.names import IPAddress
from sidecar.core.policy import without_route


class Connect(Struct, frozen=True, kw_only=True):
    """A peer connected. `port` is None where the MTA does not tell it; `listener` is the MTA's own end, `IP:port`.

    `listener` None means that the MTA did not say on which listener the peer came in.
    """

    peer: IPAddress
    port: int | None = None
    listener: str | None


class Helo(Struct, frozen=True, kw_only=True):
    """The peer gave its name with HELO or EHLO."""

    name: str


class Mail(Struct, frozen=True, kw_only=True):
    """MAIL FROM: a message begins.

    `sender` has no angle brackets, `""` is the null sender; `authz_id` is who the peer proved to be (SMTP AUTH);
    `declared_size` what the peer said with SIZE= (RFC 1870), in bytes; `queue_id` is the MTA's, where it has one by now
    (Sendmail has it here, Postfix from the second recipient on).
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
    """All recipients are named; the content comes next."""

    queue_id: str | None = None


class Header(Struct, frozen=True, kw_only=True):
    """One header field, as bytes; a folded value keeps its line breaks."""

    name: bytes
    value: bytes


class Fields(Struct, frozen=True, kw_only=True):
    """Header fields that arrived together: names and values, as in `Header`.

    `size` is what they have in the message, in bytes, together with those that were left out: after `ENOUGH` short ones are.
    """

    fields: list[tuple[bytes, bytes]]
    size: int


class EndOfHeaders(Struct, frozen=True, kw_only=True):
    """The header section is over."""


class Body(Struct, frozen=True, kw_only=True):
    """A piece of the body, cut anywhere."""

    chunk: bytes


class EndOfMessage(Struct, frozen=True, kw_only=True):
    """The message is complete and waits for its verdict."""

    queue_id: str | None = None


class Abort(Struct, frozen=True, kw_only=True):
    """The message in hand is given up (RSET, a new HELO, a lost peer); the connection may go on."""


class Close(Struct, frozen=True, kw_only=True):
    """The connection is over."""


Event = Connect | Helo | Mail | Rcpt | Data | Header | Fields | EndOfHeaders | Body | EndOfMessage | Abort | Close
