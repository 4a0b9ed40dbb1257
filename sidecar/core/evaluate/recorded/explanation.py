"""One record explained: what it contains, what this configuration decides, whether the two agree, and what to change.

Owns the shape of `explain --record --json`, which scripts read: it is permanent. Never reads a log.
"""

from collections.abc import Iterator

from msgspec import UNSET, Struct, UnsetType
from msgspec.structs import asdict, replace

from sidecar.core.disposition import REJECTED, Disposition
from sidecar.core.evaluate.envelope import Envelope, Happened, meta_text, received_by_smtp
from sidecar.core.evaluate.evaluator import EnvelopeOutcome, Evaluator, Undecided, deciding, explanation_of
from sidecar.core.evaluate.explanation import ConnectPart, MessagePart, RecipientPart
from sidecar.core.evaluate.recorded.advice import Advice, Adviser
from sidecar.core.evaluate.recorded.finding import ComparedRecord, disagreement, find
from sidecar.core.evaluate.recorded.follow_up import Entry, FollowUp
from sidecar.core.evaluate.recorded.unverified import loosened
from sidecar.core.policy import Because
from sidecar.core.records import Logged, Response
from sidecar.core.records.build import record_time
from sidecar.core.settings.values import ANY_LISTENER
from sidecar.core.text import LATEST

_FOLLOW_UPS: dict[FollowUp, str] = {
    "bounce_report": "A later record shows that it was a bounce report: an OOB record has the same id.",
    "rejected": (
        "A later record shows that the message was rejected: a Rejection of the command DATA follows from the same peer. "
        "KumoMTA writes the Reception first."
    ),
    "outgoing": "A later record shows that it was sent on: it has the same id.",
}


class RecordPart(Struct, frozen=True, kw_only=True, rename={"sender": "from"}):
    """The content of the record. What it does not contain is null or empty.

    `from` and `to` are the envelope's, also if these fields of the record have others: in an OOB record the bounce's, in
    KumoMTA's Rejections an accepted recipient. `response` is the reply to the peer, code and text.
    """

    file: str
    line: int
    type: str
    id: str
    time: str
    peer: str | None
    listener: str | None
    auth: str | None
    sender: str
    to: list[str]
    command: str | None
    response: str
    why: str | None
    count: int
    verified: str | UnsetType = UNSET
    proof: str | UnsetType = UNSET


class RecordExplanation(Struct, frozen=True, kw_only=True):
    """The answer for one record.

    `happened` is what happened by the record, `follow_up` what later records of the log add. `disposition` is the decision of
    this configuration; it is null for outgoing mail, for mail that did not arrive by SMTP, and if `undecided` says what the
    record does not contain. `decided` has the reasons for the decision, the rule first. `fix` changes what happened.
    """

    record: RecordPart
    happened: Happened
    follow_up: FollowUp | None = None
    disposition: Disposition | None = None
    undecided: Undecided | None = None
    agrees: bool | None = None
    decided: tuple[Because, ...] = ()
    connect: ConnectPart | None = None
    recipients: list[RecipientPart] = []
    message: MessagePart | None = None
    fix: Advice | None = None
    notes: list[str] = []

    @property
    def outcome(self) -> EnvelopeOutcome | None:
        """The disposition, or what the record does not contain."""
        return self.disposition or self.undecided


class Explainer:
    """One configuration, ready for records."""

    def __init__(self, evaluator: Evaluator) -> None:
        self.evaluator = evaluator
        self._adviser = Adviser(evaluator)

    def explain(self, entry: Entry) -> RecordExplanation:
        """Return the complete explanation of a record. Raises ValueError if it does not contain enough."""
        found = find(entry, self.evaluator)
        if found is None:
            assert entry.record is not None  # noqa: S101 - or `find` had raised
            part = _record_part(entry, entry.record)
            note = (
                "A Suppression record is a change of the suppression list. The listener policy does not apply to it."
                if part.type == "Suppression"
                else f"A {part.type} record is about outgoing mail; the listener policy decides on incoming mail. "
                "Look for the Reception with the same id."
            )
            return RecordExplanation(record=part, happened="outgoing", notes=[note])
        if not received_by_smtp(found.record):
            part = _record_part(entry, found.record, found.envelope)
            note = "The message did not arrive by SMTP. The listener policy does not apply to it."
            return RecordExplanation(record=part, happened=found.answer.happened, follow_up=entry.follow_up, notes=[note])
        outcome, how = found.judgement.outcome, disagreement(found)
        return RecordExplanation(
            record=_record_part(entry, found.record, found.envelope),
            happened=found.answer.happened,
            follow_up=entry.follow_up,
            disposition=outcome if isinstance(outcome, Disposition) else None,
            undecided=outcome if isinstance(outcome, Undecided) else None,
            agrees=found.agrees,
            decided=deciding(found.judgement) if how is None else how.because,
            **asdict(explanation_of(found.envelope, found.judgement)),
            fix=self._advice(found),
            notes=list(_notes(found, depends_on_listener=self.evaluator.policy.depends_on_listener)),
        )

    def _advice(self, found: ComparedRecord) -> Advice | None:
        """Return the changes against what happened; None if this configuration already decides otherwise."""
        if found.agrees is False and ((how := disagreement(found)) is None or how.recipient is None):
            return None
        if found.answer.happened == "rejected" or found.follow_up == "rejected":
            if found.judgement.outcome not in REJECTED:
                return None
            # Without a reason in the record, the message can have been a report of the kind that its recipients do not accept.
            if (advice := loosened(self.evaluator, found.envelope, found.judgement)) is not None:
                return advice
            is_certain = found.envelope.kind != "other" or "why" in found.record.meta
            return self._adviser.to_accept(found.envelope if is_certain else replace(found.envelope, kind="unknown"))
        if found.answer.happened in {"accepted", "quarantined"}:
            return self._adviser.to_reject(found.envelope, found.judgement)
        return None


def _record_part(entry: Entry, record: Logged, envelope: Envelope | None = None) -> RecordPart:
    time = record.event_time
    if not time and 0 < record.timestamp <= LATEST:  # older versions of KumoMTA write only seconds
        time = record_time(record.timestamp)
    return RecordPart(
        file=entry.file,
        line=entry.line,
        type=record.type,
        id=record.id,
        time=time,
        peer=None if record.peer_address is None else record.peer_address.addr,
        listener=meta_text(record, "listener") or meta_text(record, "received_via"),
        auth=meta_text(record, "authz_id"),
        sender=record.sender if envelope is None else envelope.sender,
        to=list(record.recipients if envelope is None else envelope.recipients),
        command=record.response.command,
        response="" if record.type == "OOB" else _reply(record.response),
        why=meta_text(record, "why"),
        count=record.count,
        verified=meta_text(record, "verified") or UNSET,
        proof=meta_text(record, "proof") or UNSET,
    )


def _reply(response: Response) -> str:
    return " ".join(str(part) for part in (response.code, response.enhanced_code, response.content) if part)


# --- notes, the most important first


def _notes(found: ComparedRecord, *, depends_on_listener: bool) -> Iterator[str]:
    yield from _about_the_answer(found)
    yield from _about_a_reception(found)
    if found.agrees is False:
        yield (
            f"This configuration would {_otherwise(found)}: the record is from another configuration, "
            "or the node runs with other files."
        )
    if found.needs_more:
        yield (
            "Whether this configuration agrees depends on the listener or the login, which the record does not contain. "
            "KumoMTA logs both if the meta of configure_local_logs lists received_via and authz_id."
        )
    if depends_on_listener and found.envelope.listener == ANY_LISTENER:
        yield (
            "Some rules apply only to one listener, and the record does not contain the listener: "
            "it is judged without these rules."
        )


def _otherwise(found: ComparedRecord) -> str:
    if found.judgement.outcome in REJECTED:
        return "reject it"
    return "reject some of its recipients" if found.answer.happened != "rejected" and found.rejected_among else "accept it"


def _about_the_answer(found: ComparedRecord) -> Iterator[str]:
    record, answer = found.record, found.answer
    if answer.happened == "tempfailed":
        yield "A 4xx reply is a fault or a limit, not a decision of the policy. The sender retries."
    if answer.happened == "dropped" and found.judgement.outcome is Disposition.REJECTED_AT_END:
        yield "Such a message to this recipient alone is rejected at its end."
    if answer.happened == "rejected_for_other_reason":
        yield "This reply is not from the listener policy: no listener domain and no relay host changes it."
    if found.envelope.suppressed is not None:
        yield "The recipient was on the suppression list: `sidecar suppression show ADDRESS` shows if it still is, and why."
    if record.count > 1:
        yield f"The record stands for {record.count} rejections of this peer, and contains only what they have in common."
    elif found.judgement.outcome == Undecided.RECIPIENTS_UNKNOWN and answer.stage == "end" and not answer.is_ours:
        yield (
            "KumoMTA's Rejection at the end of a message contains no recipient; the Reception just before it, "
            "in the same session, does."
        )
    elif found.judgement.outcome == Undecided.RECIPIENTS_UNKNOWN and answer.stage != "connect":
        yield "The record contains no recipient, so only the connection can be judged."


def _about_a_reception(found: ComparedRecord) -> Iterator[str]:
    if found.record.type != "Reception":
        return
    if found.follow_up is not None:
        yield _FOLLOW_UPS[found.follow_up]
    elif found.judgement.outcome in {Undecided.CONTENT_UNKNOWN, *REJECTED} and not found.answer.is_ours:
        session = found.record.session_id
        where = f"in the same session ({session})" if session else "from the same peer in the same second"
        yield (
            "KumoMTA writes a Reception with code 250 before it rejects at the end of the message: "
            f"this record does not mean that the message was relayed. Look for a Rejection of the command DATA {where}."
        )
    elif found.judgement.outcome == Undecided.CONTENT_UNKNOWN:
        yield "The sidecar writes no Reception for a rejected message: the message was a report."
