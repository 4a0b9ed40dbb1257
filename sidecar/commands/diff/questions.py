"""Compare the decisions of both configurations on one recipient of an envelope."""

from typing import Final

from msgspec import Struct

from sidecar.commands.diff.values import Effect, Side, What
from sidecar.core.disposition import Disposition
from sidecar.core.evaluate.envelope import Envelope
from sidecar.core.evaluate.evaluator import EnvelopeOutcome, Judgement, Undecided
from sidecar.core.policy import Because
from sidecar.core.policy.address import domain_of, has_route, is_ambiguous, is_text

# How far a message gets. Other outcomes are rejections, or can become one.
_ONLY_REPORTS: Final = 1
_REACH: Final[dict[EnvelopeOutcome, int]] = {
    Undecided.CONTENT_UNKNOWN: _ONLY_REPORTS,
    Disposition.LOGGED_AND_DROPPED: 2,
    Disposition.QUARANTINED: 2,
    Disposition.RELAYED: 3,
    Disposition.LOGGED_AND_RELAYED: 3,
}

# Two answers take some 25 us, and an entry some 500 bytes.
_CACHE_LIMIT = 50_000


class Difference(Struct, frozen=True, kw_only=True):
    """A question with two decisions."""

    old: EnvelopeOutcome
    new: EnvelopeOutcome
    old_rule: Because
    new_rule: Because

    @property
    def effect(self) -> Effect:
        """Whether the message gets further than before."""
        before, after = _REACH.get(self.old, 0), _REACH.get(self.new, 0)
        return "opens" if after > before else "closes" if after < before else "neither"

    @property
    def what(self) -> What:
        """Whether the new decision accepts the message, or rejects it."""
        before, after = (min(_REACH.get(outcome, 0), _ONLY_REPORTS + 1) for outcome in (self.old, self.new))
        if before == after:
            return "delivery_changed" if before else "rejected_elsewhere"
        return "newly_accepted" if after > before else "newly_rejected"


class Questions:
    """Both policies, with a bounded cache of their answers: neither policy changes while this runs."""

    def __init__(self, old: Side, new: Side) -> None:
        self._old, self._new = old, new
        self._cache: dict[tuple[object, ...], Difference | None] = {}

    def ask(self, envelope: Envelope) -> Difference | None:
        """Return the difference for an envelope with one recipient or none; None if there is none."""
        key = _key(envelope)
        if key is None:
            return self._difference(envelope)
        if key not in self._cache:
            if len(self._cache) >= _CACHE_LIMIT:
                self._cache.clear()
            self._cache[key] = self._difference(envelope)
        return self._cache[key]

    def _difference(self, envelope: Envelope) -> Difference | None:
        before, after = self._old.evaluator.judge(envelope), self._new.evaluator.judge(envelope)
        old, new = _outcome(before), _outcome(after)
        if _delivery(old) == _delivery(new):
            return None
        old_rule, new_rule = self._old.because(_rule(before)), self._new.because(_rule(after))
        return Difference(old=old, new=new, old_rule=old_rule, new_rule=new_rule)


def _outcome(judgement: Judgement) -> EnvelopeOutcome:
    """Return the outcome. The mail of a relay host is relayed, also where the record does not contain its recipients."""
    is_relay_host = judgement.connect.accept and not judgement.connect.deferred
    if judgement.outcome is Undecided.RECIPIENTS_UNKNOWN and is_relay_host:
        return Disposition.RELAYED
    return judgement.outcome


def _delivery(outcome: EnvelopeOutcome) -> EnvelopeOutcome:
    """Return what counts as a difference: relayed mail is relayed, whether it is also logged as a report or not."""
    return Disposition.RELAYED if outcome is Disposition.LOGGED_AND_RELAYED else outcome


def _rule(judgement: Judgement) -> Because:
    """Return the deciding reason for the recipient."""
    if judgement.message is not None:
        return judgement.message.results[0].because
    if judgement.recipients:
        return judgement.recipients[0].because[0]
    # The first reason is about relay_hosts, the last about the listener domains.
    return judgement.connect.because[-1]


def _key(envelope: Envelope) -> tuple[object, ...] | None:
    """Return all that the answer depends on: of usual addresses only the domains; None for an unusual address."""
    recipient = "".join(envelope.recipients)
    domain = domain_of(recipient)
    if not domain or not is_text(recipient) or has_route(recipient) or is_ambiguous(recipient):
        return None
    return envelope.peer, envelope.listener, envelope.authz_id, envelope.kind, domain_of(envelope.sender), domain
