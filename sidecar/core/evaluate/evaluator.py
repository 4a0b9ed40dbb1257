"""The only offline driver of the session and the policy: `explain`, `replay`, `simulate`, `diff` and the HTTP API call it.

Never decides: each answer is the session's or the policy's.
"""

from collections.abc import Callable, Iterable
from enum import StrEnum
from typing import Final
from uuid import UUID

import msgspec
from msgspec import UNSET, Struct, UnsetType
from msgspec.structs import replace

from sidecar.core.disposition import Disposition
from sidecar.core.evaluate.envelope import Envelope, RecordedList
from sidecar.core.evaluate.explanation import (
    ConnectPart,
    Explanation,
    MessageAction,
    MessagePart,
    Question,
    RecipientPart,
    SigningPart,
    SuppressedPart,
)
from sidecar.core.evaluate.proofs import message_proof
from sidecar.core.names import normal_listener, split_endpoint
from sidecar.core.policy import Because, ConnectAnswer, MessageAnswer, Policy, RecipientAnswer, compile_policy, judge_message
from sidecar.core.policy.address import is_text
from sidecar.core.policy.answers import REQUIRED, requiring_proof
from sidecar.core.proof.address import obstacle
from sidecar.core.proof.trace import FEEDBACK_ID, NAME
from sidecar.core.records import Record, with_numbers
from sidecar.core.session import Rules, Session, World, replies
from sidecar.core.session.events import Connect, Data, Helo, Mail, Rcpt, content_events
from sidecar.core.session.signing import CFBL_ADDRESS, signing_of
from sidecar.core.session.suppressing import SuppressionList, meta_of, sender_check
from sidecar.core.session.verdicts import Accept, Continue, Discard, Outcome, Reject, Tempfail
from sidecar.core.session.verifying import check_token
from sidecar.core.settings.proof import VerifyRule
from sidecar.core.settings.settings import Settings
from sidecar.core.settings.values import ANY_LISTENER, LogMode

_NO_NODE: Final = str(UUID(int=0))
_ACTIONS: Final[dict[type, MessageAction]] = {Accept: "accept", Discard: "discard"}


class Undecided(StrEnum):
    """What a record does not contain, and the decision depends on."""

    RECIPIENTS_UNKNOWN = "recipients_unknown"
    CONTENT_UNKNOWN = "content_unknown"
    PROOF_UNKNOWN = "proof_unknown"

    @property
    def words(self) -> str:
        """The value as tables show it to people."""
        return _UNDECIDED[self]


_UNDECIDED: Final = {
    Undecided.RECIPIENTS_UNKNOWN: "recipients unknown",
    Undecided.CONTENT_UNKNOWN: "accepted if a report",
    Undecided.PROOF_UNKNOWN: "accepted if verified",
}

EnvelopeOutcome = Disposition | Undecided
"""What a configuration decides on an envelope."""

ONLY_REPORTS: Final = 1
REACH: Final[dict[EnvelopeOutcome, int]] = {
    Undecided.CONTENT_UNKNOWN: ONLY_REPORTS,
    Undecided.PROOF_UNKNOWN: ONLY_REPORTS,
    Disposition.QUARANTINED: 2,
    Disposition.LOGGED_AND_DROPPED: 2,
    Disposition.RELAYED: 3,
    Disposition.LOGGED_AND_RELAYED: 3,
}
"""How far a message gets. Other outcomes are rejections, or can become one."""


class Judgement(Struct, frozen=True, kw_only=True):
    """All answers for one envelope. `message` is None if no recipient is accepted, or if the content is not known."""

    outcome: EnvelopeOutcome
    connect: ConnectAnswer
    recipients: tuple[RecipientAnswer, ...] = ()
    message: MessageAnswer | None = None


class Evaluator:
    """One configuration, ready for questions and envelopes. `policy` is that of `settings`, if the caller has compiled it.

    Questions look recipients up in `suppression`; without it, none is suppressed.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        policy: Policy | None = None,
        node_id: str | None = None,
        suppression: SuppressionList | None = None,
    ) -> None:
        self.settings = settings
        self.policy = compile_policy(settings) if policy is None else policy
        self._node_id = node_id or settings.node_id or _NO_NODE
        self._rules = Rules(policy=self.policy, settings=settings)
        self._suppression = suppression

    def explain(
        self, question: Question, message: bytes | None, *, clock: Callable[[], float], new_id: Callable[[], object]
    ) -> Explanation:
        """Run the question through a new session. `clock` and `new_id` are for its records.

        Raises ValueError if the peer or the listener is not an address.
        """
        world = World(clock=clock, new_id=lambda: str(new_id()), node_id=self._node_id, suppression=self._suppression)
        session = Session(rules=lambda: self._rules, world=world)
        connect = _connect(question, session)
        if connect.action == "reject":
            part = _not_received(connect.reply, Disposition.REJECTED_AT_CONNECT)
            return Explanation(connect=connect, recipients=[], message=part)
        if question.helo is not None:
            session.handle(Helo(name=question.helo))
        # A peer declares the size of its message (RFC 1870); records have it if the verdict comes before the body.
        size = None if message is None else len(message)
        session.handle(Mail(sender=_bare(question.sender), authz_id=question.auth, declared_size=size))
        addresses = [*map(_bare, question.to)]
        outcomes = [session.handle(Rcpt(address=one, mta_spelling=one)) for one in addresses]
        recipients = [self._recipient(address, outcome) for address, outcome in zip(addresses, outcomes, strict=True)]
        accepted = [one.answer for one in outcomes if isinstance(one.verdict, Continue)]
        signing = self._signing(accepted[0], _bare(question.sender)) if accepted else UNSET
        if not accepted:
            part = _not_received(recipients[0].reply if recipients else None, Disposition.REJECTED_AT_RCPT)
        elif message is None:
            part = replace(_message_part(None), signing=signing)
        else:
            part = _message(message, session, signing=signing)
        return Explanation(connect=connect, recipients=recipients, message=part)

    def _signing(self, first: object, sender: str) -> SigningPart | UnsetType:
        """Return what [sign] adds to a message at most. `first` is the answer to its first recipient."""
        sign, is_outbound = self.settings.sign, isinstance(first, RecipientAnswer) and first.outbound
        if sign is None or not is_outbound or signing_of(self.settings, sender) is None:
            return UNSET
        fields = [NAME] * sign.header + [CFBL_ADDRESS, FEEDBACK_ID] * (sign.cfbl_address is not None)
        return SigningPart(header_fields=fields, envelope_sender=sign.address and obstacle(sender) is None)

    def judge(self, envelope: Envelope) -> Judgement:
        """Ask the policy as a session does: at connect, for each recipient, and for the message.

        The limits of a session, which give 4xx replies, are left out: they do not depend on the policy.
        """
        connect = self.policy.at_connect(envelope.peer, envelope.listener)
        if not connect.accept and self.settings.reject_at_connect:
            return Judgement(outcome=Disposition.REJECTED_AT_CONNECT, connect=connect)
        if not envelope.recipients:
            return Judgement(outcome=Undecided.RECIPIENTS_UNKNOWN, connect=connect)
        recipients = tuple(self._at_rcpt(envelope, recipient) for recipient in envelope.recipients)
        accepted = [recipient for recipient in recipients if recipient.accept]
        if not accepted:
            return Judgement(outcome=Disposition.REJECTED_AT_RCPT, connect=connect, recipients=recipients)
        if envelope.kind == "unknown" and any(recipient.accepts_reports for recipient in accepted):
            relayed = any(recipient.relay for recipient in accepted)
            outcome: EnvelopeOutcome = Disposition.RELAYED if relayed else Undecided.CONTENT_UNKNOWN
            return Judgement(outcome=outcome, connect=connect, recipients=recipients)
        is_oob = envelope.kind == "oob" and (self.settings.accepts_text or not envelope.in_text)
        message = judge_message(accepted, is_oob=is_oob, is_arf=envelope.kind == "arf")
        unproved = self._unproved(message)
        if unproved and envelope.verified is None:
            return Judgement(outcome=Undecided.PROOF_UNKNOWN, connect=connect, recipients=recipients)
        if unproved and envelope.verified == "none":
            message = requiring_proof(message, unproved)
        outcome, kept = message.disposition, message.unverified
        if envelope.kind == "unreadable":
            kept = self.settings.unparsable_reports
        if outcome == Disposition.REJECTED_AT_END and kept == "quarantine":
            outcome = Disposition.QUARANTINED
        return Judgement(outcome=outcome, connect=connect, recipients=recipients, message=message)

    def _unproved(self, message: MessageAnswer) -> dict[str, VerifyRule]:
        """Return the rules of the recipients that log a report and do not accept one that proves nothing."""
        if (verify := self.settings.verify) is None:
            return {}
        logging = [one.recipient for one in message.results if one.logged_as is not None]
        rules = {recipient.address: verify.rule_of(recipient.domain) for recipient in logging}
        return {address: rule for address, rule in rules.items() if rule.unverified != "accept"}

    def _at_rcpt(self, envelope: Envelope, recipient: str) -> RecipientAnswer:
        if is_text(recipient):
            answer = self.policy.at_rcpt(envelope.peer, envelope.listener, envelope.authz_id, envelope.sender, recipient)
            if answer.accept and (verify := self.settings.verify) is not None:
                answer = check_token(answer, verify, envelope.at)
            return self._with_list(envelope, answer)
        return RecipientAnswer(
            address=recipient,
            domain="",
            relay=False,
            log_oob=LogMode.IGNORE,
            log_arf=LogMode.IGNORE,
            because=(Because(text="the recipient's address has characters or a length that no address has"),),
        )

    def _with_list(self, envelope: Envelope, answer: RecipientAnswer) -> RecipientAnswer:
        """Return the answer to a recipient that was on the suppression list when the record was written."""
        if envelope.suppressed is None or not answer.accept:
            return answer
        connect = self.policy.at_connect(envelope.peer, envelope.listener)
        check = sender_check(self.settings.suppression, RecordedList(entry=envelope.suppressed), envelope.sender)
        if check is None or not connect.accept or connect.deferred:  # only relay hosts are checked
            return answer
        return check.look_up(answer, envelope.at).answer or answer

    def _recipient(self, address: str, outcome: Outcome) -> RecipientPart:
        reply = _reply(outcome)
        if isinstance(outcome.answer, RecipientAnswer):
            part = _recipient_part(outcome.answer, reply)
        else:
            reason = Because(text="" if outcome.decision is None else outcome.decision.why)
            part = RecipientPart(address=address, action="accept" if reply is None else "reject", reply=reply, because=[reason])
        if (entry := outcome.suppressed) is None or self.settings.suppression is None:
            return part
        rule = next((rule for rule in self.settings.suppression.rule if entry.reason in rule.when), None)
        place = None if rule is None or rule.where is None or entry.source != "reports" else str(rule.where)
        return replace(part, suppressed=msgspec.convert({**meta_of(entry), "rule": place}, SuppressedPart))


def deciding(judgement: Judgement) -> tuple[Because, ...]:
    """Return the reasons that decided the outcome, in order."""
    match judgement.outcome:
        case Disposition.REJECTED_AT_CONNECT | Undecided.RECIPIENTS_UNKNOWN:
            return judgement.connect.because
        case Disposition.REJECTED_AT_RCPT:
            return judgement.recipients[0].because
        case Undecided.CONTENT_UNKNOWN | Undecided.PROOF_UNKNOWN:
            return next(recipient.because for recipient in judgement.recipients if recipient.accept)
        case Disposition.RELAYED if judgement.message is None:
            return next(recipient.because[:1] for recipient in judgement.recipients if recipient.relay)
        case _:
            assert judgement.message is not None  # noqa: S101 - every other outcome has one
            results = judgement.message.results
            relayed = (result for result in results if result.relayed)
            logged = (result for result in results if result.logged_as is not None)
            return ((next(relayed, None) or next(logged, None) or results[0]).because,)


def explanation_of(envelope: Envelope, judgement: Judgement) -> Explanation:
    """Return a judgement in the shape of an explanation: as for a question, but without records."""
    # No record has the peer's port in its own field.
    not_permitted = str(replies.relaying_not_permitted(envelope.peer, None))
    outcome, answer = judgement.outcome, judgement.message
    recipients = []
    for one in judgement.recipients:
        reply = not_permitted if is_text(one.address) else str(replies.UNREADABLE_ADDRESS)
        if one.because[0].value == REQUIRED:
            reply = str(replies.ADDRESS_REQUIRED)
        elif envelope.suppressed is not None and one.because[0].value == "reject":
            reply = str(replies.suppressed(one.address, envelope.suppressed))
        recipients.append(_recipient_part(one, None if one.accept else reply))
    disposition = outcome if isinstance(outcome, Disposition) else None
    if answer is None:
        message = _message_part(disposition)
    else:
        action = "discard" if outcome == Disposition.QUARANTINED else answer.action
        reply = str(replies.NOT_A_REPORT if answer.unverified is None else replies.UNVERIFIED)
        message = _message_part(disposition, action, reply if action == "reject" else None, answer)
    rejected = outcome == Disposition.REJECTED_AT_CONNECT
    return Explanation(
        connect=_connect_part(judgement.connect, not_permitted if rejected else None), recipients=recipients, message=message
    )


# --- the steps of a session


def _connect(question: Question, session: Session) -> ConnectPart:
    peer, port = split_endpoint(question.peer)
    listener = ANY_LISTENER if question.listener is None else normal_listener(question.listener)
    outcome = session.handle(Connect(peer=peer, port=port, listener=listener))
    assert isinstance(outcome.answer, ConnectAnswer)  # noqa: S101 - a question has a listener, so the policy has answered
    return _connect_part(outcome.answer, _reply(outcome))


def _message(message: bytes, session: Session, *, signing: SigningPart | UnsetType) -> MessagePart:
    """Pass the message to the session until there is a verdict. `signing` is what it can get."""
    outcome = session.handle(Data())
    rest = content_events(message)
    while isinstance(outcome.verdict, Continue):
        outcome = session.handle(next(rest))
    answer = outcome.answer if isinstance(outcome.answer, MessageAnswer) else None
    assert outcome.decision is not None  # noqa: S101 - each verdict on a message has one
    action = _ACTIONS.get(type(outcome.verdict), "reject")
    part = _message_part(outcome.decision.disposition, action, _reply(outcome), answer, outcome.records)
    if isinstance(verdict := outcome.verdict, Accept) and signing is not UNSET:
        fields = [name for name, _ in verdict.fields]
        part = replace(part, signing=SigningPart(header_fields=fields, envelope_sender=verdict.sender is not None))
    if outcome.verified is None:
        return part
    rules = [] if answer is None else [result.because for result in answer.results if result.unverified is not None]
    return replace(part, verification=message_proof(outcome.verified, rules))


def _not_received(reply: str | None, disposition: Disposition) -> MessagePart:
    """Return the part of a message that does not arrive, because of the reply at connect or to all recipients."""
    tempfailed = reply is not None and reply.startswith("4")
    return _message_part(Disposition.TEMPFAILED if tempfailed else disposition)


def _bare(address: str) -> str:
    return address[1:-1] if address.startswith("<") and address.endswith(">") else address


def _reply(outcome: Outcome) -> str | None:
    return str(outcome.verdict.reply) if isinstance(outcome.verdict, Reject | Tempfail) else None


# --- answers as parts of an explanation


def _connect_part(answer: ConnectAnswer, reply: str | None) -> ConnectPart:
    return ConnectPart(
        action="continue" if reply is None else "reject",
        deferred=answer.deferred or (not answer.accept and reply is None),
        reply=reply,
        because=[str(reason) for reason in answer.because],
    )


def _recipient_part(answer: RecipientAnswer, reply: str | None) -> RecipientPart:
    return RecipientPart(
        address=answer.address,
        action="accept" if reply is None else "reject",
        reply=reply,
        relay=answer.relay,
        log_oob=answer.log_oob,
        log_arf=answer.log_arf,
        because=list(answer.because),
    )


def _for_json(record: Record) -> Record:
    report = record.feedback_report
    return record if report is None else replace(record, feedback_report=with_numbers(report))


def _message_part(
    disposition: Disposition | None,
    action: MessageAction | None = None,
    reply: str | None = None,
    answer: MessageAnswer | None = None,
    records: Iterable[Record] = (),
) -> MessagePart:
    results = () if answer is None else answer.results
    return MessagePart(
        disposition=disposition,
        action=action,
        reply=reply,
        report=None if answer is None else answer.logged_as,
        relayed=[result.recipient.address for result in results if result.relayed],
        dropped=[result.recipient.address for result in results if action != "reject" and not result.relayed],
        records=[*map(_for_json, records)],
    )
