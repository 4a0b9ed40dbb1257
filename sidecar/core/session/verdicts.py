"""What the session answers: a closed set of verdicts, and the outcome that carries one with its records.

Match verdicts exhaustively (`typing.assert_never`). Only `daemon/milter` knows libmilter's codes for them.
"""

from collections.abc import Callable

from msgspec import Struct

from sidecar.core.disposition import Disposition
from sidecar.core.policy import ConnectAnswer, MessageAnswer, RecipientAnswer
from sidecar.core.records.record import Record


class Reply(Struct, frozen=True, kw_only=True):
    """An SMTP reply: code, enhanced status code (RFC 3463) and one line of text."""

    code: int
    enhanced: str
    text: str

    def __str__(self) -> str:
        return f"{self.code} {self.enhanced} {self.text}"


class Continue(Struct, frozen=True, kw_only=True):
    """Go on; at RCPT: the recipient is accepted."""


class Accept(Struct, frozen=True, kw_only=True):
    """Take the message, but first take these recipients (in the MTA's own spelling) off its envelope."""

    without: tuple[str, ...] = ()


class Reject(Struct, frozen=True, kw_only=True):
    """Refuse for good (5xx): the connection, the recipient or the message, whatever was asked."""

    reply: Reply


class Tempfail(Struct, frozen=True, kw_only=True):
    """Refuse for now (4xx): the peer tries again and nothing is lost."""

    reply: Reply


class Discard(Struct, frozen=True, kw_only=True):
    """Answer 250 and let the MTA drop the message."""


Verdict = Continue | Accept | Reject | Tempfail | Discard


class Decision(Struct, frozen=True, kw_only=True):
    """A decision that gets a line in the log: at which stage, the action, the disposition, and the reason in one sentence."""

    stage: str
    action: str
    disposition: Disposition
    why: str
    sender: str | None = None
    recipients: tuple[str, ...] = ()
    queue_id: str | None = None


class UnparsableReport(Struct, frozen=True, kw_only=True):
    """A message that claims to be a report and cannot be read: what goes into the quarantine, and under which name.

    `full` is the outcome instead, where it does not fit in any more.
    """

    name: str
    content: bytes
    full: "Outcome"


class Outcome(Struct, frozen=True, kw_only=True):
    """The answer to one event.

    The records must be written before the verdict is given; when they cannot be, the verdict is a Tempfail instead. With
    `durable` they must have reached the disk, not only the kernel. `decision` is what the log tells; `answer` is the
    policy's, with all its reasons. A `unparsable` is put into the quarantine, with the first record, before anything else.

    `network` is the key of the peer's network, `received` the bytes that the peer sent since the last outcome with records. It
    is None for a relay host, whose records have no limit. `above` returns the outcome that replaces this one where its records
    exceed their limit; it is None where the verdict rejects anyway.
    """

    verdict: Verdict
    records: tuple[Record, ...] = ()
    durable: bool = False
    unparsable: UnparsableReport | None = None
    decision: Decision | None = None
    answer: ConnectAnswer | RecipientAnswer | MessageAnswer | None = None
    network: str = ""
    received: int | None = None
    above: "Callable[[], Outcome] | None" = None


GO_ON = Outcome(verdict=Continue())
"""The outcome of most events: nothing to write, nothing to say."""

ENOUGH = Outcome(verdict=Continue())
"""Go on; of the header fields to come, those too short for a Content-Type may be left out."""


def rejected(verdict: Reject | Tempfail, disposition: Disposition) -> Disposition:
    """Return the disposition of a reply: `disposition` for 5xx, `tempfailed` for 4xx."""
    return disposition if isinstance(verdict, Reject) else Disposition.TEMPFAILED
