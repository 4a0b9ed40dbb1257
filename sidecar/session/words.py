"""What records, log lines and the MTA are told of a decision: replies, reasons, names.

Owns these words. Never decides anything.
"""

from sidecar.policy import ConnectAnswer, MessageAnswer, RecipientAnswer, without_route
from sidecar.records import EnhancedCode, Response
from sidecar.session.events import Rcpt
from sidecar.session.verdicts import Accept, Discard, Reject, Reply, Tempfail

# Reasons in one sentence: more than a few different ones are no explanation any more.
_REASONS_TOLD = 4


def removable_name(event: Rcpt) -> str:
    """Return the name by which the MTA finds this recipient again.

    It is the name as it was given; but Postfix forgets a source route at once, and takes nobody off for one that it is told.
    """
    mailbox = without_route(event.address)
    return event.given if mailbox == event.address else f"<{mailbox}>"


def response(reply: Reply, command: str) -> Response:
    """Return a reply as records have it, with the SMTP command that it answers."""
    class_, subject, detail = (int(number) for number in reply.enhanced.split("."))
    enhanced = EnhancedCode(class_=class_, subject=subject, detail=detail)
    return Response(code=reply.code, enhanced_code=enhanced, content=reply.text, command=command)


def action(verdict: Accept | Reject | Tempfail | Discard) -> str:
    """Return the name of a verdict as the log has it."""
    return type(verdict).__name__.lower()


def sentence(answer: ConnectAnswer | RecipientAnswer | MessageAnswer) -> str:
    """Return the reasons of an answer as one sentence, each reason once."""
    if isinstance(answer, MessageAnswer):
        reasons = dict.fromkeys(str(fate.because) for fate in answer.fates)
    else:
        reasons = dict.fromkeys(map(str, answer.because))
    told = list(reasons)[:_REASONS_TOLD]
    more = [f"and {len(reasons) - len(told)} more reasons"] if len(reasons) > len(told) else []
    return "; ".join(told + more)
