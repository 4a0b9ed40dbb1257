"""One record explained: what it says, what this configuration makes of it, whether the two agree, and what to change.

Owns the shape of `explain --record --json`, which scripts read: it is for ever. Never reads a log.
"""

import msgspec
from msgspec import Struct

from sidecar.commands.explain.change import Advice, set_up
from sidecar.commands.explain.closing import to_reject
from sidecar.commands.explain.disagreement import disagreement
from sidecar.commands.explain.finding import ComparedRecord, find
from sidecar.commands.explain.follow_up import Entry, FollowUp
from sidecar.commands.explain.notes import notes, outgoing
from sidecar.commands.explain.opening import to_accept
from sidecar.core.disposition import REJECTED, Disposition
from sidecar.core.evaluate.envelope import Envelope, Happened
from sidecar.core.evaluate.evaluator import EnvelopeOutcome, Evaluator, Undecided, deciding, explanation_of
from sidecar.core.evaluate.explanation import ConnectPart, MessagePart, RecipientPart
from sidecar.core.policy import Because
from sidecar.core.records import Logged, Response
from sidecar.core.records.build import rfc3339
from sidecar.core.text import printable_json

_YEAR_10000 = 253_402_300_800
_ENCODER = msgspec.json.Encoder()


class RecordPart(Struct, frozen=True, kw_only=True, rename={"sender": "from"}):
    """What the record itself says; what it does not tell is null or empty.

    `from` and `to` are the envelope's, also where the record puts others in their fields: in an OOB record the bounce's, in
    KumoMTA's Rejections a recipient that was accepted. `response` is what the peer was answered, code and text.
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


class RecordExplanation(Struct, frozen=True, kw_only=True):
    """The answer for one record.

    `happened` is what happened by the record, `follow_up` what later records of the log add. `disposition` is the decision of
    this configuration; it is null for outgoing mail, and where `undecided` says what the record does not contain. `decided` has
    the reasons for the decision, the rule first. `fix` changes what happened.
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


def encode_record_explanation(explanation: RecordExplanation) -> bytes:
    """Give the explanation as one JSON object, without a line end."""
    return printable_json(_ENCODER.encode(explanation))


class Explainer:
    """One configuration, ready to be asked about records."""

    def __init__(self, evaluator: Evaluator) -> None:
        self._evaluator = evaluator
        self._setup = set_up(evaluator.settings, evaluator.policy)

    def find(self, entry: Entry) -> ComparedRecord | None:
        """Judge a record; None where it tells of mail that went out. Raises ValueError where it does not tell enough."""
        return find(entry, self._evaluator)

    def explain(self, entry: Entry) -> RecordExplanation:
        """Say all there is to say of a record. Raises ValueError where it does not tell enough."""
        found = self.find(entry)
        if found is None:
            assert entry.record is not None  # noqa: S101 - or `find` had raised
            part = _record_part(entry, entry.record)
            return RecordExplanation(record=part, happened="outgoing", notes=[outgoing(part.type)])
        outcome = found.judgement.outcome
        steps = explanation_of(found.envelope, found.judgement)
        return RecordExplanation(
            record=_record_part(entry, found.record, found.envelope),
            happened=found.answer.happened,
            follow_up=entry.follow_up,
            disposition=outcome if isinstance(outcome, Disposition) else None,
            undecided=outcome if isinstance(outcome, Undecided) else None,
            agrees=found.agrees,
            decided=deciding(found.judgement) if (how := disagreement(found)) is None else how.because,
            connect=steps.connect,
            recipients=steps.recipients,
            message=steps.message,
            fix=self._advice(found),
            notes=list(notes(found, depends_on_listener=self._evaluator.policy.depends_on_listener)),
        )

    def _advice(self, found: ComparedRecord) -> Advice | None:
        """Advise against what happened; where this configuration decides otherwise already, there is nothing to change."""
        if found.agrees is False and ((how := disagreement(found)) is None or how.recipient is None):
            return None
        if found.answer.happened in {"accepted", "quarantined"}:
            return to_reject(self._setup, found.envelope, found.judgement)
        if found.answer.happened == "rejected" and found.judgement.outcome in REJECTED:
            return to_accept(self._setup, found.envelope)
        return None


def _time(record: Logged) -> str:
    """Give the record's time; KumoMTA's older versions write seconds alone."""
    if record.event_time or not 0 < record.timestamp < _YEAR_10000:
        return record.event_time
    return rfc3339(record.timestamp)


def _record_part(entry: Entry, record: Logged, envelope: Envelope | None = None) -> RecordPart:
    return RecordPart(
        file=entry.file,
        line=entry.line,
        type=record.type,
        id=record.id,
        time=_time(record),
        peer=None if record.peer_address is None else record.peer_address.addr,
        listener=_told(record, "listener") or _told(record, "received_via"),
        auth=_told(record, "authz_id"),
        sender=record.sender if envelope is None else envelope.sender,
        to=list(record.recipients if envelope is None else envelope.recipients),
        command=record.response.command,
        response="" if record.type == "OOB" else _answer(record.response),
        why=_told(record, "why"),
        count=record.count,
    )


def _answer(response: Response) -> str:
    enhanced = response.enhanced_code
    status = "" if enhanced is None else f"{enhanced.class_}.{enhanced.subject}.{enhanced.detail}"
    return " ".join(filter(None, (str(response.code or ""), status, response.content)))


def _told(record: Logged, name: str) -> str | None:
    value = record.meta.get(name)
    return value if isinstance(value, str) else None
