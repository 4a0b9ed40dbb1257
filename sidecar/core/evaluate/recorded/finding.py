"""A record compared with a configuration: do the two agree, and if not, why; and counts of such comparisons.

Owns the comparison and the counters. Their memory is bounded, however many peers and domains there are.
"""

from collections.abc import Iterator
from typing import Literal

from msgspec import Struct, field
from msgspec.structs import replace

from sidecar.core.disposition import REJECTED, Disposition
from sidecar.core.evaluate.envelope import (
    Envelope,
    MessageKind,
    RecordedAnswer,
    envelope_of,
    had_no_login,
    received_by_smtp,
    recorded_answer,
)
from sidecar.core.evaluate.evaluator import EnvelopeOutcome, Evaluator, Judgement, Undecided, deciding
from sidecar.core.evaluate.recorded.follow_up import Entry, FollowUp
from sidecar.core.policy import Because, Policy, RecipientAnswer
from sidecar.core.policy.address import domain_of
from sidecar.core.records import Logged, Messages
from sidecar.core.settings.values import ANY_LISTENER, LogMode

_KINDS: dict[FollowUp, MessageKind] = {"bounce_report": "oob", "rejected": "other"}

# Some 25 MB for each kind of key. A day has fewer peers; the bound is for a flood of made-up domains.
_KEYS = 100_000
_NO_MATCH = "no listener domain matches"

NotCompared = Literal["tempfailed", "rejected_for_other_reason", "not_smtp", "unknown"]
"""Why a record cannot disagree.

`tempfailed`: a 4xx reply is no decision; `rejected_for_other_reason`: not by the policy, for example an unknown user;
`not_smtp`: by KumoMTA's HTTP listener, to which the policy does not apply; `unknown`: the record does not contain enough.
"""


class ComparedRecord(Struct, frozen=True, kw_only=True):
    """A record under a configuration. `agrees` is None if the record does not contain enough to compare them.

    `is_follow_up`: another record has started this message. `needs_more`: the agreement depends on the listener or the login,
    and the record does not contain it.
    """

    record: Logged
    answer: RecordedAnswer
    follow_up: FollowUp | None
    is_follow_up: bool
    envelope: Envelope
    judgement: Judgement
    agrees: bool | None
    needs_more: bool

    @property
    def is_counted_elsewhere(self) -> bool:
        """True if another record is about the same message: the Reception of a bounce report, or of a later rejection."""
        return self.is_follow_up or self.record.type == "OOB"

    @property
    def rejected_among(self) -> list[RecipientAnswer]:
        """The recipients that are rejected at RCPT."""
        return [recipient for recipient in self.judgement.recipients if not recipient.accept]


class Disagreement(Struct, frozen=True, kw_only=True):
    """A record that this configuration decides otherwise, and why; the rule first.

    `recipient` is the rejected one if others are accepted; None if all have one disposition.
    """

    accepts: bool
    recipient: str | None
    because: tuple[Because, ...]


def find(entry: Entry, evaluator: Evaluator) -> ComparedRecord | None:
    """Return the comparison; None for outgoing mail. Raises ValueError if the record does not contain enough."""
    record = entry.record
    if record is None:
        raise ValueError(entry.fault)
    answer = recorded_answer(record)
    if answer.happened == "outgoing":
        return None
    envelope = envelope_of(record)
    if entry.follow_up in _KINDS:
        envelope = replace(envelope, kind=_KINDS[entry.follow_up])
    judgement = evaluator.judge(envelope)
    agrees = _agrees(answer, entry.follow_up, judgement) if received_by_smtp(record) else None
    needs_more = agrees is False and any(
        _agrees(answer, entry.follow_up, evaluator.judge(other)) is not False
        for other in _possible_envelopes(envelope, record, evaluator.policy)
    )
    return ComparedRecord(
        record=record,
        answer=answer,
        follow_up=entry.follow_up,
        is_follow_up=entry.is_follow_up,
        envelope=envelope,
        judgement=judgement,
        agrees=None if needs_more else agrees,
        needs_more=needs_more,
    )


def disagreement(found: ComparedRecord) -> Disagreement | None:
    """Return how this configuration decides otherwise; None if it does not, or if that is not known.

    A quarantined message was accepted as well.
    """
    if found.agrees is not False or found.is_counted_elsewhere:
        return None
    outcome = found.judgement.outcome
    is_dropped = found.answer.happened == "dropped" and outcome not in REJECTED
    if is_dropped or found.answer.happened == "rejected" or found.follow_up == "rejected":
        return Disagreement(accepts=True, recipient=None, because=deciding(found.judgement))
    if outcome not in REJECTED and (rejected := found.rejected_among):
        return Disagreement(accepts=False, recipient=rejected[0].address, because=rejected[0].because)
    if outcome in REJECTED or found.answer.happened != "quarantined":
        return Disagreement(accepts=False, recipient=None, because=deciding(found.judgement))
    return None


def _possible_envelopes(envelope: Envelope, record: Logged, policy: Policy) -> Iterator[Envelope]:
    """Return the envelopes that the record can stand for, with each listener and login that it does not contain.

    KumoMTA logs neither listener nor login, unless its `meta` lists them; an MTA may not pass the listener to us.
    """
    can_have_login = envelope.authz_id is None and not (recorded_answer(record).is_ours or had_no_login(record))
    listeners = (ANY_LISTENER, *sorted(policy.listeners)) if envelope.listener == ANY_LISTENER else (envelope.listener,)
    for listener in listeners:
        yield replace(envelope, listener=listener)
        sender = policy.lookup(listener, domain_of(envelope.sender))
        if sender is not None and can_have_login:
            for login in sender.relay_from_authz:
                yield replace(envelope, listener=listener, authz_id=login)


def _agrees(answer: RecordedAnswer, follow_up: FollowUp | None, judgement: Judgement) -> bool | None:
    outcome = judgement.outcome
    match answer.happened:
        case "accepted":
            return _agrees_accepted(answer, follow_up, judgement)
        case "quarantined":
            return outcome == Disposition.QUARANTINED
        case "dropped":
            return outcome == Disposition.REJECTED_AT_END
        case "rejected" if outcome == Undecided.RECIPIENTS_UNKNOWN:
            # A relay host's message is accepted for any recipient.
            is_relay_host = judgement.connect.accept and not judgement.connect.deferred
            return False if answer.stage == "connect" or is_relay_host else None
        case "rejected":
            # A message that was rejected at RCPT may have been a report; now its content would be read. One that was rejected
            # at its end is no report for KumoMTA: it is accepted now only if any message is.
            return outcome in REJECTED
        case _:
            return None


def _agrees_accepted(answer: RecordedAnswer, follow_up: FollowUp | None, judgement: Judgement) -> bool | None:
    outcome = judgement.outcome
    if follow_up == "rejected":
        return outcome in REJECTED
    if outcome == Undecided.RECIPIENTS_UNKNOWN:
        return None
    if outcome in REJECTED or not all(recipient.accept for recipient in judgement.recipients):
        return False
    if outcome == Undecided.PROOF_UNKNOWN:
        return None
    if outcome != Undecided.CONTENT_UNKNOWN or answer.is_ours:
        return True
    # KumoMTA's Reception alone does not mean that the message was accepted. If it was sent on, it was, as mail or as a report.
    relays_reports = any(LogMode.LOG_THEN_RELAY in {one.log_oob, one.log_arf} for one in judgement.recipients)
    return False if follow_up == "outgoing" and not relays_reports else None


# --- counts


class AnswerCount(Struct, kw_only=True, gc=False):
    """Numbers of answers by what happened, and of those that this configuration decides otherwise.

    `unknown` counts those that cannot be compared: a 4xx reply is no decision, and some records do not contain enough.
    """

    accepted: int = 0
    rejected: int = 0
    tempfailed: int = 0
    differ: int = 0
    unknown: int = 0

    @property
    def total(self) -> int:
        """The number of all answers."""
        return self.accepted + self.rejected + self.tempfailed

    def add(self, found: ComparedRecord) -> None:
        """Count a record for as many events as it stands for."""
        number, happened = found.record.count, found.answer.happened
        if happened == "tempfailed":
            self.tempfailed += number
        elif happened in {"accepted", "dropped", "quarantined"} and found.follow_up != "rejected":
            self.accepted += number
        else:
            self.rejected += number
        if found.agrees is None:
            self.unknown += number
        elif not found.agrees:
            self.differ += number


class BoundedTally:
    """Counts by key: the cells of a row. If there are too many keys, the rarer half is removed; `others` has its answers.

    The counts of keys that were never removed are exact, so frequent keys have the right number.
    """

    def __init__(self, keys: int = _KEYS) -> None:
        self._keys = keys
        self._counts: dict[tuple[str, ...], AnswerCount] = {}
        self.others = 0

    def __len__(self) -> int:
        return len(self._counts)

    def add(self, found: ComparedRecord, *key: str) -> None:
        """Count a record under `key`."""
        if key not in self._counts:
            if len(self._counts) >= self._keys:
                kept = dict(self.top(self._keys // 2))
                self.others += sum(count.total for key, count in self._counts.items() if key not in kept)
                self._counts = kept
            self._counts[key] = AnswerCount()
        self._counts[key].add(found)

    def top(self, number: int) -> list[tuple[tuple[str, ...], AnswerCount]]:
        """Return the most frequent keys; equal ones in the order of their words."""
        return sorted(self._counts.items(), key=lambda item: (-item[1].total, item[0]))[:number]


class RecordTotals(Struct, kw_only=True):
    """All counts of a log. `rulings` are by the outcome and its rule: `file:line key`, or the rule that is missing.

    `outgoing` counts records of outgoing mail, `unreadable` those that do not contain enough. `messages` counts messages: an
    answer is to one recipient.
    """

    all: AnswerCount = field(default_factory=AnswerCount)
    rulings: BoundedTally = field(default_factory=BoundedTally)
    peers: BoundedTally = field(default_factory=BoundedTally)
    domains: BoundedTally = field(default_factory=BoundedTally)
    outgoing: int = 0
    unreadable: int = 0
    messages: int = 0
    known: Messages = field(default_factory=Messages)

    def add(self, found: ComparedRecord | None) -> None:
        """Count a judged record, or one of outgoing mail. A Reception with follow-ups counts once."""
        if found is None:
            self.outgoing += 1
            return
        if found.is_follow_up:
            return
        outcome = found.judgement.outcome
        self.all.add(found)
        self.messages += self.known.begins(found.record)
        if received_by_smtp(found.record):
            self.rulings.add(found, outcome.words, rule_of(outcome, deciding(found.judgement)[0]))
        else:
            self.rulings.add(found, "none", "not received by SMTP")
        self.peers.add(found, str(found.envelope.peer))
        domains = [answer.domain for answer in found.judgement.recipients]
        for domain in dict.fromkeys(domains or map(domain_of, found.envelope.recipients)):
            self.domains.add(found, domain or "(none)")


class Comparison(Struct, kw_only=True):
    """The result of a comparison. Counts are of answers: a record may stand for many rejections of a flood.

    `rules` has the disagreements by the rule that decides now. `outgoing` counts records of outgoing mail, `unreadable` lines
    and records that do not contain enough to be judged.
    """

    same: int = 0
    would_reject: int = 0
    would_accept: int = 0
    left_out: dict[NotCompared, int] = {}
    outgoing: int = 0
    unreadable: int = 0
    rules: BoundedTally = field(default_factory=BoundedTally)

    @property
    def otherwise(self) -> int:
        """The number of answers that would differ."""
        return self.would_reject + self.would_accept

    @property
    def compared(self) -> int:
        """The number of answers that can be compared."""
        return self.same + self.otherwise

    @property
    def is_empty(self) -> bool:
        """True if there was no record."""
        return not (self.compared or self.left_out or self.outgoing or self.unreadable)

    def add(self, found: ComparedRecord | None) -> Disagreement | None:
        """Count a record, and return the disagreement, if it is one."""
        if found is None:
            self.outgoing += 1
        if found is None or found.is_counted_elsewhere:
            return None
        number = found.record.count
        if (reason := _not_compared(found)) is not None:
            self.left_out[reason] = self.left_out.get(reason, 0) + number
            return None
        if (how := disagreement(found)) is None:
            self.same += number
            return None
        outcome = found.judgement.outcome if how.recipient is None else Disposition.REJECTED_AT_RCPT
        self.rules.add(found, rule_of(outcome, how.because[0]))
        if how.accepts:
            self.would_accept += number
        else:
            self.would_reject += number
        return how


def rule_of(outcome: EnvelopeOutcome, reason: Because) -> str:
    """Name the rule without the peer and the domain in its sentence, so that equal rulings are counted together."""
    if outcome == Disposition.REJECTED_AT_CONNECT:
        return "no listener domain accepts anything from external hosts"
    if reason.file is not None:
        return f"{reason.file}:{reason.line} {reason.key}"
    if reason.text.startswith(_NO_MATCH):
        return _NO_MATCH
    return "the default relay_hosts" if outcome in {Disposition.RELAYED, Undecided.RECIPIENTS_UNKNOWN} else reason.text


def _not_compared(found: ComparedRecord) -> NotCompared | None:
    if found.agrees is not None:
        return None
    match found.answer.happened:
        case "tempfailed" | "rejected_for_other_reason" as reason:
            return reason
        case _:
            return "unknown" if received_by_smtp(found.record) else "not_smtp"
