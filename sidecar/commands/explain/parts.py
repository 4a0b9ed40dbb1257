"""A judgement in the shape of `explain --json`: the same parts, with the same words, as for a question.

Owns the translation. Never judges.
"""

from typing import Literal

from sidecar.core.disposition import Disposition
from sidecar.core.evaluate.envelope import Envelope
from sidecar.core.evaluate.explain import ConnectPart, MessagePart, RecipientPart
from sidecar.core.evaluate.judgement import Judgement, Outcome
from sidecar.core.policy import RecipientAnswer
from sidecar.core.policy.address import is_text
from sidecar.core.session import replies
from sidecar.core.session.verdicts import Reply

_ACTIONS: dict[Outcome, Literal["accept", "discard", "reject"]] = {
    Disposition.RELAYED: "accept",
    Disposition.LOGGED_AND_RELAYED: "accept",
    Disposition.LOGGED_AND_DROPPED: "discard",
    Disposition.QUARANTINED: "discard",
    Disposition.REJECTED_AT_END: "reject",
}


def connect_part(envelope: Envelope, judgement: Judgement) -> ConnectPart:
    """Give what happens at connect."""
    rejected = judgement.outcome == Disposition.REJECTED_AT_CONNECT
    answer = judgement.connect
    return ConnectPart(
        action="reject" if rejected else "continue",
        deferred=answer.deferred or (not answer.accept and not rejected),
        reply=str(_not_permitted(envelope)) if rejected else None,
        because=[str(reason) for reason in answer.because],
    )


def recipient_parts(envelope: Envelope, judgement: Judgement) -> list[RecipientPart]:
    """Give what happens to each recipient at RCPT."""
    return [_recipient_part(envelope, answer) for answer in judgement.recipients]


def message_part(judgement: Judgement) -> MessagePart:
    """Give what happens to the message; all empty where it did not come so far, or is not known."""
    answer = judgement.message
    outcome = judgement.outcome
    disposition = outcome if isinstance(outcome, Disposition) else None
    if answer is None:
        return MessagePart(disposition=disposition, relayed=[], dropped=[], records=[])
    action = _ACTIONS[outcome]
    return MessagePart(
        disposition=disposition,
        action=action,
        reply=str(replies.NOT_A_REPORT) if action == "reject" else None,
        report=answer.logged_as,
        relayed=[result.address for result in answer.results if result.relayed],
        dropped=[result.address for result in answer.results if action != "reject" and not result.relayed],
        records=[],
    )


def _recipient_part(envelope: Envelope, answer: RecipientAnswer) -> RecipientPart:
    reply = _not_permitted(envelope) if is_text(answer.address) else replies.UNREADABLE_ADDRESS
    return RecipientPart(
        address=answer.address,
        action="accept" if answer.accept else "reject",
        reply=None if answer.accept else str(reply),
        relay=answer.relay,
        log_oob=answer.log_oob,
        log_arf=answer.log_arf,
        because=list(answer.because),
    )


def _not_permitted(envelope: Envelope) -> Reply:
    # No record tells the peer's port in a field of its own.
    return replies.relaying_not_permitted(envelope.peer, None)
