"""The policy's answers for a whole envelope, combined into one outcome.

Never decides: each answer is the policy's own.
"""

from enum import StrEnum

from msgspec import Struct

from sidecar.core.disposition import Disposition
from sidecar.core.evaluate.envelope import Envelope
from sidecar.core.policy import Because, ConnectAnswer, MessageAnswer, Policy, RecipientAnswer, judge_message
from sidecar.core.policy.address import is_text
from sidecar.core.settings.values import LogMode


class Undecided(StrEnum):
    """What a record does not contain, and the decision depends on."""

    RECIPIENTS_UNKNOWN = "recipients_unknown"
    CONTENT_UNKNOWN = "content_unknown"

    @property
    def words(self) -> str:
        """The value as tables show it to people."""
        return "accepted if a report" if self is Undecided.CONTENT_UNKNOWN else "recipients unknown"


Outcome = Disposition | Undecided
"""What a configuration decides on an envelope."""


class Judgement(Struct, frozen=True, kw_only=True):
    """All answers for one envelope. `message` is None if nobody accepted a recipient, or if the content is not known."""

    outcome: Outcome
    connect: ConnectAnswer
    recipients: tuple[RecipientAnswer, ...] = ()
    message: MessageAnswer | None = None


def judge(envelope: Envelope, policy: Policy, *, refuse_at_connect: bool = True, quarantine: bool = False) -> Judgement:
    """Ask the policy about an envelope as a session does: at connect, for each recipient, and for the message.

    `quarantine`: unparsable reports are quarantined instead of rejected. The limits of a session, which give 4xx replies, are
    left out: they do not depend on the policy.
    """
    connect = policy.at_connect(envelope.peer, envelope.listener)
    if not connect.accept and refuse_at_connect:
        return Judgement(outcome=Disposition.REJECTED_AT_CONNECT, connect=connect)
    if not envelope.recipients:
        return Judgement(outcome=Undecided.RECIPIENTS_UNKNOWN, connect=connect)
    recipients = tuple(_at_rcpt(envelope, recipient, policy) for recipient in envelope.recipients)
    left = [recipient for recipient in recipients if recipient.accept]
    if not left:
        return Judgement(outcome=Disposition.REJECTED_AT_RCPT, connect=connect, recipients=recipients)
    if envelope.kind == "unknown" and any(recipient.takes_reports for recipient in left):
        relayed = any(recipient.relay for recipient in left)
        return Judgement(
            outcome=Disposition.RELAYED if relayed else Undecided.CONTENT_UNKNOWN, connect=connect, recipients=recipients
        )
    message = judge_message(left, is_oob=envelope.kind == "oob", is_arf=envelope.kind == "arf")
    outcome = message.disposition
    if outcome == Disposition.REJECTED_AT_END and quarantine and envelope.kind == "unreadable":
        outcome = Disposition.QUARANTINED
    return Judgement(outcome=outcome, connect=connect, recipients=recipients, message=message)


def deciding(judgement: Judgement) -> tuple[Because, ...]:
    """Return the reasons that decided the outcome, in order."""
    match judgement.outcome:
        case Disposition.REJECTED_AT_CONNECT | Undecided.RECIPIENTS_UNKNOWN:
            return judgement.connect.because
        case Disposition.REJECTED_AT_RCPT:
            return judgement.recipients[0].because
        case Undecided.CONTENT_UNKNOWN:
            return next(recipient.because for recipient in judgement.recipients if recipient.accept)
        case Disposition.RELAYED if judgement.message is None:
            return next(recipient.because[:1] for recipient in judgement.recipients if recipient.relay)
        case _:
            assert judgement.message is not None  # noqa: S101 - every other outcome comes of one
            results = judgement.message.results
            relayed = (result for result in results if result.relayed)
            taken = (result for result in results if result.logged_as is not None)
            return ((next(relayed, None) or next(taken, None) or results[0]).because,)


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
