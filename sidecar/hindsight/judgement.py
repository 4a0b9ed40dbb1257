"""The policy's answers for a whole envelope, put together into one outcome.

Owns the outcome's words. Never decides: each answer is the policy's own.
"""

from typing import Literal

from msgspec import Struct

from sidecar.hindsight.envelope import Envelope
from sidecar.policy import ConnectAnswer, MessageAnswer, Policy, RecipientAnswer, judge_message

Outcome = Literal["refused at connect", "refused at RCPT", "refused at the end", "relayed", "dropped", "if a report"]
"""What becomes of an envelope. `dropped`: a report, logged and dropped; `if a report`: the record does not tell what it was."""


class Judgement(Struct, frozen=True, kw_only=True):
    """All answers for one envelope. `message` is None where it did not come so far, or where it is not known what it was."""

    outcome: Outcome
    connect: ConnectAnswer
    recipients: tuple[RecipientAnswer, ...] = ()
    message: MessageAnswer | None = None


def judge(envelope: Envelope, policy: Policy, *, refuse_at_connect: bool = True) -> Judgement:
    """Put an envelope to the policy as a session does: at connect, for each recipient, and for the message."""
    connect = policy.at_connect(envelope.peer, envelope.listener)
    if not connect.accept and refuse_at_connect:
        return Judgement(outcome="refused at connect", connect=connect)
    recipients = tuple(
        policy.at_rcpt(envelope.peer, envelope.listener, envelope.authz_id, envelope.sender, recipient)
        for recipient in envelope.recipients
    )
    left = [recipient for recipient in recipients if recipient.accept]
    if not left:
        outcome: Outcome = "refused at RCPT" if recipients else "refused at connect"
        return Judgement(outcome=outcome, connect=connect, recipients=recipients)
    if envelope.kind == "unknown" and any(recipient.takes_reports for recipient in left):
        relayed = any(recipient.relay for recipient in left)
        return Judgement(outcome="relayed" if relayed else "if a report", connect=connect, recipients=recipients)
    message = judge_message(left, is_oob=envelope.kind == "oob", is_arf=envelope.kind == "arf")
    outcomes: dict[str, Outcome] = {"accept": "relayed", "discard": "dropped", "reject": "refused at the end"}
    return Judgement(outcome=outcomes[message.action], connect=connect, recipients=recipients, message=message)
