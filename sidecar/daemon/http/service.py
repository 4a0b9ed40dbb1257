"""What is served: one policy, with what is known of it.

Owns the answers as values. Never speaks HTTP.
"""

import time
from uuid import uuid4

from msgspec import Struct

from sidecar.core.evaluate.evaluator import Evaluator
from sidecar.core.evaluate.explanation import Explanation
from sidecar.core.names import normal_domain, normal_listener, split_endpoint
from sidecar.core.policy import Policy
from sidecar.core.policy.address import NO_DOMAIN
from sidecar.core.settings.values import ANY_LISTENER, LogMode, Settings
from sidecar.daemon.http.questions import DomainQuestion, ExplainQuestion


class NoListenerError(ValueError):
    """The answer depends on the listener, and none was told."""


class ListenerDomain(Struct, frozen=True, kw_only=True):
    """The parameters of KumoMTA's make_listener_domain, and relay_from_authz, which its helper takes out before."""

    relay_to: bool
    relay_from: list[str]
    relay_from_authz: list[str]
    log_oob: LogMode
    log_arf: LogMode


class Service(Struct, frozen=True, kw_only=True, eq=False):
    """A policy and the settings it was compiled from; `revision` names them, `made` is in seconds since 1970.

    `version` is the program's.
    """

    policy: Policy
    settings: Settings
    node_id: str
    revision: str
    made: float
    version: str

    def listener_domain(self, question: DomainQuestion) -> ListenerDomain | None:
        """Give the entry of a domain. Raises ValueError, one sentence, for a question that cannot be answered.

        A domain that is no domain name finds what "*" has, as an address with such a domain does.
        """
        if question.peer is not None:
            split_endpoint(question.peer)
        entry = self.policy.lookup(self._listener(question.listener), normal_domain(question.domain) or NO_DOMAIN)
        if entry is None:
            return None
        return ListenerDomain(
            relay_to=entry.relay_to,
            relay_from=[network.text for network in entry.relay_from],
            relay_from_authz=list(entry.relay_from_authz),
            log_oob=entry.log_oob,
            log_arf=entry.log_arf,
        )

    def _listener(self, told: str | None) -> str:
        """Read a listener. Where it matters, nothing is answered without one: the milter would answer 451."""
        if told is not None:
            return normal_listener(told)
        if self.policy.depends_on_listener:
            raise NoListenerError("some rules hold on one listener only: name the listener")
        return ANY_LISTENER

    def explain(self, question: ExplainQuestion) -> Explanation:
        """Say what would happen. Raises ValueError, one sentence, for addresses and messages that are none."""
        evaluator = Evaluator(self.settings, policy=self.policy, node_id=self.node_id)
        return evaluator.explain(question.envelope(), question.message(), clock=time.time, new_id=uuid4)
