"""The fields of a delivery status notification -> OobReport (RFC 3464, RFC 6533).

Owns the fields that a bounce report needs, and which field belongs to which recipient. Never reads the rest of the message.
"""

import re
from typing import get_args

from sidecar.core.reports.dates import read_date
from sidecar.core.reports.fields import Group, blocks, diagnostic_code, mta_name, recipient, status, take
from sidecar.core.reports.values import Action, OobReport, PerMessage, PerRecipient

# A report is about one message, and MTAs accept about a thousand recipients per message (Postfix and Exim: 1000 or less).
# Each makes a record, so this also bounds the records of one message.
RECIPIENT_LIMIT = 1000

_ACTIONS: dict[str, Action] = {action: action for action in get_args(Action)}
_WORD = re.compile(r"[a-z]+")

_NAMES_A_RECIPIENT = frozenset(("final-recipient", "original-recipient"))
_BEGINS_RECIPIENTS = _NAMES_A_RECIPIENT | {"action"}


def read_status(body: bytes, original_message: str | None) -> OobReport | str:
    """Read the body of a delivery-status part, decoded. Return the report, or what is missing."""
    message, recipients = _groups(body)
    read = [_per_recipient(group) for group in recipients[:RECIPIENT_LIMIT]]
    per_recipient = [entry for entry in read if isinstance(entry, PerRecipient)]
    per_message = _per_message(message)
    # KumoMTA accepts a report that names its reporter and no recipient. It makes no OOB record, but it is a report.
    if not per_recipient and (read or per_message.reporting_mta is None):
        return f"its delivery-status part has no recipient{f' that is readable: {read[0]}' if read else ''}"
    return OobReport(per_message=per_message, per_recipient=per_recipient, original_message=original_message)


def _groups(body: bytes) -> tuple[Group, list[Group]]:
    """Return the fields of the message, and those of each recipient.

    An empty line should separate groups (RFC 3464 section 2.1). Some MTAs omit it, and gateways add empty lines anywhere. So a
    block that names no recipient and repeats no field continues the previous group, and some fields begin a recipient's group.
    """
    message: Group = {}
    group = message
    recipients: list[Group] = []
    for position, block in enumerate(blocks(body)):
        names = {name for name, _ in block}
        if group is message:
            begins = position > 0 and not names.isdisjoint(_BEGINS_RECIPIENTS)
        else:
            begins = not (names.isdisjoint(_NAMES_A_RECIPIENT) and names.isdisjoint(group))
        for name, value in block:
            is_next = name in _NAMES_A_RECIPIENT and name in group and "action" in group
            if begins or is_next or (group is message and name in _BEGINS_RECIPIENTS):
                group = {}
                recipients.append(group)
                begins = False
            group.setdefault(name, []).append(value)
    return message, recipients


def _per_message(group: Group) -> PerMessage:
    return PerMessage(
        original_envelope_id=take(group, "original-envelope-id", str),
        reporting_mta=take(group, "reporting-mta", mta_name),
        dsn_gateway=take(group, "dsn-gateway", mta_name),
        received_from_mta=take(group, "received-from-mta", mta_name),
        arrival_date=take(group, "arrival-date", read_date),
        extensions=group,
    )


def _per_recipient(group: Group) -> PerRecipient | str:
    action: Action | None = take(group, "action", _action)
    if action is None:
        return "the first has no Action of RFC 3464"
    final = take(group, "final-recipient", recipient)
    original = take(group, "original-recipient", recipient)
    if final is None and original is None:
        return "the first has neither Final-Recipient nor Original-Recipient"
    return PerRecipient(
        final_recipient=final,
        action=action,
        status=take(group, "status", status),
        original_recipient=original,
        remote_mta=take(group, "remote-mta", mta_name),
        diagnostic_code=take(group, "diagnostic-code", diagnostic_code),
        last_attempt_date=take(group, "last-attempt-date", read_date),
        final_log_id=take(group, "final-log-id", str),
        will_retry_until=take(group, "will-retry-until", read_date),
        extensions=group,
    )


def _action(text: str) -> Action | None:
    word = _WORD.match(text.lower())  # any text can follow: `Failed (permanently)`
    return None if word is None else _ACTIONS.get(word[0])
