"""From a decision to its outcome: the records that belong to it, and the decision for the log.

Owns which records belong to which verdict, and what `compat = "kumomta"` changes in them. Never decides anything.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from functools import lru_cache
from itertools import takewhile

from msgspec import Raw
from msgspec.structs import replace

from sidecar.core.disposition import Disposition
from sidecar.core.policy import ConnectAnswer, MessageAnswer
from sidecar.core.policy.answers import sentence
from sidecar.core.records import (
    UNPARSABLE,
    EnhancedCode,
    Facts,
    ForRecipient,
    Record,
    Response,
    encode,
    mailbox,
    mailboxes,
    oob_bounces,
    original_of,
    receptions,
    rejection,
)
from sidecar.core.records.build import MAILBOX_LIMIT
from sidecar.core.records.record import RecordType
from sidecar.core.reports.values import ReportReading
from sidecar.core.session.message import Message
from sidecar.core.session.suppressing import JudgedRecipient, meta_of
from sidecar.core.session.verdicts import Accept, Decision, Discard, Outcome, Reject, Reply, Tempfail, UnparsableReport

# A bounce report goes to one address and names a thousand failures at most; KumoMTA writes each of them for each recipient.
OOB_RECORDS_LIMIT = 5000
# Likewise a complaint. Bytes of the records of a report for all recipients but the first: they are in memory at once.
REPEATED_LIMIT = 32 * 1024 * 1024


def rejected_peer(facts: Facts, verdict: Reject | Tempfail, why: str, answer: ConnectAnswer | None) -> Outcome:
    """Return the outcome for a peer that is rejected at connect."""
    disposition = _rejected(verdict, Disposition.REJECTED_AT_CONNECT)
    to = ForRecipient(id="", address="", disposition=disposition, why=why)
    record = rejection(facts, to, response=_response(verdict.reply, "CONNECT"))
    decision = replace(_decision(facts, "connect", verdict, disposition, why), sender=None)
    return Outcome(verdict=verdict, records=(record,), decision=decision, answer=answer)


def rejected_recipient(facts: Facts, message: Message, address: str, judged: JudgedRecipient) -> Outcome:
    """Return the outcome for a recipient that is rejected at RCPT."""
    assert judged.rejected is not None  # noqa: S101 - the caller's condition
    verdict, why = judged.rejected
    # For readers of the journal no message exists yet, so the record has no message id.
    facts = replace(facts, message_id="")
    disposition = _rejected(verdict, Disposition.REJECTED_AT_RCPT)
    entry = None if judged.entry is None else meta_of(judged.entry)
    to = ForRecipient(id="", address=mailbox(address), disposition=disposition, why=why, suppressed=entry)
    record = rejection(facts, to, response=_response(verdict.reply, f"RCPT TO:<{address[:MAILBOX_LIMIT]}>"))
    if facts.compat is not None:
        # KumoMTA has the rejected recipient in the command only; the record's own is the last one that was accepted.
        record = _as_kumomta(record, recipient=mailboxes(message.addresses[-1:]))
    decision = _decision(facts, "rcpt", verdict, disposition, why, (address,))
    return Outcome(
        verdict=verdict,
        records=(record,),
        decision=decision,
        answer=judged.answer,
        checked=judged.checked,
        suppressed=judged.entry,
    )


def rejected_message(  # noqa: PLR0913, PLR0917 - the facts, and each part of the decision
    facts: Facts,
    message: Message,
    verdict: Reject | Tempfail,
    why: str,
    answer: MessageAnswer | None = None,
    read_as: str = "",
) -> Outcome:
    """Return the outcome for a message that is rejected. `answer` is None if a bound was reached first.

    `read_as` is how a message was read that claims to be a report.
    """
    disposition = _rejected(verdict, Disposition.REJECTED_AT_END)
    read_as = "" if facts.compat is not None else read_as
    addresses = mailboxes(message.addresses)
    to = ForRecipient(
        id=message.message_id,
        address=addresses,
        disposition=disposition,
        why=why,
        read_as=read_as,
        verification=message.verification,
    )
    record = rejection(facts, to, response=_response(verdict.reply, "DATA"))
    records = [record]
    if facts.compat is not None:
        record = replace(record, id="")
        if answer is None:
            records = [_as_kumomta(record, recipient=mailboxes(message.addresses[-1:]))]
        else:
            # KumoMTA records what its policy rejects as received before, and then has no envelope any more.
            received = receptions(facts, _for_all(message, disposition, why), size=message.size)
            records = [*received, _as_kumomta(replace(record, sender=""), recipient="")]
    decision = _decision(facts, "message", verdict, disposition, why, message.addresses)
    return Outcome(verdict=verdict, records=tuple(records), decision=decision, answer=answer, verified=message.verification)


def quarantined_message(  # noqa: PLR0913, PLR0917 - the facts, and each part of the decision
    facts: Facts, message: Message, answer: MessageAnswer, reading: ReportReading, network: str, full: Outcome
) -> Outcome:
    """Return the outcome for an unparsable or unverified report; `full` replaces it if the quarantine is full."""
    reason = (
        "it claims to be a report, so it is quarantined and not delivered" if answer.unverified is None else sentence(answer)
    )
    why = f"{reading.why}; {reason}"
    name = f"{datetime.fromtimestamp(facts.now, UTC):%Y%m%d-%H%M%S}-{message.message_id}-{network}"
    disposition = Disposition.QUARANTINED
    read_as = "" if facts.compat is not None else reading.read_as or UNPARSABLE
    proof = message.verification
    recipients = [replace(one, read_as=read_as, verification=proof) for one in _for_all(message, disposition, why)]
    records = receptions(facts, recipients, size=message.size, quarantine=f"{name}.eml")
    record = replace(records[0], recipient=mailboxes(message.addresses))
    return Outcome(
        verdict=Discard(),
        records=tuple(records),
        durable=True,
        unparsable=UnparsableReport(name=name, content=message.content, record=record, full=full),
        decision=_decision(facts, "message", Discard(), disposition, why, message.addresses),
        answer=answer,
        verified=proof,
    )


def accepted_message(
    facts: Facts, message: Message, answer: MessageAnswer, reading: ReportReading, original_headers: tuple[str, ...]
) -> Outcome:
    """Return the outcome for a message that is relayed to a recipient, or logged as a report.

    `original_headers` are the header fields of a returned message that records keep besides the usual ones.
    """
    if answer.action == "discard":
        verdict: Accept | Discard = Discard()
    else:
        verdict = Accept(without=tuple(result.recipient.mta_spelling for result in answer.results if not result.relayed))
    return Outcome(
        verdict=verdict,
        records=_received(facts, message, answer, reading, original_headers),
        durable=answer.logged_as is not None,
        decision=_decision(facts, "message", verdict, answer.disposition, sentence(answer), message.addresses),
        answer=answer,
        verified=message.verification,
    )


def signed(outcome: Outcome, message: Message, answer: MessageAnswer, now: float) -> Outcome:
    """Return the outcome for an accepted message with its proofs, if it gets some."""
    if message.signing is None or not isinstance(outcome.verdict, Accept):
        return outcome
    relayed = [result.recipient.address for result in answer.results if result.relayed]
    verdict = message.signing.sign(outcome.verdict, sender=message.mail.sender, recipients=relayed, now=now)
    return replace(outcome, verdict=verdict)


def _received(
    facts: Facts, message: Message, answer: MessageAnswer, reading: ReportReading, original_headers: tuple[str, ...]
) -> tuple[Record, ...]:
    """Return the records of each recipient in turn, as KumoMTA writes them.

    A recipient that logs a feedback report has a Feedback record, any other a Reception. A recipient that logs a bounce report
    also has an OOB record for each failure in it.
    """
    recipients: list[ForRecipient] = []
    complaining: list[ForRecipient] = []
    bounced: list[ForRecipient] = []
    for number, result in enumerate(answer.results):
        why, domain = str(result.because), result.recipient.domain
        one = _for_one(message, number, result.recipient.address, domain, answer.disposition_of(result), why)
        if result.logged_as is not None and reading.read_as:
            # A message can be both kinds: it is then read as a feedback report.
            is_both = reading.arf is not None and result.logged_as == "oob"
            one = replace(one, read_as="rfc3464" if is_both else reading.read_as)
        proved = replace(one, verification=message.proofs.get(result.recipient.address)) if message.proofs else one
        (complaining if result.logged_as == "arf" else recipients).append(proved)
        if result.logged_as == "oob":
            bounced.append(proved)
    if not complaining and not bounced:
        return tuple(receptions(facts, recipients, size=message.size))
    original = _original(answer, reading, original_headers)
    complaints = receptions(
        facts, complaining, size=message.size, report=reading.arf, original=original, derived=reading.derived
    )
    feedback = iter(complaints)
    received = iter(receptions(facts, recipients, size=message.size))
    bounces = oob_bounces(facts, bounced, report=reading.oob, original=original) if reading.oob is not None else iter(())
    records: list[Record] = []
    for result in answer.results:
        records.append(next(feedback if result.logged_as == "arf" else received))
        if result.logged_as == "oob":
            records += next(bounces)
    return tuple(records)


def _original(answer: MessageAnswer, reading: ReportReading, wanted: tuple[str, ...]) -> Raw | None:
    """Return the headers of the returned message for the records of a report that is logged."""
    report = reading.arf if answer.logged_as == "arf" else reading.oob
    return None if report is None or answer.logged_as is None else original_of(report.original_message, wanted)


def exceeds_records(answer: MessageAnswer, reading: ReportReading) -> bool:
    """Return True if a bounce report makes more records than `OOB_RECORDS_LIMIT` allows."""
    if reading.oob is None:
        return False
    reporting = sum(result.logged_as == "oob" for result in answer.results)
    if reporting < 2:  # noqa: PLR2004 - the records of one recipient have a limit of their own
        return False
    return reporting * sum(entry.action == "failed" for entry in reading.oob.per_recipient) > OOB_RECORDS_LIMIT


def repeats_too_much(records: Sequence[Record]) -> bool:
    """Return True if the records of a report have more bytes for its further recipients than `REPEATED_LIMIT` allows."""
    return len(records) > 1 and sum(_repeated(records, kind) for kind in ("OOB", "Feedback")) > REPEATED_LIMIT


def _repeated(records: Sequence[Record], kind: RecordType) -> int:
    of_kind = [record for record in records if record.type == kind]
    first = [*takewhile(lambda record: record.id == of_kind[0].id, of_kind)]
    further = len(of_kind) - len(first)
    return len(encode(*first)) * further // len(first) if further else 0


def _for_all(message: Message, disposition: Disposition, why: str) -> list[ForRecipient]:
    """Return the same disposition and reason for each recipient of a message."""
    each = enumerate(message.recipients)
    return [_for_one(message, number, one.address, one.domain, disposition, why) for number, one in each]


def _for_one(  # noqa: PLR0913, PLR0917 - each is a field of the records
    message: Message, number: int, address: str, domain: str, disposition: Disposition, why: str
) -> ForRecipient:
    own, entry = message.id_of(number), message.suppressed.get(address) if message.suppressed else None
    listed = None if entry is None else meta_of(entry)
    return ForRecipient(id=own, address=mailbox(address), queue=domain, disposition=disposition, why=why, suppressed=listed)


def _rejected(verdict: Reject | Tempfail, disposition: Disposition) -> Disposition:
    """Return the disposition of a reply: `disposition` for 5xx, `tempfailed` for 4xx."""
    return disposition if isinstance(verdict, Reject) else Disposition.TEMPFAILED


def _response(reply: Reply, command: str) -> Response:
    """Return a reply as records have it, with the SMTP command that it answers."""
    return Response(code=reply.code, enhanced_code=_enhanced(reply.enhanced), content=reply.text, command=command)


@lru_cache(maxsize=64)  # as many as there are replies, at most
def _enhanced(code: str) -> EnhancedCode:
    class_, subject, detail = map(int, code.split("."))
    return EnhancedCode(class_=class_, subject=subject, detail=detail)


def _as_kumomta(record: Record, *, recipient: str | list[str]) -> Record:
    """Return a Rejection as KumoMTA writes it: created when it is written, and without the message's headers."""
    return replace(record, recipient=recipient, created=record.timestamp, created_time=record.event_time, headers={})


def _decision(  # noqa: PLR0913, PLR0917 - each is a part of it
    facts: Facts,
    stage: str,
    verdict: Accept | Reject | Tempfail | Discard,
    disposition: Disposition,
    why: str,
    recipients: tuple[str, ...] = (),
) -> Decision:
    return Decision(
        stage=stage,
        action=type(verdict).__name__.lower(),
        disposition=disposition,
        why=why,
        sender=facts.sender,
        recipients=recipients,
        queue_id=facts.queue_id,
    )
