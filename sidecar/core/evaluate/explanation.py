"""The shapes of a question and of its answer. Scripts read `explain --json`, so they are permanent."""

from typing import Literal

import msgspec
from msgspec import UNSET, Struct, UnsetType

from sidecar.core.disposition import Disposition
from sidecar.core.evaluate.proofs import MessageProof
from sidecar.core.policy import Because
from sidecar.core.policy.answers import ReportKind
from sidecar.core.records import Record
from sidecar.core.settings.values import LogMode
from sidecar.core.text import printable_json

MessageAction = Literal["accept", "discard", "reject"]


class Question(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename={"sender": "from"}):
    """A peer, an envelope and perhaps a message. `peer` is `IP[:PORT]`, `message` the path of a file.

    Without `listener` the question is about a listener without its own rules.
    """

    peer: str
    listener: str | None = None
    helo: str | None = None
    auth: str | None = None
    sender: str
    to: list[str]
    message: str | None = None


class ConnectPart(Struct, frozen=True, kw_only=True):
    """What happens at connect."""

    action: Literal["continue", "reject"]
    deferred: bool
    reply: str | None
    because: list[str]


class SuppressedPart(Struct, frozen=True, kw_only=True):
    """The recipient's entry in the suppression list. Times are RFC 3339; `rule` is the place of its rule in a file."""

    reason: str
    source: str
    since: str
    expires: str | None
    rule: str | None


class RecipientPart(Struct, frozen=True, kw_only=True):
    """What happens to one recipient at RCPT. `suppressed` is set if it is on the suppression list, and was looked up."""

    address: str
    action: Literal["accept", "reject"]
    reply: str | None
    relay: bool = False
    log_oob: LogMode = LogMode.IGNORE
    log_arf: LogMode = LogMode.IGNORE
    because: list[Because]
    suppressed: SuppressedPart | UnsetType = UNSET

    @property
    def report_kinds(self) -> str:
        """The reports that the recipient's domain accepts, in words; empty if it accepts none."""
        modes = (("bounce reports", self.log_oob), ("feedback reports", self.log_arf))
        return " and ".join(name for name, mode in modes if mode is not LogMode.IGNORE)


class SigningPart(Struct, frozen=True, kw_only=True):
    """What [sign] adds to a message: names of header fields, and whether the envelope sender gets a token.

    The values are made for each message. Without the message, these are all that it can get.
    """

    header_fields: list[str]
    envelope_sender: bool


class MessagePart(Struct, frozen=True, kw_only=True):
    """What happens to the message. Without a message, or an accepted recipient, `action` is None and all lists are empty.

    `disposition` is None if the decision needs the message, and there is none. `verification` is what a report proves for its
    first recipient that logs it, if the settings verify reports. `signing` is what [sign] adds, if the message is signed.
    """

    disposition: Disposition | None = None
    action: MessageAction | None = None
    reply: str | None = None
    report: ReportKind | None = None
    relayed: list[str]
    dropped: list[str]
    records: list[Record]
    verification: MessageProof | UnsetType = UNSET
    signing: SigningPart | UnsetType = UNSET


class Explanation(Struct, frozen=True, kw_only=True):
    """The answer to a question."""

    connect: ConnectPart
    recipients: list[RecipientPart]
    message: MessagePart


_ENCODER = msgspec.json.Encoder()


def encode_explanation(explanation: Explanation) -> bytes:
    """Return the explanation as one JSON object, without a line end."""
    return printable_json(_ENCODER.encode(explanation))
