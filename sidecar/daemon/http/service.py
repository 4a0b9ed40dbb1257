"""The answers of a plan's policy to the questions. Never knows HTTP."""

import time
from uuid import uuid4

from msgspec import UNSET

from sidecar.core.evaluate.evaluator import Evaluator
from sidecar.core.evaluate.explanation import Explanation
from sidecar.core.names import normal_domain, normal_listener, split_endpoint
from sidecar.core.policy.address import NO_DOMAIN
from sidecar.core.settings.values import ANY_LISTENER
from sidecar.daemon.http.answers import ListenerDomain
from sidecar.daemon.http.questions import DomainQuestion, ExplainQuestion
from sidecar.daemon.process.plan import Plan


class NoListenerError(ValueError):
    """The answer depends on the listener, and the question has none."""


def find_listener_domain(plan: Plan, question: DomainQuestion) -> ListenerDomain | None:
    """Return the entry of a domain. Raises ValueError, with one sentence, if the question cannot be answered.

    As in an address, a text that is not a domain name finds the entry "*".
    """
    if question.peer is not UNSET:
        split_endpoint(question.peer)
    if question.listener is not UNSET:
        listener = normal_listener(question.listener)
    elif plan.policy.depends_on_listener:
        # The milter tempfails here. To use the rules of another listener would be a guess.
        raise NoListenerError("some rules hold on one listener only: name the listener")
    else:
        listener = ANY_LISTENER
    entry = plan.policy.lookup(listener, normal_domain(question.domain) or NO_DOMAIN)
    return (
        None
        if entry is None
        else ListenerDomain(
            relay_to=entry.relay_to,
            relay_from=[network.text for network in entry.relay_from],
            relay_from_authz=list(entry.relay_from_authz),
            log_oob=entry.log_oob,
            log_arf=entry.log_arf,
        )
    )


def explain_question(plan: Plan, question: ExplainQuestion) -> Explanation:
    """Return what would happen. Raise ValueError, with one sentence, for unreadable addresses and messages."""
    evaluator = Evaluator(plan.settings, policy=plan.policy, node_id=plan.node_id)
    return evaluator.explain(question.envelope(), question.message(), clock=time.time, new_id=uuid4)
