"""A message without a status part of RFC 3464 -> the bounce that its text reports, or nothing.

Owns the order of steps: the header section, the body, the layouts, the status fields in other places, the general recogniser.
"""

import re
from collections.abc import Iterator
from itertools import islice
from typing import NamedTuple

from msgspec import Struct
from msgspec.structs import replace

from sidecar.core.reports import mime
from sidecar.core.reports.fields import reply_class
from sidecar.core.reports.oob import read_status
from sidecar.core.reports.original import original_text
from sidecar.core.reports.text.building import merged, recipients, unnamed_recipient
from sidecar.core.reports.text.delays import has_given_up, is_delay
from sidecar.core.reports.text.entries import TextRecipient, address_of, begin, entries_of, failed_entries
from sidecar.core.reports.text.general import general_recipients
from sidecar.core.reports.text.header import MailerHeader
from sidecar.core.reports.text.layout import Layout
from sidecar.core.reports.text.layouts import INDEX
from sidecar.core.reports.text.notice import BounceBody, BounceText, read_body, text_of
from sidecar.core.reports.text.phrases import Phrases
from sidecar.core.reports.values import Action, MtaName, OobReport, Original, PerMessage

# A message in a message: what a gateway wraps.
_DEPTH_LIMIT = 1
# How list managers pass on a bounce that they could not read.
_WRAPPERS = Phrases(b"was received as a bounce")
# Of the layouts whose words a text has. Nearly all bounces have those of one.
_LAYOUT_LIMIT = 4
_STATUS_FIELD = re.compile(rb"^(?:reporting-mta|(?:final|original)-recipient|action)[ \t]*:", re.IGNORECASE | re.MULTILINE)
_RECIPIENT_FIELD = re.compile(rb"^(?:final|original)-recipient[ \t]*:", re.IGNORECASE | re.MULTILINE)
# Where a text names its host, in lower case.
_REPORTERS = (
    *(b"program at host ", b"program at ", b"server at ", b"agent at ", b"system at host ", b"generating server: "),
    *(b"reporting-mta: ", b"notification from "),
)
_REPORTER_LIMIT = 2048
_TEMPORARY = 4
_HOST = re.compile(rb"<?(?:dns; ?)?([a-z0-9-]{1,63}(?:\.[a-z0-9-]{1,63}){1,10})")


class TextBounce(Struct, frozen=True, kw_only=True):
    """A bounce in text form.

    `format` is a permanent word, the layout's. The recipients of the report name the values that come from the text.
    """

    format: str
    report: OobReport


class _Found(NamedTuple):
    """A text that reports a failure, and the recipients that it names."""

    header: MailerHeader
    body: BounceBody
    text: BounceText
    entries: list[TextRecipient]


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
    is_wrapper = (header.from_mailer and header.is_failure) or any(map(_WRAPPERS.are_in, body.texts))
    if found is None and is_wrapper and depth < _DEPTH_LIMIT:
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
        for layout, start in islice(_begun(header, text), _LAYOUT_LIMIT):
            entries = entries_of(layout, header, text, start) or failed_entries(header, start)
            if entries or layout.certain:
                yield _bounce(layout, _Found(header, body, text, entries), known)
    if known is not None:
        original = _original(body, body.texts[0] if body.texts else None)
        yield TextBounce(format="status", report=replace(known, original_message=original))
    for text in body.texts:
        if entries := _general(header, text, null_sender=null_sender):
            yield _bounce(None, _Found(header, body, text, entries), None)


def _begun(header: MailerHeader, text: BounceText) -> Iterator[tuple[Layout, int]]:
    """Yield the layouts that a text has, each with the place where its recipients can begin."""
    last = None
    for phrase, layout in INDEX.found(text):
        if layout is not last:
            last = layout
            start = begin(layout, phrase, header, text)
            if start is not None:
                yield layout, start


def _general(header: MailerHeader, text: BounceText, *, null_sender: bool) -> list[TextRecipient]:
    if header.failed and header.from_mailer:
        return failed_entries(header, 0)
    found = general_recipients(header, text, null_sender=null_sender)
    return [TextRecipient(address, start, end) for name, start, end in found if (address := address_of(name))]


def _bounce(layout: Layout | None, found: _Found, known: OobReport | None) -> TextBounce:
    """Build the report of a text. If there is a status part, its recipients count, with the replies that the text quotes."""
    text = found.text
    entries = found.entries or [TextRecipient("", 0, 0)]
    action: Action = "delayed" if is_delay(text, found.header.subject) else "failed"
    quoted = recipients(layout, text, entries, action)
    if layout is None and not has_given_up(text):
        # Of an unknown program, a temporary reply alone says that it still tries.
        quoted = [replace(one, action="delayed") if reply_class(one.diagnostic_code) == _TEMPORARY else one for one in quoted]
    reporter = _reporter(found.header, text) if known is None else None
    if reporter is not None:
        quoted = [replace(entry, derived=("peer_address.name", *(entry.derived or ()))) for entry in quoted]
    report = OobReport(
        per_message=PerMessage(extensions={}, reporting_mta=reporter) if known is None else known.per_message,
        per_recipient=quoted if known is None else merged(known.per_recipient, quoted),
        original_message=_original(found.body, text),
    )
    return TextBounce(format="general" if layout is None else layout.format, report=report)


def read_statusless(part: mime.Part, original_message: Original | None) -> TextBounce | None:
    """Return the bounce of one recipient that is not named, or None if the text of a bounce report has no SMTP reply.

    The address that the report was sent to can identify the recipient.
    """
    entry = unnamed_recipient(text_of(part))
    if entry is None:
        return None
    report = OobReport(per_message=PerMessage(extensions={}), per_recipient=[entry], original_message=original_message)
    return TextBounce(format="statusless", report=report)


def _status_report(body: BounceBody) -> OobReport | None:
    """Return what the status parts say, or the status fields in a text."""
    found = list(body.statuses)
    for text in body.texts if not found else ():
        if b"-recipient" not in text.lower:
            continue
        notice = text.text[: text.end]
        if _RECIPIENT_FIELD.search(notice) and (first := _STATUS_FIELD.search(notice)):
            found.append(notice[first.start() :].partition(b"\n--")[0])
            break
    if not found:
        return None
    report = read_status(found[0], None, *found[1:])
    return None if isinstance(report, str) or not report.per_recipient else report


def _original(body: BounceBody, text: BounceText | None) -> Original | None:
    if body.returned:
        return original_text(body.returned[-1])
    return None if text is None or text.returned < 0 else original_text(text.raw[text.returned :])


def _reporter(header: MailerHeader, text: BounceText) -> MtaName | None:
    """Return the name of the program's host, as the text or From has it."""
    for words in _REPORTERS:
        at = text.flat.find(words, 0, _REPORTER_LIMIT)
        found = _HOST.match(text.flat, at + len(words)) if at >= 0 else None
        if found is not None:
            return MtaName(mta_type="dns", name=found[1].decode().rstrip("."))
    return MtaName(mta_type="dns", name=header.domain) if header.from_mailer and header.domain else None
