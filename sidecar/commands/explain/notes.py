"""What an operator has to know about a record before believing it. Owns the sentences, each said where it matters."""

from collections.abc import Iterator

from sidecar.commands.explain.finding import Found, refused_among
from sidecar.commands.explain.follow_up import Aftermath
from sidecar.core.evaluate.judgement import REFUSED
from sidecar.core.settings.values import ANY_LISTENER

_AFTERMATHS: dict[Aftermath, str] = {
    "a bounce report": "The log goes on to say that it was a bounce report: an OOB record has the same id.",
    "refused": (
        "The log goes on to say that it was refused: a Rejection of the command DATA follows from the same peer. "
        "KumoMTA writes the Reception first."
    ),
    "went out": "The log goes on to say that it went out: a later record has the same id.",
}


def outgoing(record_type: str) -> str:
    """Say why a record of mail that goes out is not judged."""
    return (
        f"A {record_type} record tells of mail that goes out; the listener policy decides on mail that comes in. "
        "Look for the Reception with the same id."
    )


def notes(found: Found, *, depends_on_listener: bool) -> Iterator[str]:
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


def _otherwise(found: Found) -> str:
    if found.judgement.outcome in REFUSED:
        return "refuse it"
    partly = found.account.happened != "refused" and refused_among(found.judgement)
    return "refuse some of its recipients" if partly else "accept it"


def _about_the_answer(found: Found) -> Iterator[str]:
    record, account = found.record, found.account
    if account.happened == "put off":
        yield "A 4xx is trouble, or a limit that was reached, and no decision on who may send: the peer comes again."
    if account.happened == "refused otherwise":
        yield "This answer is none of the listener policy's: no listener domain and no relay host changes it."
    if record.count > 1:
        yield f"The record stands for {record.count} refusals of this peer, and tells only what they have in common."
    elif found.judgement.outcome == "let in" and account.stage == "end" and not account.is_ours:
        yield (
            "KumoMTA's Rejection at the end of a message tells no recipient; the Reception just before it, "
            "in the same session, does."
        )
    elif found.judgement.outcome == "let in" and account.stage != "connect":
        yield "The record tells no recipient, so no more than the connection can be judged."


def _about_a_reception(found: Found) -> Iterator[str]:
    if found.record.type != "Reception":
        return
    if found.aftermath is not None:
        yield _AFTERMATHS[found.aftermath]
    elif found.judgement.outcome in {"if a report", *REFUSED} and not found.account.is_ours:
        session = found.record.session_id
        where = f"in the same session ({session})" if session else "from the same peer in the same second"
        yield (
            "KumoMTA writes a Reception with code 250 before it refuses at the end of the message: "
            f"this record does not mean that the message was relayed. Look for a Rejection of the command DATA {where}."
        )
    elif found.judgement.outcome == "if a report":
        yield "This program writes no Reception for what it refuses: the message was a report."
