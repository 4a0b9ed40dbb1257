"""The rules for a complete message, for each recipient on its own (policy reference, End of message)."""

from collections.abc import Iterable

from sidecar.core.policy.answers import Because, MessageAnswer, RecipientAnswer, RecipientResult, ReportKind, name_of
from sidecar.core.settings.values import LogMode

_REPORT_NAMES: dict[ReportKind, str] = {"arf": "a feedback report", "oob": "a bounce report"}


def judge_message(recipients: Iterable[RecipientAnswer], *, is_oob: bool, is_arf: bool) -> MessageAnswer:
    """Decide on a complete message. A feedback report is looked for first, as KumoMTA does."""
    return MessageAnswer(results=tuple(_result(recipient, is_oob=is_oob, is_arf=is_arf) for recipient in recipients))


def _result(recipient: RecipientAnswer, *, is_oob: bool, is_arf: bool) -> RecipientResult:
    if is_arf and recipient.log_arf is not LogMode.IGNORE:
        return _logged(recipient, "arf", recipient.log_arf)
    if is_oob and recipient.log_oob is not LogMode.IGNORE:
        return _logged(recipient, "oob", recipient.log_oob)
    return RecipientResult(
        address=recipient.address,
        mta_spelling=recipient.mta_spelling,
        domain=recipient.domain,
        relayed=recipient.relay,
        logged_as=None,
        because=recipient.because[0] if recipient.relay else _not_accepted(recipient),
    )


def _logged(recipient: RecipientAnswer, kind: ReportKind, mode: LogMode) -> RecipientResult:
    rule = _rule(recipient, f"log_{kind}")
    relayed = mode is LogMode.LOG_THEN_RELAY
    text = f"{_REPORT_NAMES[kind]} for {name_of(recipient.domain)}, logged and {'relayed' if relayed else 'dropped'}"
    return RecipientResult(
        address=recipient.address,
        mta_spelling=recipient.mta_spelling,
        domain=recipient.domain,
        relayed=relayed,
        logged_as=kind,
        because=Because(file=rule.file, line=rule.line, key=rule.key, value=rule.value, text=text),
    )


def _not_accepted(recipient: RecipientAnswer) -> Because:
    """Return why a recipient that accepts only reports does not get the message. The rule is the one that accepts reports."""
    rule = recipient.because[0]
    modes = {"bounce": recipient.log_oob, "feedback": recipient.log_arf}
    kinds = " and ".join(kind for kind, mode in modes.items() if mode is not LogMode.IGNORE)
    text = f"{name_of(recipient.domain)} accepts only {kinds} reports from external hosts, and this message is not one"
    return Because(file=rule.file, line=rule.line, key=rule.key, value=rule.value, text=text)


def _rule(recipient: RecipientAnswer, key: str) -> Because:
    return next(reason for reason in recipient.because if (reason.key or "").endswith(f".{key}"))
