"""The recipients that a text names -> the report, with the reply of each.

Owns which piece of the text belongs to which recipient. Never decides whether a message is a bounce.
"""

import re
from itertools import pairwise

from msgspec import UNSET
from msgspec.structs import replace

from sidecar.core.reports.fields import VALUE_LIMIT, status
from sidecar.core.reports.text.entries import TextRecipient
from sidecar.core.reports.text.layout import Layout
from sidecar.core.reports.text.notice import BounceText
from sidecar.core.reports.text.replies import QuotedReply, find_reply, paragraph_end
from sidecar.core.reports.values import Action, DiagnosticCode, PerRecipient, ReportedRecipient

_REASON_LIMIT = 1000
_WINDOWS = 5
# Bytes of a line on each side of a recipient.
_WINDOW = 1024
# Of recipients, each of which is searched in the transcript of a session.
_TRANSCRIPT_LIMIT = 20
# Sendmail says 554 where it gives up, after the reply that made it do so.
_GIVEN_UP = "554"
_MARKS = ">:;,)]\"' "
_REPLY_CODE = re.compile(r"[245][0-9]{2}(?![0-9.])")
# Between recipients that have one reply in common.
_BETWEEN = b" \t\r\n<>,;"
# The transcript of a session is about all recipients.
_RULE = re.compile(rb"\n {0,4}-{3,5} ?[A-Z]")


def recipients(layout: Layout | None, text: BounceText, entries: list[TextRecipient], action: Action) -> list[PerRecipient]:
    """Return the recipients of a text, each with the SMTP reply that the text quotes for it."""
    ends = [*(after.start for _, after in pairwise(entries)), text.end]
    replies: list[QuotedReply | None] = []
    for entry, end in zip(entries, ends, strict=True):
        reply = _own_reply(text, entry, end)
        if (reply is None or not reply.enhanced) and len(entries) <= _TRANSCRIPT_LIMIT:
            other = _elsewhere(text, entry)
            reply = other if reply is None or (other is not None and other.code == reply.code and other.enhanced) else reply
        if layout is not None and layout.reply_before and reply is not None and reply.code == _GIVEN_UP:
            reply = _reply_before(text, entry) or reply
        replies.append(reply)
    for position in range(len(entries) - 2, -1, -1):
        if replies[position] is None and not text.text[entries[position].named : ends[position]].strip(_BETWEEN):
            replies[position] = replies[position + 1]
    if not any(replies):
        # Programs that name several recipients in one list say once what happened.
        replies = [find_reply(text.text, 0, text.end)] * len(entries)
    return [_recipient(text, entry, end, action, reply) for entry, end, reply in zip(entries, ends, replies, strict=True)]


def unnamed_recipient(text: BounceText) -> PerRecipient | None:
    """Return the recipient of a text that names none: the reply in the text says what happened. None without a reply."""
    reply = find_reply(text.text, 0, min(text.end, 2 * VALUE_LIMIT))
    if reply is None or (reply.code.endswith("00") and not reply.enhanced):  # `500 people` is no reply
        return None
    action: Action = "failed" if (reply.enhanced or reply.code).startswith("5") else "delayed"
    return _recipient(text, TextRecipient("", 0, 0), text.end, action, reply)


def _own_reply(text: BounceText, entry: TextRecipient, end: int) -> QuotedReply | None:
    end = min(end, entry.start + 2 * VALUE_LIMIT)
    rule = _RULE.search(text.text, entry.named, end)
    return find_reply(text.text, entry.start, end if rule is None else rule.start())


def _elsewhere(text: BounceText, entry: TextRecipient) -> QuotedReply | None:
    """Return the reply in a line further on that names the recipient, or in the one after it."""
    name = entry.address.lower().encode()
    at = text.lower.find(name, entry.named) if name else -1
    for _ in range(_WINDOWS):
        if at < 0:
            break
        line = text.lower.rfind(b"\n", 0, at) + 1
        line_end = text.lower.find(b"\n", at)
        if b"rcpt to" in text.lower[line:at] and line_end >= 0:
            line_end = text.lower.find(b"\n", line_end + 1)
        line_end = text.end if line_end < 0 else min(text.end, line_end)
        reply = find_reply(text.text, max(line, at - _WINDOW), min(line_end, at + _WINDOW))
        if reply is not None:
            return reply
        at = text.lower.find(name, at + len(name))
    return None


def _reply_before(text: BounceText, entry: TextRecipient) -> QuotedReply | None:
    """Return the reply in one of the lines before that of a recipient."""
    line = entry.start - 1
    for _ in range(_WINDOWS):
        start = text.text.rfind(b"\n", 0, max(line, 0)) + 1
        reply = find_reply(text.text, start, max(line, 0))
        if reply is not None and reply.code.startswith("5"):
            return reply
        line = start - 1
    return None


def _recipient(text: BounceText, entry: TextRecipient, end: int, action: Action, reply: QuotedReply | None) -> PerRecipient:
    words = _words(text, entry, end, action, reply)
    enhanced = "" if reply is None else reply.enhanced
    return PerRecipient(
        final_recipient=_reported(entry.address),
        original_recipient=None if entry.original is None else _reported(entry.original),
        action=action,
        status=status(enhanced) if enhanced else None,
        diagnostic_code=DiagnosticCode(diagnostic_type="smtp", diagnostic=words[:VALUE_LIMIT]) if words else None,
        extensions={},
        derived=(
            *("recipient",) * bool(entry.address),
            *("response.code", "response.content") * bool(words),
            *("response.enhanced_code",) * bool(enhanced),
        ),
    )


def _reported(address: str) -> ReportedRecipient:
    return ReportedRecipient(recipient_type="rfc822" if address else "", recipient=address)


def _words(text: BounceText, entry: TextRecipient, end: int, action: Action, reply: QuotedReply | None) -> str:
    """Return the SMTP reply, or without one the reason as the text gives it."""
    if reply is not None and reply.code:
        enhanced = f" {reply.enhanced}" if reply.is_pair else ""
        words = f"{reply.code}{enhanced} {text.words(reply.start, reply.end).lstrip(' -:)')}".strip()
    else:
        stop = min(paragraph_end(text.text, entry.named, end), entry.named + _REASON_LIMIT)
        words = text.words(entry.named, stop).lstrip(_MARKS)
        if (not words or words.endswith(":")) and action == "failed":
            words = text.words(*_next_paragraph(text, stop, end))
        if reply is not None and reply.enhanced not in words:
            words = f"{reply.enhanced} {text.words(reply.start, reply.end)}"
        words = words or text.words(entry.start, entry.named)
    for opening, closing in ("()", "[]", '""', "''"):
        if words.endswith(closing) and words.count(opening) % 2 == (opening == closing) and words.count(closing) == 1:
            words = words[:-1]
    return words


def _next_paragraph(text: BounceText, start: int, end: int) -> tuple[int, int]:
    begin = start
    while begin < end and text.text[begin : begin + 1].isspace():
        begin += 1
    return begin, min(paragraph_end(text.text, begin, end), begin + _REASON_LIMIT)


def merged(known: list[PerRecipient], quoted: list[PerRecipient]) -> list[PerRecipient]:
    """Return the recipients of a status part, with the replies that the text quotes for them."""
    by_address = {_name(entry).lower(): entry for entry in quoted}
    only = quoted[0] if len(known) == len(quoted) == 1 else None
    return [_completed(entry, by_address.get(_name(entry).lower(), only)) for entry in known]


def _name(entry: PerRecipient) -> str:
    reported = entry.final_recipient or entry.original_recipient
    return "" if reported is None else reported.recipient


def _completed(known: PerRecipient, quoted: PerRecipient | None) -> PerRecipient:
    """Return a recipient of a status part with the values of a text that it lacks."""
    if quoted is None:
        return known
    derived = set(known.derived or ())
    if known.final_recipient is None and known.original_recipient is None:
        derived.add("recipient")
    known = replace(known, final_recipient=known.final_recipient or quoted.final_recipient)
    if _code(known) is None and (_code(quoted) is not None or quoted.status is not None):
        derived |= set(quoted.derived or ()) - {"recipient"}
        known = replace(known, status=quoted.status or known.status, diagnostic_code=quoted.diagnostic_code)
    return replace(known, derived=tuple(sorted(derived)) or UNSET)


def _code(entry: PerRecipient) -> str | None:
    found = None if entry.diagnostic_code is None else _REPLY_CODE.match(entry.diagnostic_code.diagnostic)
    return None if found is None else found[0]
