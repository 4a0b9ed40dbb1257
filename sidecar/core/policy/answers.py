"""The policy's answers, and the rules for a complete message (policy reference, End of message).

Each answer has its reasons: the rule, its place in a file, and a sentence.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Literal

from msgspec import Struct
from msgspec.structs import replace

from sidecar.core.disposition import Disposition
from sidecar.core.settings.proof import Unverified, VerifyRule
from sidecar.core.settings.values import LogMode, Where

ReportKind = Literal["oob", "arf"]

_REPORT_NAMES: dict[ReportKind, str] = {"arf": "a feedback report", "oob": "a bounce report"}

REQUIRED = "required"
"""The value of the rule that a recipient must have an address token."""

# In one sentence: more reasons do not help.
_REASONS_LIMIT = 4

# By: relayed, logged as a report.
_DISPOSITIONS = {
    (True, False): Disposition.RELAYED,
    (True, True): Disposition.LOGGED_AND_RELAYED,
    (False, True): Disposition.LOGGED_AND_DROPPED,
    (False, False): None,
}


class Because(Struct, frozen=True, kw_only=True):
    """One reason. `file`, `line` and `key` are None for a default, or for a rule that is missing."""

    file: str | None = None
    line: int | None = None
    key: str | None = None
    value: Any = None
    text: str

    def __str__(self) -> str:
        return self.text if self.file is None else f"{self.text} ({self.file}:{self.line} {self.key})"


def because(text: str, where: Where | None, value: object = None) -> Because:
    """Return a reason: a sentence, and the place of the rule if it is in a file."""
    if where is None:
        return Because(text=text, value=value)
    return Because(file=where.file, line=where.line, key=where.key, value=value, text=text)


def name_of(domain: str) -> str:
    """Return a domain as reasons name it."""
    return domain or "an address without a domain"


class ConnectAnswer(Struct, frozen=True, kw_only=True):
    """The decision on a peer at connect. `deferred`: it depends on the recipient."""

    accept: bool
    deferred: bool
    because: tuple[Because, ...]


class RecipientAnswer(Struct, frozen=True, kw_only=True):
    """The decision on one recipient. `relay`: the peer is permitted to relay any message to it.

    `outbound`: it is permitted to relay to any recipient, as a relay host, or by its sender domain; its mail is signed.
    `mta_spelling` is the name by which the MTA can remove the recipient; it is empty outside of a session.
    """

    address: str
    mta_spelling: str = ""
    domain: str
    relay: bool
    outbound: bool = False
    log_oob: LogMode
    log_arf: LogMode
    because: tuple[Because, ...]

    @property
    def accept(self) -> bool:
        """Whether RCPT is accepted."""
        return self.relay or self.accepts_reports

    @property
    def accepts_reports(self) -> bool:
        """Whether the decision depends on the kind of message."""
        return self.log_oob is not LogMode.IGNORE or self.log_arf is not LogMode.IGNORE


class RecipientResult(Struct, frozen=True, kw_only=True):
    """The decision on a complete message for one recipient; `logged_as` is the kind of report it is logged as.

    `unverified`: what happens to the message if it is accepted for no recipient, because it is a report that proves nothing.
    """

    recipient: RecipientAnswer
    relayed: bool
    logged_as: ReportKind | None
    unverified: Unverified | None = None
    because: Because


class MessageAnswer(Struct, frozen=True, kw_only=True):
    """The decision on a complete message. It is rejected if it is relayed to no recipient and a report for none."""

    results: tuple[RecipientResult, ...]

    @property
    def action(self) -> Literal["accept", "discard", "reject"]:
        """The verdict on the message as a whole."""
        if any(result.relayed for result in self.results):
            return "accept"
        return "discard" if self.logged_as is not None else "reject"

    @property
    def unverified(self) -> Unverified | None:
        """What happens to a message that is rejected because it is a report that proves nothing; None for other messages."""
        wanted = {result.unverified for result in self.results}
        return "quarantine" if "quarantine" in wanted else "reject" if "reject" in wanted else None

    @property
    def logged_as(self) -> ReportKind | None:
        """The kind of report that the message is logged as, for at least one recipient."""
        kinds = {result.logged_as for result in self.results}
        return "arf" if "arf" in kinds else "oob" if "oob" in kinds else None

    @property
    def disposition(self) -> Disposition:
        """The disposition of the message as a whole: relayed to a recipient, logged as a report for a recipient, or both."""
        relayed = logged = False
        for result in self.results:
            relayed = relayed or result.relayed
            logged = logged or result.logged_as is not None
        return _DISPOSITIONS[relayed, logged] or Disposition.REJECTED_AT_END

    def disposition_of(self, result: RecipientResult) -> Disposition:
        """Return the disposition of one recipient: a message that is rejected for all recipients is dropped for none."""
        own = _DISPOSITIONS[result.relayed, result.logged_as is not None]
        return own or (Disposition.REJECTED_AT_END if self.action == "reject" else Disposition.DROPPED)


def sentence(answer: ConnectAnswer | RecipientAnswer | MessageAnswer) -> str:
    """Return the reasons of an answer as one sentence, each reason once."""
    reasons = [result.because for result in answer.results] if isinstance(answer, MessageAnswer) else answer.because
    texts = [*dict.fromkeys(map(str, reasons))]
    if len(texts) > _REASONS_LIMIT:
        texts[_REASONS_LIMIT:] = [f"and {len(texts) - _REASONS_LIMIT} more reasons"]
    return "; ".join(texts)


def judge_message(recipients: Iterable[RecipientAnswer], *, is_oob: bool, is_arf: bool) -> MessageAnswer:
    """Decide on a complete message. A feedback report is looked for first, as KumoMTA does."""
    return MessageAnswer(results=tuple(_result(recipient, is_oob=is_oob, is_arf=is_arf) for recipient in recipients))


def requiring_proof(answer: MessageAnswer, unproved: Mapping[str, VerifyRule]) -> MessageAnswer:
    """Return the decision where a report proves nothing for some recipients: `unproved` has their rules, by their addresses."""
    if not unproved:
        return answer
    return MessageAnswer(results=tuple(_verified(one, unproved.get(one.recipient.address)) for one in answer.results))


def _verified(result: RecipientResult, rule: VerifyRule | None) -> RecipientResult:
    """Return what becomes of a report that proves nothing, by a rule."""
    if rule is None or rule.unverified == "accept" or result.logged_as is None:
        return result
    name, kind = name_of(result.recipient.domain), _REPORT_NAMES[result.logged_as]
    verb = "quarantines" if rule.unverified == "quarantine" else "rejects"
    reason = because(f"{name} {verb} {kind} that proves nothing", rule.places.get("unverified"), rule.unverified)
    return replace(result, relayed=False, logged_as=None, unverified=rule.unverified, because=reason)


def requiring_token(answer: RecipientAnswer, why: str, rule: VerifyRule) -> RecipientAnswer:
    """Return the answer to a recipient that must have a valid address token and has none; `why` is a sentence about it."""
    reason = because(
        f"{name_of(answer.domain)} accepts only addresses with a token: {why}", rule.places.get("address"), REQUIRED
    )
    return replace(answer, relay=False, log_oob=LogMode.IGNORE, log_arf=LogMode.IGNORE, because=(reason,))


def suppressing(answer: RecipientAnswer, reason: Because, *, rejects: bool) -> RecipientAnswer:
    """Return the answer to a recipient that is on the suppression list; a rejection, or the same with one more reason."""
    if not rejects:
        return replace(answer, because=(*answer.because, reason))
    return replace(answer, relay=False, log_oob=LogMode.IGNORE, log_arf=LogMode.IGNORE, because=(reason,))


def _result(recipient: RecipientAnswer, *, is_oob: bool, is_arf: bool) -> RecipientResult:
    if is_arf and recipient.log_arf is not LogMode.IGNORE:
        return _logged(recipient, "arf", recipient.log_arf)
    if is_oob and recipient.log_oob is not LogMode.IGNORE:
        return _logged(recipient, "oob", recipient.log_oob)
    rule = recipient.because[0]
    if not recipient.relay:
        # The rule is one that accepts reports.
        modes = {"bounce": recipient.log_oob, "feedback": recipient.log_arf}
        kinds = " and ".join(kind for kind, mode in modes.items() if mode is not LogMode.IGNORE)
        text = f"{name_of(recipient.domain)} accepts only {kinds} reports from external hosts, and this message is not one"
        rule = replace(rule, text=text)
    return RecipientResult(recipient=recipient, relayed=recipient.relay, logged_as=None, because=rule)


def _logged(recipient: RecipientAnswer, kind: ReportKind, mode: LogMode) -> RecipientResult:
    rule = next(reason for reason in recipient.because if (reason.key or "").endswith(f".log_{kind}"))
    relayed = mode is LogMode.LOG_THEN_RELAY
    text = f"{_REPORT_NAMES[kind]} for {name_of(recipient.domain)}, logged and {'relayed' if relayed else 'dropped'}"
    return RecipientResult(recipient=recipient, relayed=relayed, logged_as=kind, because=replace(rule, text=text))
