"""What an operator has to know about a record before believing it. Owns the sentences, each said where it matters."""

from collections.abc import Iterator

from sidecar.commands.explain.finding import ComparedRecord, rejected_among
from sidecar.commands.explain.follow_up import FollowUp
from sidecar.core.disposition import REJECTED
from sidecar.core.evaluate.evaluator import Undecided
from sidecar.core.settings.values import ANY_LISTENER

_FOLLOW_UPS: dict[FollowUp, str] = {
    "bounce_report": "A later record shows that it was a bounce report: an OOB record has the same id.",
    "rejected": (
        "A later record shows that the message was rejected: a Rejection of the command DATA follows from the same peer. "
        "KumoMTA writes the Reception first."
    ),
    "outgoing": "A later record shows that it was sent on: it has the same id.",
}


def outgoing(record_type: str) -> str:
    """Say why a record of mail that goes out is not judged."""
    return (
        f"A {record_type} record tells of mail that goes out; the listener policy decides on mail that comes in. "
        "Look for the Reception with the same id."
    )


def notes(found: ComparedRecord, *, depends_on_listener: bool) -> Iterator[str]:
    """Give the notes on one record, the most important first."""
    yield from _about_the_answer(found)
    yield from _about_a_reception(found)
    if found.agrees is False:
        yield (
            f"This configuration would {_otherwise(found)}: another one was in force when the record was written, "
            "or the node runs with other files than these."
        )
    if found.is_untold:
        yield (
            "Whether this configuration agrees depends on the listener or the login, which the record does not tell. "
            "KumoMTA's log tells both where the meta of configure_local_logs lists received_via and authz_id."
        )
    if depends_on_listener and found.envelope.listener == ANY_LISTENER:
        yield (
            "Some rules hold on one listener only, and the record does not tell the listener: "
            "it is judged as on one without rules of its own."
        )


def _otherwise(found: ComparedRecord) -> str:
    if found.judgement.outcome in REJECTED:
        return "reject it"
    partly = found.answer.happened != "rejected" and rejected_among(found.judgement)
    return "reject some of its recipients" if partly else "accept it"


def _about_the_answer(found: ComparedRecord) -> Iterator[str]:
    record, answer = found.record, found.answer
    if answer.happened == "tempfailed":
        yield "A 4xx reply is a fault or a limit, and no decision of the policy. The sender retries."
    if answer.happened == "rejected_for_other_reason":
        yield "This answer is none of the listener policy's: no listener domain and no relay host changes it."
    if record.count > 1:
        yield f"The record stands for {record.count} rejections of this peer, and tells only what they have in common."
    elif found.judgement.outcome == Undecided.RECIPIENTS_UNKNOWN and answer.stage == "end" and not answer.is_ours:
        yield (
            "KumoMTA's Rejection at the end of a message tells no recipient; the Reception just before it, "
            "in the same session, does."
        )
    elif found.judgement.outcome == Undecided.RECIPIENTS_UNKNOWN and answer.stage != "connect":
        yield "The record tells no recipient, so no more than the connection can be judged."


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
        yield "This program writes no Reception for what it rejects: the message was a report."
