"""The fields of a delivery status notification -> OobReport (RFC 3464, RFC 6533).

Owns the fields that a bounce report needs, and which field belongs to which recipient. Never reads the rest of the message.
"""

import re

from msgspec import UNSET

from sidecar.core.reports.addresses import RECIPIENT_LIMIT, within_limits, without_comments
from sidecar.core.reports.dates import read_date
from sidecar.core.reports.fields import (
    Block,
    Group,
    blocks,
    class_of,
    diagnostic_code,
    mta_name,
    readable_status,
    recipient,
    recipient_or_empty,
    reply_class,
    reply_status,
    take,
)
from sidecar.core.reports.values import ACTIONS, Action, OobReport, PerMessage, PerRecipient

_ACTIONS_BY_CLASS: dict[int | None, Action] = {4: "delayed", 5: "failed"}
# What programs write instead. It counts only where no status and no reply says more.
_ACTIONS_IN_OTHER_WORDS: dict[str, Action] = {
    **dict.fromkeys(("failure", "expired", "undeliverable", "undelivered", "bounced", "rejected"), "failed"),
    "deliverable": "delivered",
}
NO_RECIPIENT = "its delivery-status part has no recipient"
_WORD = re.compile(r"[^a-z]*+([a-z]+)")
_EMPTY_LINES = re.compile(rb"\n[ \t\r]*+\n")

_NAMES_A_RECIPIENT = frozenset(("final-recipient", "original-recipient"))
_BEGINS_RECIPIENTS = _NAMES_A_RECIPIENT | {"action"}
_OF_RECIPIENTS = _BEGINS_RECIPIENTS | {"status", "diagnostic-code", "remote-mta", "last-attempt-date"}


def read_status(body: bytes, original_message: str | bytes | None, *others: bytes) -> OobReport | str:
    """Read the body of a delivery-status part, and of others after it, decoded. Return the report, or what the first one lacks.

    The recipients of all parts count. A part can repeat a recipient of one before it, in a second form.
    """
    read = [_read_part(body) for body in (body, *others)]
    parts = [part for part in read if not isinstance(part, str)]
    entries: list[PerRecipient] = []
    for _, more in parts:
        known = {_key(entry) for entry in entries} if entries else set()
        entries += [entry for entry in more if _key(entry) not in known]
    fault = next((part for part in read if isinstance(part, str)), None)
    if fault is not None and not entries:
        return fault
    message = next((message for message, _ in parts if message.reporting_mta is not None), parts[0][0])
    return OobReport(per_message=message, per_recipient=entries[:RECIPIENT_LIMIT], original_message=original_message)


def _read_part(body: bytes) -> tuple[PerMessage, list[PerRecipient]] | str:
    fields, groups = _groups(body)
    read = [_per_recipient(group) for group in within_limits(groups, recipient_fields)]
    message, entries = _per_message(fields), [entry for entry in read if isinstance(entry, PerRecipient)]
    if not entries:
        if read:
            return f"its delivery-status part has no recipient that is readable: {read[0]}"
        if message.reporting_mta is None:
            return NO_RECIPIENT
        # KumoMTA accepts a report that names its reporter and nothing else. It makes no OOB record, but it is a report.
        if sum(not paragraph.isspace() for paragraph in _EMPTY_LINES.split(body.strip())) > 1:
            return "its delivery-status part has no recipient that is readable: the first has no field of RFC 3464"
    return message, entries


def recipient_fields(group: Group) -> list[str]:
    """Return the values of the fields that name the recipient of a group."""
    return [value for name in _NAMES_A_RECIPIENT for value in group.get(name, ())]


def _key(entry: PerRecipient) -> tuple[str, Action]:
    known = entry.final_recipient or entry.original_recipient
    return "" if known is None else known.recipient, entry.action


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
        first = _first_field(block)
        for name, value in block:
            is_next = name in group and (name == first or (name in _NAMES_A_RECIPIENT and "action" in group))
            if begins or is_next or (group is message and (name == first or name in _BEGINS_RECIPIENTS)):
                group = {}
                recipients.append(group)
                begins = False
            group.setdefault(name, []).append(value)
    return message, recipients


def _first_field(block: Block) -> str | None:
    """Return the field with which each recipient of a block begins, if that is not a recipient's name: `Status`, `Action`."""
    names = [name for name, _ in block if name in _OF_RECIPIENTS]
    recipients = max(map(names.count, _NAMES_A_RECIPIENT))
    return names[0] if recipients and names[0] not in _NAMES_A_RECIPIENT and names.count(names[0]) == recipients else None


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
    diagnostic = take(group, "diagnostic-code", diagnostic_code)
    reported = take(group, "status", readable_status)
    # Quotes and comments can be before the word, and any text after it: `Failed (permanently)`.
    said: Action | None = take(group, "action", lambda text: _first_word_in(ACTIONS, without_comments(text)))
    # `failure`, `expired`, `fehlgeschlagen`: the class of the status or of the reply says what it means.
    unread = class_of(group.get("status", [""])[0])
    classes = (reported.class_ if reported else unread, reply_class(diagnostic))
    action = said or next(filter(None, map(_ACTIONS_BY_CLASS.get, classes)), None)
    action = action or _first_word_in(_ACTIONS_IN_OTHER_WORDS, group.get("action", [""])[0])
    replied = None if reported else reply_status(diagnostic)
    if action is None:
        return "the first has no Action of RFC 3464, and no Status of class 4 or 5"
    original = take(group, "original-recipient", recipient)
    final = take(group, "final-recipient", recipient)
    if final is None and original is None:
        # Some programs know that a recipient failed and not which one: `Final-Recipient: rfc822;`.
        final = take(group, "final-recipient", recipient_or_empty) or take(group, "original-recipient", recipient_or_empty)
        if final is None:
            return "the first has neither Final-Recipient nor Original-Recipient"
    return PerRecipient(
        final_recipient=final,
        action=action,
        status=reported or replied,
        original_recipient=original,
        remote_mta=take(group, "remote-mta", mta_name),
        diagnostic_code=diagnostic,
        last_attempt_date=take(group, "last-attempt-date", read_date),
        final_log_id=take(group, "final-log-id", str),
        will_retry_until=take(group, "will-retry-until", read_date),
        extensions=group,
        derived=(*["type"] * (said is None), *["response.enhanced_code"] * (replied is not None)) or UNSET,
    )


def _first_word_in(actions: dict[str, Action], text: str) -> Action | None:
    word = _WORD.match(text.lower())
    return None if word is None else actions.get(word[1])
