"""The answers of a session: a closed set of verdicts, and the outcome that has one with its records.

Match verdicts exhaustively (`typing.assert_never`). Only `daemon/milter` knows the milter codes for them.
"""

from collections.abc import Callable
from typing import Literal, Protocol

from msgspec import Struct

from sidecar.core.disposition import Disposition
from sidecar.core.policy import ConnectAnswer, MessageAnswer, RecipientAnswer
from sidecar.core.proof.values import Verification
from sidecar.core.records.record import Record


class Reply(Struct, frozen=True, kw_only=True):
    """An SMTP reply: code, enhanced status code (RFC 3463) and one line of text."""

    code: int
    enhanced: str
    text: str

    def __str__(self) -> str:
        return f"{self.code} {self.enhanced} {self.text}"


class Continue(Struct, frozen=True, kw_only=True):
    """Continue; at RCPT: accept the recipient."""


class Accept(Struct, frozen=True, kw_only=True):
    """Accept the message, but remove these recipients (in the MTA's own spelling) from its envelope first.

    The MTA adds the header fields `fields`, names and values, and writes another envelope `sender`, if it can.
    """

    without: tuple[str, ...] = ()
    fields: tuple[tuple[str, str], ...] = ()
    sender: str | None = None


class Reject(Struct, frozen=True, kw_only=True):
    """Reject the connection, the recipient or the message (5xx)."""

    reply: Reply


class Tempfail(Struct, frozen=True, kw_only=True):
    """Tempfail (4xx): the peer retries and nothing is lost."""

    reply: Reply


class Discard(Struct, frozen=True, kw_only=True):
    """Answer 250 and let the MTA drop the message."""


CheckResult = Literal["not_listed", "logged", "rejected", "unreadable"]
"""What the look-up of a recipient in the suppression list found, and what followed. The values are those of the metric."""


class Suppressed(Protocol):
    """Why an address is suppressed. Times are in seconds since 1970; `expires` is 0 for never."""

    @property
    def reason(self) -> str:
        """A bounce class, a feedback type, or the words of a person."""

    @property
    def source(self) -> str:
        """Whether reports or a person put the address on the list."""

    @property
    def since(self) -> int:
        """When that was."""

    @property
    def expires(self) -> int:
        """When the entry ends."""


Verdict = Continue | Accept | Reject | Tempfail | Discard


class Decision(Struct, frozen=True, kw_only=True):
    """A decision for the log: its stage, the action, the disposition, and the reason in one sentence."""

    stage: str
    action: str
    disposition: Disposition
    why: str
    sender: str | None = None
    recipients: tuple[str, ...] = ()
    queue_id: str | None = None


class UnparsableReport(Struct, frozen=True, kw_only=True):
    """An unparsable or unverified report for the quarantine, its name there, and one record for all its recipients.

    `full` is the outcome instead if the quarantine is full.
    """

    name: str
    content: bytes
    record: Record
    full: "Outcome"


class Outcome(Struct, frozen=True, kw_only=True):
    """The answer to one event.

    The records must be written before the MTA gets the verdict; if that fails, the verdict is a Tempfail instead. With
    `durable` they must be on disk. `decision` is for the log; `answer` is the policy's, with all its reasons. An `unparsable`
    report is put into the quarantine first, with its own record. `verified` is what a report proves for its first recipient
    that logs it. `checked` is the result for a recipient that was looked up in the suppression list, `suppressed` its
    entry.

    `network` is the key of the peer's network, `received` the bytes that the peer sent since the last outcome with records; it
    is None for a relay host, whose records have no limit. `relayed_again` are the bytes of the message, as far as it was seen,
    once for each further recipient that it is relayed to. `above` returns the outcome that replaces this one if its records
    exceed their limit; it is None if the verdict rejects anyway.
    """

    verdict: Verdict
    records: tuple[Record, ...] = ()
    durable: bool = False
    unparsable: UnparsableReport | None = None
    decision: Decision | None = None
    answer: ConnectAnswer | RecipientAnswer | MessageAnswer | None = None
    verified: Verification | None = None
    checked: CheckResult | None = None
    suppressed: Suppressed | None = None
    network: str = ""
    received: int | None = None
    relayed_again: int = 0
    above: "Callable[[], Outcome] | None" = None


GO_ON = Outcome(verdict=Continue())
"""The outcome of most events: continue, without records."""

ENOUGH = Outcome(verdict=Continue())
"""Continue; header fields that are too short for a Content-Type can be left out from now on."""
