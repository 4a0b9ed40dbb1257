"""A message without a status part of RFC 3464 -> the bounce that its text reports, or nothing.

Owns the order of steps: the header section, the body, the layouts, the status fields in other places, the general recogniser.
"""

import re
from collections.abc import Iterator
from typing import NamedTuple

from msgspec import Struct
from msgspec.structs import replace

from sidecar.core.reports import mime
from sidecar.core.reports.addresses import readable_address
from sidecar.core.reports.fields import VALUE_LIMIT, status
from sidecar.core.reports.oob import RECIPIENT_LIMIT, read_status
from sidecar.core.reports.original import original_text
from sidecar.core.reports.text.general import general_recipients
from sidecar.core.reports.text.header import MailerHeader
from sidecar.core.reports.text.layouts import LAYOUTS, Layout
from sidecar.core.reports.text.notice import BounceBody, BounceText, read_body
from sidecar.core.reports.text.replies import QuotedReply, find_reply, paragraph_end
from sidecar.core.reports.values import (
    Action,
    DiagnosticCode,
    MtaName,
    OobReport,
    Original,
    PerMessage,
    PerRecipient,
    ReportedRecipient,
)

# A message in a message: what a gateway wraps.
_DEPTH_LIMIT = 1
_REASON_LIMIT = 1000
_WINDOWS = 5

# Sendmail says 554 where it gives up, after the reply that made it do so.
_GIVEN_UP = "554"
_MARKS = ">:;,)]\"' "
_REPLY_CODE = re.compile(r"[245][0-9]{2}(?![0-9.])")

_DELAYS = (
    *(b"this is a warning only", b"warning message only", b"will be retried", b"not yet been delivered", b"has been delayed"),
    *(b"delivery attempts will continue", b"temporary failure report", b"is delayed for more than", b"this is just a warning"),
    *(b"has been postponed", b"will continue to attempt", b"continue to try to deliver", b"will keep trying", b"advisory-only"),
    *(
        b"transient non-fatal errors",
        b"do not need to resend your message",
        b"is still being retried",
        b"will be attempted again",
    ),
    *(b"not been delivered yet", b"will continue trying", b"delivery is delayed", b"delivery has been delayed"),
)
_DELAY_SUBJECT = re.compile(r"delay|could not send m|still being retried|not yet|retard|verz.{1,2}ger", re.IGNORECASE)
_ORIGIN = re.compile(
    rb"[ \t]{1,8}\((?:ultimately )?(?:generated|expanded) from:? <?([^\s<>()]{1,256}@[^\s<>()]{1,255})>?\)", re.IGNORECASE
)
_STATUS_FIELD = re.compile(rb"^(?:reporting-mta|(?:final|original)-recipient|action)[ \t]*:", re.IGNORECASE | re.MULTILINE)
_RECIPIENT_FIELD = re.compile(rb"^(?:final|original)-recipient[ \t]*:", re.IGNORECASE | re.MULTILINE)
_REPORTER = re.compile(
    rb"\b(?:program at|server at|agent at|system at host|program at host|agent v[\w.+-]{1,20} at|generating server:"
    rb"|reporting-mta:|notification from|mail2?\w{0,10} server at) <?(?:dns; ?)?([a-z0-9-]{1,63}(?:\.[a-z0-9-]{1,63}){1,10})",
    re.IGNORECASE,
)


class TextBounce(Struct, frozen=True, kw_only=True):
    """A bounce in text form.

    `format` is a permanent word, the layout's. `derived` names the record's fields that come from the text.
    """

    format: str
    report: OobReport
    derived: tuple[str, ...]


class _Entry(Struct):
    """A recipient in a text: the line that names it begins at `start`, and its name ends at `named`."""

    address: str
    start: int
    named: int
    original: str | None = None


class _Found(NamedTuple):
    """A text that reports a failure, and the recipients that it names."""

    header: MailerHeader
    body: BounceBody
    text: BounceText
    entries: list[_Entry]


def read_text(content: bytes, *, null_sender: bool) -> TextBounce | None:
    """Read a message: header section, empty line, body. Return the bounce that it is, or None.

    Never raise an exception for any bytes. `null_sender`: the envelope sender is `<>`.
    """
    return _read(content, null_sender=null_sender, depth=0)


def _read(content: bytes, *, null_sender: bool, depth: int) -> TextBounce | None:
    head, rest = mime.split_message(content)
    header = MailerHeader(head)
    if header.is_reply or not (null_sender or header.is_automatic):
        return None
    body = read_body(content, head, rest)
    found = next(_in_layouts(header, body, null_sender=null_sender), None)
    if found is None and header.from_mailer and header.is_failure and depth < _DEPTH_LIMIT:
        inner = (_read(returned, null_sender=False, depth=depth + 1) for returned in _wrapped(body))
        return next(filter(None, inner), None)
    return found


def _wrapped(body: BounceBody) -> Iterator[bytes]:
    """Yield the messages that a notice without a recipient wraps: one of them can be the bounce."""
    yield from body.returned
    yield from (text.raw[text.returned :] for text in body.texts if text.returned >= 0)


def _in_layouts(header: MailerHeader, body: BounceBody, *, null_sender: bool) -> Iterator[TextBounce]:
    """Yield the readings of a body, the most certain first."""
    known = _status_report(body)
    for text in body.texts:
        for layout in LAYOUTS:
            at = _begin(layout, header, text)
            if at is not None and ((entries := _entries(layout, header, text, at)) or layout.certain):
                yield _bounce(layout, _Found(header, body, text, entries), known)
    if known is not None:
        yield _from_status(known, body)
    for text in body.texts:
        if entries := _general(header, text, null_sender=null_sender):
            yield _bounce(None, _Found(header, body, text, entries), None)


def _begin(layout: Layout, header: MailerHeader, text: BounceText) -> int | None:
    """Return where the recipients of a layout can begin, or None if the text does not have this layout."""
    phrase = next((phrase for phrase in layout.phrases if phrase in text.flat), None)
    if phrase is None:
        return None
    if layout.needs and not any(need in text.flat or need.decode() in header.program for need in layout.needs):
        return None
    if layout.here:
        return 0
    found = _spaced(phrase).search(text.lower)
    return 0 if found is None else found.end()


_PHRASES: dict[bytes, re.Pattern[bytes]] = {}


def _spaced(phrase: bytes) -> re.Pattern[bytes]:
    """Return the pattern of a phrase whose words can be on several lines."""
    pattern = _PHRASES.get(phrase)
    if pattern is None:
        pattern = _PHRASES[phrase] = re.compile(rb"\s++".join(map(re.escape, phrase.split(b" "))))
    return pattern


def _entries(layout: Layout, header: MailerHeader, text: BounceText, start: int) -> list[_Entry]:
    """Return the recipients that a text names, each once."""
    entries: dict[str, _Entry] = {}
    last: _Entry | None = None
    for at, end in _lines(text.text, start, text.end):
        if origin := _ORIGIN.match(text.text, at, end):
            address = _address(origin[1])
            if address is not None and last is not None:
                last.original = address
            elif address is not None:
                entries.setdefault(address, _Entry(address, at, origin.end()))
        elif found := _named(layout, header, text, at, end):
            last = entries.setdefault(found.address.lower(), found)
            if len(entries) >= RECIPIENT_LIMIT:
                break
        elif text.text[at:end].lstrip()[:1] != b"(":
            last = None
    if not entries and header.failed:
        return [_Entry(address, start, start) for address in map(_address, map(str.encode, header.failed)) if address]
    return list(entries.values())


def _lines(text: bytes, start: int, end: int) -> Iterator[tuple[int, int]]:
    at = start
    while at < end:
        line_end = text.find(b"\n", at, end)
        line_end = end if line_end < 0 else line_end
        yield at, line_end
        at = line_end + 1


def _named(layout: Layout, header: MailerHeader, text: BounceText, at: int, end: int) -> _Entry | None:
    found = layout.recipient.match(text.text, at, end)
    if found is not None:
        address = _address(found[found.lastindex or 1])
        return None if address is None else _Entry(address, at, found.end())
    found = layout.local.match(text.text, at, end) if layout.local is not None and header.domain else None
    return None if found is None else _Entry(f"{found[1].decode()}@{header.domain}", at, found.end())


def _address(name: bytes) -> str | None:
    """Return a recipient's address in its normal form, or None if the name has no domain."""
    text = readable_address(name.decode("utf-8", "replace").strip(" \t\r<>\"'.,;:"))
    return text if "@" in text.strip("@") and not text.isspace() else None


def _general(header: MailerHeader, text: BounceText, *, null_sender: bool) -> list[_Entry]:
    if header.failed and header.from_mailer:
        return [_Entry(address, 0, 0) for address in map(_address, map(str.encode, header.failed)) if address]
    found = general_recipients(header, text, null_sender=null_sender)
    return [_Entry(address, start, end) for name, start, end in found if (address := _address(name))]


def _bounce(layout: Layout | None, found: _Found, known: OobReport | None) -> TextBounce:
    """Build the report of a text. If there is a status part, its recipients count, with the replies that the text quotes."""
    header, body, text = found.header, found.body, found.text
    action: Action = "delayed" if _is_delay(header, text) else "failed"
    entries = found.entries or [_Entry("", 0, 0)]
    ends = [*(entry.start for entry in entries[1:]), text.end]
    is_after = layout is not None and layout.reply_before
    per_recipient = []
    for entry, end in zip(entries, ends, strict=True):
        reply = _reply(text, entry, end, alone=len(entries) == 1)
        if is_after and reply is not None and reply.code == _GIVEN_UP:
            reply = _reply_before(text, entry) or reply
        per_recipient.append(_recipient(text, entry, end, action, reply))
    reporter = _reporter(header, text)
    report = OobReport(
        per_message=PerMessage(extensions={}, reporting_mta=reporter) if known is None else known.per_message,
        per_recipient=per_recipient if known is None else _merged(known.per_recipient, per_recipient),
        original_message=_original(body, text),
    )
    return TextBounce(format="general" if layout is None else layout.format, report=report, derived=_derived(report))


def _reply(text: BounceText, entry: _Entry, end: int, *, alone: bool) -> QuotedReply | None:
    own = find_reply(text.text, entry.start, min(end, entry.start + 2 * VALUE_LIMIT))
    return own or _elsewhere(text, entry, alone=alone)


def _reply_before(text: BounceText, entry: _Entry) -> QuotedReply | None:
    """Return the reply in one of the lines before that of a recipient."""
    line = entry.start - 1
    for _ in range(_WINDOWS):
        start = text.text.rfind(b"\n", 0, max(line, 0)) + 1
        reply = find_reply(text.text, start, max(line, 0))
        if reply is not None and reply.code.startswith("5"):
            return reply
        line = start - 1
    return None


def _recipient(text: BounceText, entry: _Entry, end: int, action: Action, reply: QuotedReply | None) -> PerRecipient:
    words = _words(text, entry, end, action, reply)
    return PerRecipient(
        final_recipient=_reported(entry.address),
        original_recipient=None if entry.original is None else _reported(entry.original),
        action=action,
        status=status(reply.enhanced) if reply is not None and reply.enhanced else None,
        diagnostic_code=DiagnosticCode(diagnostic_type="smtp", diagnostic=words[:VALUE_LIMIT]) if words else None,
        extensions={},
    )


def _reported(address: str) -> ReportedRecipient:
    return ReportedRecipient(recipient_type="rfc822" if address else "", recipient=address)


def _words(text: BounceText, entry: _Entry, end: int, action: Action, reply: QuotedReply | None) -> str:
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


def _elsewhere(text: BounceText, entry: _Entry, *, alone: bool) -> QuotedReply | None:
    """Return the reply in a line further on that names the recipient, or any reply if there is no other recipient."""
    name = entry.address.lower().encode()
    at = text.lower.find(name, entry.named) if name else -1
    for _ in range(_WINDOWS):
        if at < 0:
            break
        line = text.lower.rfind(b"\n", 0, at) + 1
        line_end = text.lower.find(b"\n", at)
        reply = find_reply(text.text, line, min(text.end, line_end if line_end >= 0 else text.end))
        if reply is not None:
            return reply
        at = text.lower.find(name, at + len(name))
    return find_reply(text.text, 0, text.end) if alone else None


def _is_delay(header: MailerHeader, text: BounceText) -> bool:
    return any(phrase in text.flat for phrase in _DELAYS) or _DELAY_SUBJECT.search(header.subject) is not None


def _merged(known: list[PerRecipient], quoted: list[PerRecipient]) -> list[PerRecipient]:
    """Return the recipients of a status part, with the replies that the text quotes for them."""
    by_address = {_name(entry).lower(): entry for entry in quoted}
    only = quoted[0] if len(known) == len(quoted) == 1 else None
    return [_completed(entry, by_address.get(_name(entry).lower(), only)) for entry in known]


def _name(entry: PerRecipient) -> str:
    reported = entry.final_recipient or entry.original_recipient
    return "" if reported is None else reported.recipient


def _completed(known: PerRecipient, quoted: PerRecipient | None) -> PerRecipient:
    if quoted is None:
        return known
    known = replace(known, final_recipient=known.final_recipient or quoted.final_recipient)
    if _code(quoted) is None and (_code(known) is not None or quoted.status is None):
        return known
    return replace(known, status=quoted.status or known.status, diagnostic_code=quoted.diagnostic_code)


def _code(entry: PerRecipient) -> str | None:
    found = None if entry.diagnostic_code is None else _REPLY_CODE.match(entry.diagnostic_code.diagnostic)
    return None if found is None else found[0]


def _status_report(body: BounceBody) -> OobReport | None:
    """Return what the status parts say, or the status fields in a text."""
    found = list(body.statuses)
    for text in body.texts if not found else ():
        notice = text.text[: text.end]
        if _RECIPIENT_FIELD.search(notice) and (begin := _STATUS_FIELD.search(notice)):
            found.append(notice[begin.start() :].partition(b"\n--")[0])
            break
    if not found:
        return None
    report = read_status(found[0], None, *found[1:])
    return None if isinstance(report, str) or not report.per_recipient else report


def _from_status(report: OobReport, body: BounceBody) -> TextBounce:
    original = _original(body, body.texts[0] if body.texts else None)
    return TextBounce(format="status", report=replace(report, original_message=original), derived=())


def _original(body: BounceBody, text: BounceText | None) -> Original | None:
    if body.returned:
        return original_text(body.returned[-1])
    return None if text is None or text.returned < 0 else original_text(text.raw[text.returned :])


def _reporter(header: MailerHeader, text: BounceText) -> MtaName | None:
    found = _REPORTER.search(text.lower[:2048])
    name = found[1].decode().rstrip(".") if found is not None else header.domain if header.from_mailer else ""
    return MtaName(mta_type="dns", name=name) if name else None


def _derived(report: OobReport) -> tuple[str, ...]:
    """Return the record's fields that come from the text."""
    entries = report.per_recipient
    named = {
        "recipient": any(entry.final_recipient is not None and entry.final_recipient.recipient for entry in entries),
        "peer_address.name": report.per_message.reporting_mta is not None,
        "response.code": any(entry.diagnostic_code is not None for entry in entries),
        "response.content": any(entry.diagnostic_code is not None for entry in entries),
        "response.enhanced_code": any(entry.status is not None for entry in entries),
    }
    return tuple(name for name, is_there in named.items() if is_there)
