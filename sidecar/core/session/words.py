"""The forms in which a reply and a recipient leave the session: for records, and for the MTA.

Owns these forms. Never decides anything.
"""

from sidecar.core.policy import without_route
from sidecar.core.records import EnhancedCode, Response
from sidecar.core.session.events import Rcpt
from sidecar.core.session.verdicts import Reply


def removable_name(event: Rcpt) -> str:
    """Return the name by which the MTA finds this recipient again.

    It is the MTA's spelling, but without a source route: Postfix drops it at once, and removes no recipient by a name with one.
    """
    mailbox = without_route(event.address)
    return event.mta_spelling if mailbox == event.address else f"<{mailbox}>"


def response(reply: Reply, command: str) -> Response:
    """Return a reply as records have it, with the SMTP command that it answers."""
    class_, subject, detail = (int(number) for number in reply.enhanced.split("."))
    enhanced = EnhancedCode(class_=class_, subject=subject, detail=detail)
    return Response(code=reply.code, enhanced_code=enhanced, content=reply.text, command=command)
