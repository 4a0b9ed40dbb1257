"""The policy's answers for a whole envelope, put together into one outcome.

Owns the outcome's words. Never decides: each answer is the policy's own.
"""

from typing import Literal

from msgspec import Struct

from sidecar.core.evaluate.envelope import Envelope
from sidecar.core.policy import Because, ConnectAnswer, MessageAnswer, Policy, RecipientAnswer, judge_message
from sidecar.core.policy.address import is_text
from sidecar.core.settings.values import LogMode

Outcome = Literal[
    "refused at connect",
    "let in",
    "refused at RCPT",
    "refused at the end",
    "relayed",
    "dropped",
    "quarantined",
    "if a report",
]
"""What becomes of an envelope.

`let in`: at connect, and no recipient is known; `dropped`: a report, logged and dropped; `if a report`: it passes if it is one,
and the record does not tell.
"""

REFUSED = frozenset(("refused at connect", "refused at RCPT", "refused at the end"))
"""The outcomes by which nobody gets the message, and the peer is told."""

_OUTCOMES: dict[str, Outcome] = {"accept": "relayed", "discard": "dropped", "reject": "refused at the end"}


class Judgement(Struct, frozen=True, kw_only=True):
    """All answers for one envelope. `message` is None where it did not come so far, or where it is not known what it was."""

    outcome: Outcome
    connect: ConnectAnswer
    recipients: tuple[RecipientAnswer, ...] = ()
    message: MessageAnswer | None = None


def judge(envelope: Envelope, policy: Policy, *, refuse_at_connect: bool = True, quarantine: bool = False) -> Judgement:
    """Put an envelope to the policy as a session does: at connect, for each recipient, and for the message.

    `quarantine` says that unreadable reports are kept instead of refused. What a session puts off with a 4xx, as above its
    limits, is not looked at: that says nothing of who may send.
    """
    connect = policy.at_connect(envelope.peer, envelope.listener)
    if not connect.accept and refuse_at_connect:
        return Judgement(outcome="refused at connect", connect=connect)
    if not envelope.recipients:
        return Judgement(outcome="let in", connect=connect)
    recipients = tuple(_at_rcpt(envelope, recipient, policy) for recipient in envelope.recipients)
    left = [recipient for recipient in recipients if recipient.accept]
    if not left:
        return Judgement(outcome="refused at RCPT", connect=connect, recipients=recipients)
    if envelope.kind == "unknown" and any(recipient.takes_reports for recipient in left):
        relayed = any(recipient.relay for recipient in left)
        return Judgement(outcome="relayed" if relayed else "if a report", connect=connect, recipients=recipients)
    message = judge_message(left, is_oob=envelope.kind == "oob", is_arf=envelope.kind == "arf")
    outcome = _OUTCOMES[message.action]
    if outcome == "refused at the end" and quarantine and envelope.kind == "unreadable":
        outcome = "quarantined"
    return Judgement(outcome=outcome, connect=connect, recipients=recipients, message=message)


def deciding(judgement: Judgement) -> tuple[Because, ...]:
    """Give the reasons that decided the outcome, the first of them first."""
    match judgement.outcome:
        case "refused at connect" | "let in":
            return judgement.connect.because
        case "refused at RCPT":
            return judgement.recipients[0].because
        case "if a report":
            return next(recipient.because for recipient in judgement.recipients if recipient.accept)
        case "relayed" if judgement.message is None:
            return next(recipient.because[:1] for recipient in judgement.recipients if recipient.relay)
        case _:
            assert judgement.message is not None  # noqa: S101 - every other outcome comes of one
            fates = judgement.message.fates
            relayed = (fate for fate in fates if fate.relayed)
            taken = (fate for fate in fates if fate.taken_as is not None)
            return ((next(relayed, None) or next(taken, None) or fates[0]).because,)


def _at_rcpt(envelope: Envelope, recipient: str, policy: Policy) -> RecipientAnswer:
    if is_text(recipient):
        return policy.at_rcpt(envelope.peer, envelope.listener, envelope.authz_id, envelope.sender, recipient)
    return RecipientAnswer(
        address=recipient,
        domain="",
        relay=False,
        log_oob=LogMode.IGNORE,
        log_arf=LogMode.IGNORE,
        because=(Because(text="the recipient's address has characters or a length that no address has"),),
    )
