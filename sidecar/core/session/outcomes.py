"""From a decision to its outcome: the records that belong to it, and the decision for the log.

Owns which records belong to which verdict, and what `compat = "kumomta"` changes in them. Never decides anything.
"""

from datetime import UTC, datetime

from msgspec.structs import replace

from sidecar.core.policy import ConnectAnswer, MessageAnswer, RecipientAnswer
from sidecar.core.policy.answers import sentence
from sidecar.core.records import EnhancedCode, Facts, Record, Response, oob_bounces, reception, rejection
from sidecar.core.records.build import MAILBOX_LIMIT
from sidecar.core.reports.values import ReportReading
from sidecar.core.session.message import Message
from sidecar.core.session.verdicts import Accept, Decision, Discard, Outcome, Reject, Reply, Tempfail, UnparsableReport


def rejected_peer(facts: Facts, verdict: Reject | Tempfail, why: str, answer: ConnectAnswer | None) -> Outcome:
    """Return the outcome for a peer that is rejected at connect."""
    record = rejection(facts, recipients=(), response=_response(verdict.reply, "CONNECT"), why=why)
    decision = replace(_decision(facts, "connect", verdict, why), sender=None)
    return Outcome(verdict=verdict, records=(record,), decision=decision, answer=answer)


def rejected_recipient(  # noqa: PLR0913, PLR0917 - the facts, and each part of the decision
    facts: Facts, message: Message, address: str, verdict: Reject | Tempfail, why: str, answer: RecipientAnswer | None
) -> Outcome:
    """Return the outcome for a recipient that is rejected at RCPT."""
    name = address[:MAILBOX_LIMIT]
    record = rejection(facts, recipients=(name,), response=_response(verdict.reply, f"RCPT TO:<{name}>"), why=why)
    if facts.compat is not None:
        # KumoMTA has the rejected recipient in the command only; the record's own is the last one that was accepted.
        record = _as_kumomta(record, recipient=message.recipients[-1].address if message.recipients else "")
    decision = _decision(facts, "rcpt", verdict, why, (address,))
    return Outcome(verdict=verdict, records=(record,), decision=decision, answer=answer)


def rejected_message(
    facts: Facts, message: Message, verdict: Reject | Tempfail, why: str, answer: MessageAnswer | None
) -> Outcome:
    """Return the outcome for a message that is rejected. `answer` is None if a bound was reached first."""
    addresses = message.addresses
    record = rejection(facts, recipients=addresses, response=_response(verdict.reply, "DATA"), why=why)
    records: tuple[Record, ...] = (record,)
    if facts.compat is not None:
        record = replace(record, id="")
        if answer is None:
            records = (_as_kumomta(record, recipient=addresses[-1]),)
        else:
            # KumoMTA records what its policy rejects as received before, and then has no envelope any more.
            received = reception(facts, recipients=addresses, queue=message.recipients[0].domain, size=message.size, why=why)
            records = received, _as_kumomta(replace(record, sender=""), recipient="")
    decision = _decision(facts, "message", verdict, why, addresses)
    return Outcome(verdict=verdict, records=records, decision=decision, answer=answer)


def quarantined_message(  # noqa: PLR0913, PLR0917 - the facts, and each part of the decision
    facts: Facts, message: Message, answer: MessageAnswer, reading: ReportReading, network: str, full: Outcome
) -> Outcome:
    """Return the outcome for an unparsable report; `full` replaces it if the quarantine is full."""
    why = f"{reading.why}; it claims to be a report, so it is quarantined and not delivered"
    name = f"{datetime.fromtimestamp(facts.now, UTC):%Y%m%d-%H%M%S}-{message.message_id}-{network}"
    addresses, queue = message.addresses, message.recipients[0].domain
    record = reception(facts, recipients=addresses, queue=queue, size=message.size, why=why, quarantine=f"{name}.eml")
    return Outcome(
        verdict=Discard(),
        records=(record,),
        durable=True,
        unparsable=UnparsableReport(name=name, content=message.content, full=full),
        decision=_decision(facts, "message", Discard(), why, addresses),
        answer=answer,
    )


def accepted_message(facts: Facts, message: Message, answer: MessageAnswer, reading: ReportReading) -> Outcome:
    """Return the outcome for a message that is relayed to a recipient, or logged as a report."""
    why = sentence(answer)
    if answer.action == "discard":
        verdict: Accept | Discard = Discard()
    else:
        verdict = Accept(without=tuple(result.recipient.mta_spelling for result in answer.results if not result.relayed))
    return Outcome(
        verdict=verdict,
        records=_received(facts, message, answer, reading, why),
        durable=answer.logged_as is not None,
        decision=_decision(facts, "message", verdict, why, message.addresses),
        answer=answer,
    )


def _received(facts: Facts, message: Message, answer: MessageAnswer, reading: ReportReading, why: str) -> tuple[Record, ...]:
    """Return the record of the message, and one for each bounce that it reports."""
    received = [result for result in answer.results if result.relayed or result.logged_as is not None]
    first = reception(
        facts,
        recipients=[result.recipient.address for result in received],
        dropped=[result.recipient.address for result in answer.results if not result.relayed and result.logged_as is None],
        queue=received[0].recipient.domain,
        size=message.size,
        why=why,
        report=reading.arf if answer.logged_as == "arf" else None,
    )
    own = next((result for result in received if result.logged_as == "oob"), None)
    if own is None or reading.oob is None:
        return (first,)
    facts = replace(facts, disposition=answer.disposition_of(own))
    bounces = oob_bounces(
        facts, report=reading.oob, recipient=own.recipient.address, queue=own.recipient.domain, why=str(own.because)
    )
    return (first, *bounces)


def _response(reply: Reply, command: str) -> Response:
    """Return a reply as records have it, with the SMTP command that it answers."""
    class_, subject, detail = map(int, reply.enhanced.split("."))
    enhanced = EnhancedCode(class_=class_, subject=subject, detail=detail)
    return Response(code=reply.code, enhanced_code=enhanced, content=reply.text, command=command)


def _as_kumomta(record: Record, *, recipient: str) -> Record:
    """Return a Rejection as KumoMTA writes it: created when it is written, and without the message's headers."""
    return replace(record, recipient=recipient, created=record.timestamp, created_time=record.event_time, headers={})


def _decision(
    facts: Facts, stage: str, verdict: Accept | Reject | Tempfail | Discard, why: str, recipients: tuple[str, ...] = ()
) -> Decision:
    return Decision(
        stage=stage,
        action=type(verdict).__name__.lower(),
        disposition=facts.disposition,
        why=why,
        sender=facts.sender,
        recipients=recipients,
        queue_id=facts.queue_id,
    )
