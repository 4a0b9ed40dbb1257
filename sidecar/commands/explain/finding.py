"""A record compared with a configuration: do the two agree, and if not, why.

Owns the comparison. Never writes a sentence about it.
"""

from collections.abc import Iterator

from msgspec import Struct
from msgspec.structs import replace

from sidecar.commands.explain.follow_up import Entry, FollowUp
from sidecar.core.disposition import REJECTED, Disposition
from sidecar.core.evaluate.envelope import Envelope, MessageKind, RecordedAnswer, envelope_of, recorded_answer
from sidecar.core.evaluate.evaluator import Evaluator, Judgement, Undecided, deciding
from sidecar.core.policy import Because, Policy, RecipientAnswer
from sidecar.core.policy.address import domain_of
from sidecar.core.records import Logged
from sidecar.core.settings.values import ANY_LISTENER, LogMode

_KINDS: dict[FollowUp, MessageKind] = {"bounce_report": "oob", "rejected": "other"}


class ComparedRecord(Struct, frozen=True, kw_only=True):
    """A record under a configuration. `agrees` is None if the record does not contain enough to compare them.

    `is_follow_up`: another record has started this message. `needs_more`: the agreement depends on the listener or the login,
    and the record does not contain it.
    """

    record: Logged
    answer: RecordedAnswer
    follow_up: FollowUp | None
    is_follow_up: bool
    envelope: Envelope
    judgement: Judgement
    agrees: bool | None
    needs_more: bool

    @property
    def is_counted_elsewhere(self) -> bool:
        """True if another record is about the same message: the Reception of a bounce report, or of a later rejection."""
        return self.is_follow_up or self.record.type == "OOB"

    @property
    def rejected_among(self) -> list[RecipientAnswer]:
        """The recipients that are rejected at RCPT."""
        return [recipient for recipient in self.judgement.recipients if not recipient.accept]


class Disagreement(Struct, frozen=True, kw_only=True):
    """A record that this configuration decides otherwise, and why; the rule first.

    `recipient` is the rejected one if others are accepted; None if all have one disposition.
    """

    accepts: bool
    recipient: str | None
    because: tuple[Because, ...]


def find(entry: Entry, evaluator: Evaluator) -> ComparedRecord | None:
    """Return the comparison; None for outgoing mail. Raises ValueError if the record does not contain enough."""
    record = entry.record
    if record is None:
        raise ValueError(entry.fault)
    answer = recorded_answer(record)
    if answer.happened == "outgoing":
        return None
    envelope = envelope_of(record)
    if entry.follow_up in _KINDS:
        envelope = replace(envelope, kind=_KINDS[entry.follow_up])
    judgement = evaluator.judge(envelope)
    agrees = _agrees(answer, entry.follow_up, judgement) if received_by_smtp(record) else None
    needs_more = agrees is False and any(
        _agrees(answer, entry.follow_up, evaluator.judge(other)) is not False
        for other in _possible_envelopes(envelope, answer, evaluator.policy)
    )
    return ComparedRecord(
        record=record,
        answer=answer,
        follow_up=entry.follow_up,
        is_follow_up=entry.is_follow_up,
        envelope=envelope,
        judgement=judgement,
        agrees=None if needs_more else agrees,
        needs_more=needs_more,
    )


def disagreement(found: ComparedRecord) -> Disagreement | None:
    """Return how this configuration decides otherwise; None if it does not, or if that is not known.

    A quarantined message was accepted as well.
    """
    if found.agrees is not False or found.is_counted_elsewhere:
        return None
    outcome = found.judgement.outcome
    if found.answer.happened == "rejected" or found.follow_up == "rejected":
        return Disagreement(accepts=True, recipient=None, because=deciding(found.judgement))
    if outcome not in REJECTED and (rejected := found.rejected_among):
        return Disagreement(accepts=False, recipient=rejected[0].address, because=rejected[0].because)
    if outcome in REJECTED or found.answer.happened != "quarantined":
        return Disagreement(accepts=False, recipient=None, because=deciding(found.judgement))
    return None


def received_by_smtp(record: Logged) -> bool:
    """Return True if the listener policy applies: KumoMTA also accepts mail over HTTP, and writes a Reception for it."""
    return record.reception_protocol is None or "SMTP" in record.reception_protocol.upper()


def _possible_envelopes(envelope: Envelope, answer: RecordedAnswer, policy: Policy) -> Iterator[Envelope]:
    """Return the envelopes that the record can stand for, with each listener and login that it does not contain.

    KumoMTA logs neither listener nor login, unless its `meta` lists them; an MTA may not pass the listener to us.
    """
    listeners = (ANY_LISTENER, *sorted(policy.listeners)) if envelope.listener == ANY_LISTENER else (envelope.listener,)
    for listener in listeners:
        yield replace(envelope, listener=listener)
        sender = policy.lookup(listener, domain_of(envelope.sender))
        if sender is not None and envelope.authz_id is None and not answer.is_ours:
            for login in sender.relay_from_authz:
                yield replace(envelope, listener=listener, authz_id=login)


def _agrees(answer: RecordedAnswer, follow_up: FollowUp | None, judgement: Judgement) -> bool | None:
    outcome = judgement.outcome
    match answer.happened:
        case "accepted":
            return _agrees_accepted(answer, follow_up, judgement)
        case "quarantined":
            return outcome == Disposition.QUARANTINED
        case "rejected" if outcome == Undecided.RECIPIENTS_UNKNOWN:
            return False if answer.stage == "connect" else None
        case "rejected":
            # A message that was rejected at RCPT may have been a report; now its content would be read.
            return outcome in REJECTED
        case _:
            return None


def _agrees_accepted(answer: RecordedAnswer, follow_up: FollowUp | None, judgement: Judgement) -> bool | None:
    outcome = judgement.outcome
    if follow_up == "rejected":
        return outcome in REJECTED
    if outcome == Undecided.RECIPIENTS_UNKNOWN:
        return None
    if outcome in REJECTED or not all(recipient.accept for recipient in judgement.recipients):
        return False
    if outcome != Undecided.CONTENT_UNKNOWN or answer.is_ours:
        return True
    # KumoMTA's Reception alone does not mean that the message was accepted. If it was sent on, it was, as mail or as a report.
    relays_reports = any(LogMode.LOG_THEN_RELAY in {one.log_oob, one.log_arf} for one in judgement.recipients)
    return False if follow_up == "outgoing" and not relays_reports else None
