"""Verdicts in libmilter's words.

Owns which verdict may answer which step, and the code that stands for it. Never chooses a verdict.
"""

import re
from typing import assert_never

import milter

from sidecar.core.session.verdicts import Accept, Continue, Discard, Reject, Reply, Tempfail, Verdict
from sidecar.daemon.milter.context import Context
from sidecar.daemon.milter.negotiation import Step, Terms

# RFC 5321 section 4.5.3.1.5: a reply line has at most 512 octets, with its code, enhanced code and CRLF; libmilter itself
# refuses texts of 980 and more.
_TEXT_LIMIT = 480


class WrongVerdictError(Exception):
    """The session gave a verdict that cannot answer this step: our own fault."""


class CannotRemoveError(Exception):
    """The MTA did not offer to have recipients taken off."""


_UNSENDABLE = re.compile("[^ -~]")

_Verdicts = frozenset[type[Verdict]]
_GOING_ON: _Verdicts = frozenset({Continue})
_REFUSALS: _Verdicts = frozenset({Reject, Tempfail})
_ENDINGS: _Verdicts = _REFUSALS | {Accept, Discard}
# libmilter would take each of its codes anywhere: ACCEPT at connect lets everything pass that follows, CONTINUE at the end of
# the message accepts it. So whatever is not named here is a fault.
_MAY_ANSWER: dict[Step, _Verdicts] = {
    Step.CONNECT: _REFUSALS | _GOING_ON,
    Step.RCPT: _REFUSALS | _GOING_ON,
    Step.DATA: frozenset({Accept, Continue}),
    Step.END_OF_HEADERS: _ENDINGS | _GOING_ON,
    Step.END_OF_MESSAGE: _ENDINGS,
}


def check(step: Step, verdict: Verdict, terms: Terms) -> None:
    """See that a verdict can be given here, before anything is written about it.

    A step that has no answer takes only Continue; but for CONNECT, where the session says a refusal again at RCPT. Raises
    WrongVerdictError and CannotRemoveError.
    """
    if type(verdict) not in _MAY_ANSWER.get(step, _GOING_ON):
        raise WrongVerdictError(f"{type(verdict).__name__} cannot answer {step.name}")
    if isinstance(verdict, Accept) and verdict.without:
        if step is not Step.END_OF_MESSAGE:
            raise WrongVerdictError(f"recipients cannot be taken off at {step.name}")
        if not terms.can_remove:
            raise CannotRemoveError("the MTA lets no recipient be taken off the envelope")


def answer(context: Context, step: Step, verdict: Verdict, terms: Terms) -> int:
    """Tell libmilter a verdict and give the code to return."""
    if step in terms.unanswered:
        return int(milter.NOREPLY)
    match verdict:
        case Continue():
            code = milter.CONTINUE
        case Accept(without=without):
            for recipient in without:
                context.delrcpt(recipient)
            code = milter.ACCEPT
        case Reject(reply=reply):
            set_reply(context, reply)
            code = milter.REJECT
        case Tempfail(reply=reply):
            set_reply(context, reply)
            code = milter.TEMPFAIL
        case Discard():
            code = milter.DISCARD
        case _:
            assert_never(verdict)
    return int(code)


def set_reply(context: Context, reply: Reply) -> None:
    """Set the text that goes with a refusal. Sendmail takes it for a format: `%` goes out doubled and comes out single."""
    text = _UNSENDABLE.sub("?", reply.text[:_TEXT_LIMIT])
    context.setreply(str(reply.code), reply.enhanced, text.replace("%", "%%"))
