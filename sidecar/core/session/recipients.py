"""The decision on one recipient: which checks there are, and their order. Never writes a record: the session does."""

from sidecar.core.policy.address import is_text
from sidecar.core.policy.answers import sentence
from sidecar.core.session import replies
from sidecar.core.session.events import Connect, Rcpt
from sidecar.core.session.message import Message
from sidecar.core.session.rules import Rules
from sidecar.core.session.suppressing import JudgedRecipient
from sidecar.core.session.verdicts import Reject, Tempfail
from sidecar.core.session.verifying import check_token


def judge_recipient(  # noqa: PLR0913, PLR0917 - what the checks look at
    event: Rcpt, message: Message, rules: Rules, connect: Connect, listener: str, now: float
) -> JudgedRecipient:
    """Decide on a recipient of a message. This can wait for the disk, see `Session.may_wait`."""
    if not is_text(event.address):
        why = "the recipient's address has characters or a length that no address has"
        return JudgedRecipient(rejected=(Reject(reply=replies.UNREADABLE_ADDRESS), why))
    if len(message.recipients) >= (limit := rules.settings.recipient_limit):
        why = f"the message has {limit} recipients, as many as recipient_limit allows"
        return JudgedRecipient(rejected=(Tempfail(reply=replies.TOO_MANY_RECIPIENTS), why))
    authz_id, sender, spelling = message.mail.authz_id, message.mail.sender, event.removable_name
    answer = rules.policy.at_rcpt(connect.peer, listener, authz_id, sender, event.address, mta_spelling=spelling)
    reply = None
    if answer.accept and (verify := rules.settings.verify) is not None:
        answer, reply = check_token(answer, verify, now), replies.ADDRESS_REQUIRED
    if not answer.accept:
        reply = reply or replies.relaying_not_permitted(connect.peer, connect.port)
        return JudgedRecipient(answer=answer, rejected=(Reject(reply=reply), sentence(answer)))
    if message.check is None:
        return JudgedRecipient(answer=answer)
    if message.unlisted == event.address:
        return JudgedRecipient(answer=answer, checked="not_listed")
    return message.check.look_up(answer, now)
