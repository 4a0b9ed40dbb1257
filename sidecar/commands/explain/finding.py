"""A record put to a configuration: is what it says what this configuration would do?

Owns the comparison. Never puts it into words.
"""

from collections.abc import Iterator

from msgspec import Struct
from msgspec.structs import replace

from sidecar.commands.explain.follow_up import Entry, FollowUp
from sidecar.core.disposition import REJECTED, Disposition
from sidecar.core.evaluate.envelope import Envelope, MessageKind, RecordedAnswer, envelope_of, recorded_answer
from sidecar.core.evaluate.evaluator import Evaluator, Judgement, Undecided
from sidecar.core.policy import Policy, RecipientAnswer
from sidecar.core.policy.address import domain_of
from sidecar.core.records import Logged
from sidecar.core.settings.values import ANY_LISTENER, LogMode

_KINDS: dict[FollowUp, MessageKind] = {"bounce_report": "oob", "rejected": "other"}


class ComparedRecord(Struct, frozen=True, kw_only=True):
    """A record under a configuration. `agrees` is None where the record does not tell enough to say.

    `is_follow_up` marks what only adds to a message that another record told of; `is_untold` what agrees or not by the listener
    or the login, which the record does not tell.
    """

    record: Logged
    answer: RecordedAnswer
    follow_up: FollowUp | None
    is_follow_up: bool
    envelope: Envelope
    judgement: Judgement
    agrees: bool | None
    is_untold: bool


def find(entry: Entry, evaluator: Evaluator) -> ComparedRecord | None:
    """Judge a record; None where it tells of mail that went out. Raises ValueError where it does not tell enough."""
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
    agrees = _agrees(answer, entry.follow_up, judgement) if came_by_smtp(record) else None
    is_untold = agrees is False and any(
        _agrees(answer, entry.follow_up, evaluator.judge(other)) is not False
        for other in _others(envelope, answer, evaluator.policy)
    )
    return ComparedRecord(
        record=record,
        answer=answer,
        follow_up=entry.follow_up,
        is_follow_up=entry.is_follow_up,
        envelope=envelope,
        judgement=judgement,
        agrees=None if is_untold else agrees,
        is_untold=is_untold,
    )


def _others(envelope: Envelope, answer: RecordedAnswer, policy: Policy) -> Iterator[Envelope]:
    """Give the envelopes for which the record may stand as well, by what it does not tell.

    KumoMTA's log tells neither listener nor login, unless its `meta` lists them; an MTA may not tell us the listener.
    """
    listeners = (ANY_LISTENER, *sorted(policy.listeners)) if envelope.listener == ANY_LISTENER else (envelope.listener,)
    for listener in listeners:
        yield replace(envelope, listener=listener)
        sender = policy.lookup(listener, domain_of(envelope.sender))
        if sender is not None and envelope.authz_id is None and not answer.is_ours:
            for login in sender.relay_from_authz:
                yield replace(envelope, listener=listener, authz_id=login)


def came_by_smtp(record: Logged) -> bool:
    """Tell whether the listener policy had a say: KumoMTA takes mail over HTTP as well, and writes a Reception for it."""
    return record.reception_protocol is None or "SMTP" in record.reception_protocol.upper()


def _agrees(answer: RecordedAnswer, follow_up: FollowUp | None, judgement: Judgement) -> bool | None:
    match answer.happened:
        case "accepted":
            return _agrees_accepted(answer, follow_up, judgement)
        case "quarantined":
            return judgement.outcome == Disposition.QUARANTINED
        case "rejected":
            return _agrees_rejected(answer, judgement)
        case _:
            return None


def _agrees_accepted(answer: RecordedAnswer, follow_up: FollowUp | None, judgement: Judgement) -> bool | None:
    outcome = judgement.outcome
    if follow_up == "rejected":
        return outcome in REJECTED
    if outcome == Undecided.RECIPIENTS_UNKNOWN:
        return None
    if outcome in REJECTED or rejected_among(judgement):
        return False
    if outcome != Undecided.CONTENT_UNKNOWN or answer.is_ours:
        return True
    # KumoMTA's Reception alone does not say that the message was taken; but if it went out, it was, as mail or as a report.
    return False if follow_up == "outgoing" and not any(_passes_on(judgement)) else None


def rejected_among(judgement: Judgement) -> list[RecipientAnswer]:
    """Give the recipients that are rejected at RCPT."""
    return [recipient for recipient in judgement.recipients if not recipient.accept]


def _passes_on(judgement: Judgement) -> list[bool]:
    return [LogMode.LOG_THEN_RELAY in {recipient.log_oob, recipient.log_arf} for recipient in judgement.recipients]


def _agrees_rejected(answer: RecordedAnswer, judgement: Judgement) -> bool | None:
    if judgement.outcome == Undecided.RECIPIENTS_UNKNOWN:
        return False if answer.stage == "connect" else None
    # What was rejected at RCPT may have been a report; today it would be seen.
    return judgement.outcome in REJECTED
