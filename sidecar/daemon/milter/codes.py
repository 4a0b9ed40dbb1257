"""Verdicts as libmilter's codes.

Owns which verdict may answer which step. Never chooses a verdict.
"""

import re
from typing import assert_never

from msgspec.structs import replace

from sidecar.core.disposition import Disposition
from sidecar.core.session.replies import INCAPABLE_MTA, UNKNOWN_LISTENER
from sidecar.core.session.verdicts import Accept, Continue, Discard, Outcome, Reject, Reply, Tempfail, Verdict
from sidecar.daemon.milter.context import ACCEPT, CONTINUE, DISCARD, NOREPLY, REJECT, TEMPFAIL, Context
from sidecar.daemon.milter.negotiation import Step, Terms

# RFC 5321 section 4.5.3.1.5: a reply line has at most 512 octets, with its code, enhanced code and CRLF. The limit of
# libmilter is 980.
_TEXT_LIMIT = 480


class WrongVerdictError(Exception):
    """The session returned a verdict that cannot answer this step: a fault of the program."""


_UNSENDABLE = re.compile("[^ -~]")

_Verdicts = frozenset[type[Verdict]]
_CONTINUE: _Verdicts = frozenset({Continue})
_REJECTIONS: _Verdicts = frozenset({Reject, Tempfail})
_ENDINGS: _Verdicts = _REJECTIONS | {Accept, Discard}
# libmilter accepts each code at each step: ACCEPT at connect accepts all that follows, CONTINUE at the end of a message accepts
# it. So a verdict that is missing here is a fault.
_MAY_ANSWER: dict[Step, _Verdicts] = {
    Step.CONNECT: _REJECTIONS | _CONTINUE,
    Step.RCPT: _REJECTIONS | _CONTINUE,
    Step.DATA: frozenset({Accept, Continue}),
    Step.END_OF_HEADERS: _ENDINGS | _CONTINUE,
    Step.END_OF_MESSAGE: _ENDINGS,
}


# Above all other fields, where MTAs add theirs (RFC 5321 section 4.4).
_TOP = 0
_INCAPABLE = Tempfail(reply=INCAPABLE_MTA)
UNJUDGED = Tempfail(reply=UNKNOWN_LISTENER)
"""The verdict on every peer if rules depend on the listener, and the MTA does not report it."""


def possible(step: Step, outcome: Outcome, terms: Terms) -> Outcome:
    """Return the outcome that the MTA can carry out. Raise WrongVerdictError if its verdict cannot be given at this step.

    It is the same, or a Tempfail without records: the sender retries, and each attempt would have its records. A step without
    an answer permits only Continue, except CONNECT: the session repeats that rejection at RCPT.
    """
    verdict = outcome.verdict
    if type(verdict) not in _MAY_ANSWER.get(step, _CONTINUE):
        raise WrongVerdictError(f"{type(verdict).__name__} cannot answer {step.name}")
    removes = isinstance(verdict, Accept) and bool(verdict.without)
    signs = isinstance(verdict, Accept) and bool(verdict.fields or verdict.sender)
    if (removes or signs) and step is not Step.END_OF_MESSAGE:
        raise WrongVerdictError(f"a message cannot be changed at {step.name}")
    lacks = (removes and not terms.can_remove) or (isinstance(verdict, Discard) and not terms.can_discard)
    if lacks:
        decision = outcome.decision
        if decision is not None:
            why = f"{INCAPABLE_MTA.text}: {decision.why}"
            decision = replace(decision, action="tempfail", disposition=Disposition.TEMPFAILED, why=why)
        return Outcome(verdict=_INCAPABLE, decision=decision)
    return replace(outcome, records=()) if verdict == UNJUDGED else outcome


def answer(context: Context, step: Step, verdict: Verdict, terms: Terms) -> int:
    """Pass a verdict to the context, and return its code."""
    if step in terms.unanswered:
        return NOREPLY
    match verdict:
        case Continue():
            code = CONTINUE
        case Accept():
            _change(context, verdict, terms)
            code = ACCEPT
        case Reject(reply=reply):
            set_reply(context, reply)
            code = REJECT
        case Tempfail(reply=reply):
            set_reply(context, reply)
            code = TEMPFAIL
        case Discard():
            code = DISCARD
        case _:
            assert_never(verdict)
    return code


def _change(context: Context, verdict: Accept, terms: Terms) -> None:
    """Change an accepted message. An MTA that cannot sign it relays it as it is."""
    for recipient in verdict.without:
        context.delrcpt(recipient)
    if terms.can_add:
        blank = " " if terms.keeps_space else ""
        for name, value in verdict.fields:
            context.addheader(name, blank + value, _TOP)
    if terms.can_change_sender and verdict.sender is not None:
        context.chgfrom(f"<{verdict.sender}>")


def set_reply(context: Context, reply: Reply) -> None:
    """Set the text of a rejection. Sendmail uses it as a format: `%` is sent doubled and becomes a single one."""
    text = _UNSENDABLE.sub("?", reply.text[:_TEXT_LIMIT])
    context.setreply(str(reply.code), reply.enhanced, text.replace("%", "%%"))
