"""One question put to a session: what would happen, and why. The very code the MTA runs, driven by hand.

Owns the shape of `explain --json`, which scripts read: it is for ever. Never decides anything itself.
"""

from typing import Literal

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from sidecar.core.disposition import Disposition
from sidecar.core.names import normal_listener, split_endpoint
from sidecar.core.policy import Because, ConnectAnswer, MessageAnswer, Policy, RecipientAnswer
from sidecar.core.policy.answers import ReportKind
from sidecar.core.records import Record
from sidecar.core.session import Rules, Session, World
from sidecar.core.session.events import Connect, Data, Helo, Mail, Rcpt
from sidecar.core.session.feed import content_events
from sidecar.core.session.verdicts import Accept, Continue, Discard, Outcome, Reject, Tempfail
from sidecar.core.settings.values import ANY_LISTENER, LogMode, Settings
from sidecar.core.text import printable_json


class Question(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename={"sender": "from"}):
    """Who would send what to whom. `peer` is `IP[:PORT]`; `message` the path of a file, for the caller to read.

    Without a `listener`, one is meant that has no rules of its own.
    """

    peer: str
    listener: str | None = None
    helo: str | None = None
    auth: str | None = None
    sender: str
    to: list[str]
    message: str | None = None


class ConnectPart(Struct, frozen=True, kw_only=True):
    """What would happen at connect."""

    action: Literal["continue", "reject"]
    deferred: bool
    reply: str | None
    because: list[str]


class RecipientPart(Struct, frozen=True, kw_only=True):
    """What would happen to one recipient at RCPT."""

    address: str
    action: Literal["accept", "reject"]
    reply: str | None
    relay: bool = False
    log_oob: LogMode = LogMode.IGNORE
    log_arf: LogMode = LogMode.IGNORE
    because: list[Because]


class MessagePart(Struct, frozen=True, kw_only=True):
    """What would happen to the message. Without a message, or an accepted recipient, `action` is None and all lists are empty.

    `disposition` is None if the decision needs the message, and there is none.
    """

    disposition: Disposition | None = None
    action: Literal["accept", "discard", "reject"] | None = None
    reply: str | None = None
    report: ReportKind | None = None
    relayed: list[str]
    dropped: list[str]
    records: list[Record]


class Explanation(Struct, frozen=True, kw_only=True):
    """The answer to a question."""

    connect: ConnectPart
    recipients: list[RecipientPart]
    message: MessagePart


_ENCODER = msgspec.json.Encoder()
_NO_MESSAGE = MessagePart(relayed=[], dropped=[], records=[])


def encode_explanation(explanation: Explanation) -> bytes:
    """Give the explanation as one JSON object, without a line end."""
    return printable_json(_ENCODER.encode(explanation))


def explain(question: Question, message: bytes | None, *, policy: Policy, settings: Settings, world: World) -> Explanation:
    """Play the question through a fresh session. Raises ValueError when its peer or listener is no address."""
    rules = Rules(policy=policy, settings=settings)
    session = Session(rules=lambda: rules, world=world)
    connect = _connect_part(session.handle(_connect(question)))
    if connect.action == "reject":
        return Explanation(
            connect=connect, recipients=[], message=_rejected_before(connect.reply, Disposition.REJECTED_AT_CONNECT)
        )
    if question.helo is not None:
        session.handle(Helo(name=question.helo))
    # A peer declares its message's size (RFC 1870), and the record tells it where the verdict comes before the body.
    size = None if message is None else len(message)
    session.handle(Mail(sender=_bare(question.sender), authz_id=question.auth, declared_size=size))
    recipients = [_recipient_part(address, session) for address in map(_bare, question.to)]
    if not any(recipient.action == "accept" for recipient in recipients):
        part = _rejected_before(recipients[0].reply if recipients else None, Disposition.REJECTED_AT_RCPT)
    else:
        part = _NO_MESSAGE if message is None else _message_part(_end_of_message(session, message))
    return Explanation(connect=connect, recipients=recipients, message=part)


def _rejected_before(reply: str | None, disposition: Disposition) -> MessagePart:
    """Return the part of a message that does not arrive, because of the reply at connect or to all recipients."""
    tempfailed = reply is not None and reply.startswith("4")
    return replace(_NO_MESSAGE, disposition=Disposition.TEMPFAILED if tempfailed else disposition)


def _connect(question: Question) -> Connect:
    peer, port = split_endpoint(question.peer)
    listener = ANY_LISTENER if question.listener is None else normal_listener(question.listener)
    return Connect(peer=peer, port=port, listener=listener)


def _bare(address: str) -> str:
    """Take the angle brackets off, if the operator wrote them."""
    return address[1:-1] if address.startswith("<") and address.endswith(">") else address


def _connect_part(outcome: Outcome) -> ConnectPart:
    answer = outcome.answer
    assert isinstance(answer, ConnectAnswer)  # noqa: S101 - a question always tells a listener, so the policy was asked
    rejected = isinstance(outcome.verdict, Reject)
    return ConnectPart(
        action="reject" if rejected else "continue",
        deferred=answer.deferred or (not answer.accept and not rejected),
        reply=_reply(outcome),
        because=[str(reason) for reason in answer.because],
    )


def _recipient_part(address: str, session: Session) -> RecipientPart:
    outcome = session.handle(Rcpt(address=address, mta_spelling=address))
    reply = _reply(outcome)
    action: Literal["accept", "reject"] = "accept" if reply is None else "reject"
    answer = outcome.answer
    if not isinstance(answer, RecipientAnswer):
        reasons = [Because(text="" if outcome.decision is None else outcome.decision.why)]
        return RecipientPart(address=address, action=action, reply=reply, because=reasons)
    return RecipientPart(
        address=address,
        action=action,
        reply=reply,
        relay=answer.relay,
        log_oob=answer.log_oob,
        log_arf=answer.log_arf,
        because=list(answer.because),
    )


def _end_of_message(session: Session, message: bytes) -> Outcome:
    """Feed the message until a verdict falls."""
    outcome = session.handle(Data())
    rest = content_events(message)
    while isinstance(outcome.verdict, Continue):
        outcome = session.handle(next(rest))
    return outcome


def _message_part(outcome: Outcome) -> MessagePart:
    answer = outcome.answer
    results = answer.results if isinstance(answer, MessageAnswer) else ()
    taken = isinstance(outcome.verdict, Accept | Discard)
    assert outcome.decision is not None  # noqa: S101 - each verdict on a message has one
    return MessagePart(
        disposition=outcome.decision.disposition,
        action=_message_action(outcome),
        reply=_reply(outcome),
        report=answer.logged_as if isinstance(answer, MessageAnswer) else None,
        relayed=[result.address for result in results if result.relayed],
        dropped=[result.address for result in results if taken and not result.relayed],
        records=list(outcome.records),
    )


def _message_action(outcome: Outcome) -> Literal["accept", "discard", "reject"]:
    match outcome.verdict:
        case Accept():
            return "accept"
        case Discard():
            return "discard"
        case _:
            return "reject"


def _reply(outcome: Outcome) -> str | None:
    return str(outcome.verdict.reply) if isinstance(outcome.verdict, Reject | Tempfail) else None
