"""From a decision to its outcome: the records that it makes, and what the log tells of it.

Owns which records belong to which verdict. Never decides anything.
"""

from collections.abc import Sequence
from datetime import UTC, datetime

from msgspec.structs import replace

from sidecar.core.policy import ConnectAnswer, MessageAnswer, RecipientAnswer
from sidecar.core.policy.answers import sentence
from sidecar.core.records import Facts, Record, feedback, oob_bounces, quarantined, reception, rejection
from sidecar.core.records.build import MAILBOX_LIMIT
from sidecar.core.reports.values import ReportReading
from sidecar.core.session import kumomta
from sidecar.core.session.message import Message
from sidecar.core.session.verdicts import Accept, Decision, Discard, Outcome, Reject, Tempfail, UnparsableReport, action_of
from sidecar.core.session.words import response


def rejected_peer(facts: Facts, verdict: Reject | Tempfail, why: str, answer: ConnectAnswer | None) -> Outcome:
    """Return the outcome for a peer that is rejected at connect."""
    record = rejection(facts, recipients=(), response=response(verdict.reply, "CONNECT"), why=why)
    decision = Decision(stage="connect", action=action_of(verdict), disposition=facts.disposition, why=why)
    return Outcome(verdict=verdict, records=(record,), decision=decision, answer=answer)


def rejected_recipient(  # noqa: PLR0913, PLR0917 - the facts, and each part of the decision
    facts: Facts, message: Message, address: str, verdict: Reject | Tempfail, why: str, answer: RecipientAnswer | None
) -> Outcome:
    """Return the outcome for a recipient that is rejected at RCPT."""
    name = address[:MAILBOX_LIMIT]
    record = rejection(facts, recipients=(name,), response=response(verdict.reply, f"RCPT TO:<{name}>"), why=why)
    if facts.compat is not None:
        record = kumomta.recipient_rejection(record, message)
    decision = _decision(facts, message, "rcpt", verdict, why, recipients=(address,))
    return Outcome(verdict=verdict, records=(record,), decision=decision, answer=answer)


def rejected_message(
    facts: Facts, message: Message, verdict: Reject | Tempfail, why: str, answer: MessageAnswer | None
) -> Outcome:
    """Return the outcome for a message that is rejected. `answer` is None where a bound was reached first."""
    addresses = tuple(recipient.address for recipient in message.recipients)
    records: tuple[Record, ...] = (rejection(facts, recipients=addresses, response=response(verdict.reply, "DATA"), why=why),)
    if facts.compat is not None:
        records = kumomta.message_rejection(records[0], message, facts, answer)
    decision = _decision(facts, message, "message", verdict, why, recipients=addresses)
    return Outcome(verdict=verdict, records=records, decision=decision, answer=answer)


def quarantined_message(  # noqa: PLR0913, PLR0917 - the facts, and each part of the decision
    facts: Facts, message: Message, answer: MessageAnswer, reading: ReportReading, network: str, full: Outcome
) -> Outcome:
    """Return the outcome for an unparsable report; `full` replaces it where the quarantine has no room."""
    why = f"{reading.why}; it claims to be one, so it is put into the quarantine and not delivered"
    name = f"{datetime.fromtimestamp(facts.now, UTC):%Y%m%d-%H%M%S}-{message.message_id}-{network}"
    addresses = tuple(result.address for result in answer.results)
    queue = answer.results[0].domain
    record = quarantined(facts, recipients=addresses, queue=queue, size=message.size, why=why, file=f"{name}.eml")
    return Outcome(
        verdict=Discard(),
        records=(record,),
        durable=True,
        unparsable=UnparsableReport(name=name, content=message.content, full=full),
        decision=_decision(facts, message, "message", Discard(), why, recipients=addresses),
        answer=answer,
    )


def accepted_message(facts: Facts, message: Message, answer: MessageAnswer, reading: ReportReading) -> Outcome:
    """Return the outcome for a message that some recipient gets, or whose report is logged."""
    why = sentence(answer)
    gone = (spelling for spelling, result in zip(message.mta_spellings, answer.results, strict=True) if not result.relayed)
    verdict = Discard() if answer.action == "discard" else Accept(without=tuple(gone))
    return Outcome(
        verdict=verdict,
        records=_received(facts, message, answer, reading, why),
        durable=answer.logged_as is not None,
        decision=_decision(
            facts, message, "message", verdict, why, recipients=tuple(result.address for result in answer.results)
        ),
        answer=answer,
    )


def _received(facts: Facts, message: Message, answer: MessageAnswer, reading: ReportReading, why: str) -> tuple[Record, ...]:
    """Return the record of the message, and one for each bounce that it reports."""
    received = [result for result in answer.results if result.relayed or result.logged_as is not None]
    dropped: Sequence[str] = [result.address for result in answer.results if not result.relayed and result.logged_as is None]
    facts = replace(facts, dropped=dropped) if dropped else facts
    recipients = [result.address for result in received]
    queue = received[0].domain
    if answer.logged_as == "arf" and reading.arf is not None:
        first = feedback(facts, recipients=recipients, queue=queue, size=message.size, why=why, report=reading.arf)
    else:
        first = reception(facts, recipients=recipients, queue=queue, size=message.size, why=why)
    own = next((result for result in answer.results if result.logged_as == "oob"), None)
    if own is None or reading.oob is None:
        return (first,)
    facts = replace(facts, disposition=answer.disposition_of(own))
    bounces = oob_bounces(facts, report=reading.oob, recipient=own.address, queue=own.domain, why=str(own.because))
    return (first, *bounces)


def _decision(  # noqa: PLR0913 - the facts, and each part of the decision
    facts: Facts,
    message: Message,
    stage: str,
    verdict: Accept | Reject | Tempfail | Discard,
    why: str,
    *,
    recipients: tuple[str, ...],
) -> Decision:
    return Decision(
        stage=stage,
        action=action_of(verdict),
        disposition=facts.disposition,
        why=why,
        sender=message.mail.sender,
        recipients=recipients,
        queue_id=message.queue_id,
    )
