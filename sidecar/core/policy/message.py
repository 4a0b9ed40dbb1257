"""The rules for a complete message, for each recipient on its own (policy reference, End of message)."""

from collections.abc import Iterable

from msgspec.structs import replace

from sidecar.core.policy.answers import MessageAnswer, RecipientAnswer, RecipientResult, ReportKind, name_of
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
