"""A complete message -> which report it is, if any.

Owns the order of steps: the top Content-Type, the parts directly below it, then the module for each kind of report. Never reads
deeper parts.
"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from msgspec import UNSET, UnsetType
from msgspec.structs import replace

from sidecar.core.reports import mime
from sidecar.core.reports.arf import read_feedback, supplemental_trace, with_attachment
from sidecar.core.reports.charsets import in_utf_8
from sidecar.core.reports.fields import FIELDS_SIZE_LIMIT
from sidecar.core.reports.oob import NO_RECIPIENT, read_status
from sidecar.core.reports.original import original_text
from sidecar.core.reports.other import NAMES, other_kind
from sidecar.core.reports.sparse import completed
from sidecar.core.reports.strict import read_strictly
from sidecar.core.reports.text import TextBounce, read_statusless, read_text
from sidecar.core.reports.values import ArfReport, OobReport, PerRecipient, ReportReading

_FEEDBACK_TYPES = frozenset((b"message/feedback-report",))
_XARF = frozenset(("xarf", "x-arf"))
_REPORT_TYPES = mime.STATUS_TYPES | _FEEDBACK_TYPES

NO_CLAIM = ReportReading(why="not a report, because its Content-Type is not multipart/report")
"""The reading of a message that is decided without its body."""
NO_MAILER = ReportReading(
    why="not a report, because its Content-Type is not multipart/report, "
    "its sender is not <>, and its header proves no automatic mailer"
)
"""The reading of a message that is no bounce in text form either."""

Readings = tuple[ArfReport | str, OobReport | str]
"""A feedback report and a bounce report: each is the report, why it is none, or `""` if no part claims to be one."""

# qmail writes no MIME: in a report its layout, like no layout at all, is the text of an unknown program.
_NO_REPORTS = frozenset(("general", "qmail"))

# A report has two or three parts, and gateways add a few. With more, the text of none is read: each has a cost.
_FEW_PARTS = 10

_OWN_FIELDS = (b"\nfrom", b"\nsubject", b"\ncontent-type")
_FIELD = re.compile(rb"[A-Za-z][A-Za-z-]{1,60}:[ \t]")
# Of bytes between two header sections, and in front of the first part.
_GAP = 64
_PREAMBLE = 64 * 1024
_BOUNDARY = re.compile(rb"\n--(\S[^\n]{0,200}?)[ \t\r]{0,8}\nContent-", re.IGNORECASE)

_NAMELESS = f"not a report, because {NO_RECIPIENT}"

# Characters of a peer's text in a sentence.
_QUOTED_LIMIT = 60


class _Mail(NamedTuple):
    """A message, its header section, and the parts directly below its top Content-Type.

    The parts of a report are a list. Those of other mail are searched when the first one is needed, which is never for most.
    """

    content: bytes
    head: bytes
    top: mime.ContentType
    parts: Iterable[mime.Part]

    @property
    def claims_report(self) -> bool:
        return self.top.media_type == mime.REPORT and self.top.boundary is not None


def may_be_report(content_type: bytes | None) -> bool:
    """Return True if a message with this value of its first Content-Type field can be a report.

    `read` never finds a report if this is False. The value may be folded; None means that the field is missing.
    """
    return mime.media_type(content_type) == mime.REPORT


def read(message: bytes, *, strict: bool = False, text: bool = True, null_sender: bool = False) -> ReportReading:
    """Read a message: header section, empty line, body; lines may end with CRLF or LF.

    Never raise an exception for any bytes. `why` describes the report, or says why the message is none. With `strict` only
    what KumoMTA accepts is a report. With `text` a bounce in text form is one, too; `null_sender`: the envelope sender is `<>`.
    """
    mail = _divided(message, strict=strict)
    if not mail.claims_report:
        found = _none(_no_claim(mail))
    elif strict:
        found = _combined(*read_strictly(message))
    else:
        found = _explained(_combined(*_read_leniently(mail)))
    if not found.is_report:
        found = _named(found, mail)
    if strict or not text or not _is_open(found):
        return found
    bounce = _text_bounce(mail, found, null_sender=null_sender)
    return found if bounce is None else _in_text_form(bounce, found.oob)


def _divided(message: bytes, *, strict: bool) -> _Mail:
    head, rest = mime.split_message(message)
    if not (strict or _has_own_fields(head)):
        message = _from_header(message, rest)
        head, rest = mime.split_message(message)
    mail = _Mail(message, head, mime.content_type(mime.header(head, b"content-type")), ())
    if mail.top.boundary is None or not mail.top.media_type.startswith(b"multipart/"):
        return mail
    if not mail.claims_report:
        return mail._replace(parts=_parts(message, mail.top.boundary, rest))
    parts = mime.parts(message, mail.top.boundary, rest)
    return mail._replace(parts=parts if parts or strict else _by_other_boundary(message, rest))


def _parts(message: bytes, boundary: bytes, rest: int) -> Iterator[mime.Part]:
    yield from mime.parts(message, boundary, rest)


def _has_own_fields(head: bytes) -> bool:
    lowered = b"\n" + head.lower()
    return any(map(lowered.__contains__, _OWN_FIELDS))


def _from_header(message: bytes, rest: int) -> bytes:
    """Return a message without an empty line in front of its header section, which the MTA reads as the end of the header.

    What is in front of it is then empty, or has a few fields that an MTA added.
    """
    gap = message[rest : rest + _GAP]
    start = gap.lstrip(b"\r\n")
    return message[rest + len(gap) - len(start) :] if _FIELD.match(start) else message


def _by_other_boundary(message: bytes, rest: int) -> list[mime.Part]:
    """Return the parts of a report whose boundary is not the one in its Content-Type: gateways write a new one there."""
    found = _BOUNDARY.search(message, rest, rest + _PREAMBLE)
    return [] if found is None else mime.parts(message, found[1], rest)


def _no_claim(mail: _Mail) -> str:
    """Return why a Content-Type does not claim a report."""
    if mime.header(mail.head, b"content-type") is None:
        return "it has no Content-Type"
    if mail.top.media_type != mime.REPORT:
        return f"its Content-Type is {_quoted(mail.top.media_type)}, not multipart/report"
    return "its Content-Type has no boundary"


def _is_open(found: ReportReading) -> bool:
    """Return True if the text can say more: a report names no recipient, or a message is none of a known kind."""
    return _is_nameless(found) if found.is_report else found.other in {None, "other_report"}


def _is_nameless(found: ReportReading) -> bool:
    """Return True for a bounce report whose status part names no recipient, also if that makes it unparsable."""
    if found.oob is None:
        return found.why == _NAMELESS
    return found.arf is None and not found.oob.per_recipient


def _text_bounce(mail: _Mail, found: ReportReading, *, null_sender: bool) -> TextBounce | None:
    """Return the bounce that a text reports. Of a `multipart/report`, none if a status part names the recipients."""
    is_nameless = _is_nameless(found)
    if mail.top.media_type == mime.REPORT:
        types = [part.media_type for part in mail.parts]
        if not (0 < len(types) <= _FEW_PARTS and (is_nameless or _REPORT_TYPES.isdisjoint(types))):
            return None
    bounce = read_text(mail.content, null_sender=null_sender)
    if not is_nameless and (bounce is None or bounce.format in _NO_REPORTS):
        # Only the layout of a program that sends reports is surer than the reply alone.
        bounce = _without_status(mail) or bounce
    return bounce


def _without_status(mail: _Mail) -> TextBounce | None:
    """Return the reading of a bounce report that has a returned message, and a text instead of a status part."""
    if not mail.claims_report or mail.top.report_type != b"delivery-status":
        return None
    returned = _returned(mail.parts)
    text = next((part for part in mail.parts if part.media_type == b"text/plain"), None)
    return read_statusless(text, original_text(returned[-1])) if returned and text is not None else None


def _in_text_form(bounce: TextBounce, known: OobReport | None) -> ReportReading:
    """Return the reading of a bounce in text form. `known`: a report that says all but the recipients."""
    report = bounce.report
    if known is not None:
        entries = [replace(one, derived=_without_reporter(one)) for one in report.per_recipient]
        report = replace(report, per_message=known.per_message, per_recipient=entries)
    why = f"{_bounce_words(report)}, in text form ({bounce.format})"
    return ReportReading(oob=report, why=why, read_as=f"text:{bounce.format}")


def _without_reporter(entry: PerRecipient) -> tuple[str, ...] | UnsetType:
    return tuple(name for name in entry.derived or () if name != "peer_address.name") or UNSET


def _named(found: ReportReading, mail: _Mail) -> ReportReading:
    """Return the reading of a message that is no report, with the name of its kind if it is well-formed."""
    other = other_kind(mail.head, mail.top, mail.parts)
    return found if other is None else ReportReading(other=other, why=f"not a report, because it is {NAMES[other]}")


def _read_leniently(mail: _Mail) -> Readings:
    feedback = _all(mail.parts, _FEEDBACK_TYPES) if mail.top.report_type == b"feedback-report" else []
    status = _all(mail.parts, mime.STATUS_TYPES)
    returned = _returned(mail.parts) if feedback or status else []
    original = original_text(returned[-1]) if returned else None
    arf: ArfReport | str = ""
    oob: OobReport | str = ""
    if feedback:
        arf = _complaint(feedback, mail.parts, original, supplemental_trace(returned))
    if status:
        body, *others = _bodies(status)
        oob = read_status(body, original, *others)
    if isinstance(arf or oob, str) or isinstance(oob or arf, str):
        # KumoMTA is wider in places that are not known to be used: what it accepts is always a report.
        exact_arf, exact_oob = read_strictly(mail.content)
        arf = exact_arf if isinstance(arf, str) and isinstance(exact_arf, ArfReport) else arf
        oob = exact_oob if isinstance(oob, str) and isinstance(exact_oob, OobReport) else oob
    return arf, oob or ("" if arf else _lacking(mail))


def _complaint(
    feedback: list[mime.Part], parts: Iterable[mime.Part], original: str | bytes | None, trace: object
) -> ArfReport | str:
    """Read the first feedback-report part that can be read. Return what the first of all lacks if there is none."""
    read = [read_feedback(body, original, trace) for body in _bodies(feedback)]
    report = next((report for report in read if isinstance(report, ArfReport)), None)
    if report is None or report.feedback_type.lower() not in _XARF:
        return report or read[0]
    attached = (part for part in parts if part.media_type not in _FEEDBACK_TYPES | mime.RETURNED_TYPES)
    return with_attachment(report, ((part.head, _decoded_begin(part)) for part in attached))


def _combined(arf: ArfReport | str, oob: OobReport | str) -> ReportReading:
    """Combine the two readings: each is a report, or the reason why it is none."""
    found = []
    if isinstance(arf, ArfReport):
        found.append(f"a feedback report: {_quoted(arf.feedback_type.encode())}")
    if isinstance(oob, OobReport):
        found.append(_bounce_words(oob))
    if not found:
        return _none(str(arf or oob or "no part directly below its multipart/report is a delivery-status or a feedback-report"))
    return ReportReading(
        arf=arf if isinstance(arf, ArfReport) else None,
        oob=oob if isinstance(oob, OobReport) else None,
        why=", and ".join(found),
    )


def _explained(reading: ReportReading) -> ReportReading:
    """Return a reading that says how it was read, with the values that a feedback report lacks."""
    if reading.arf is not None:
        arf, derived = completed(reading.arf)
        return replace(reading, arf=arf, read_as="rfc5965", derived=derived)
    return reading if reading.oob is None else replace(reading, read_as="rfc3464")


def _none(reason: str) -> ReportReading:
    return ReportReading(why=f"not a report, because {reason}")


def _all(parts: Iterable[mime.Part], media_types: frozenset[bytes]) -> list[mime.Part]:
    return [part for part in parts if part.media_type in media_types]


def _bodies(parts: list[mime.Part]) -> Iterator[bytes]:
    """Yield the bodies of report parts, the first one and others up to the limit of fields: one report has one such part."""
    left = FIELDS_SIZE_LIMIT
    for part in parts:
        if left > 0:
            body = _decoded_begin(part)
            left -= len(body)
            yield body


def _decoded_begin(part: mime.Part) -> bytes:
    """Return the begin of a part's body in UTF-8, up to the limit of fields."""
    return in_utf_8(_body(part)[:FIELDS_SIZE_LIMIT], mime.header(part.head, b"content-type"))


def _body(part: mime.Part) -> bytes:
    """Return a part's body without its transfer encoding, or unchanged if it claims to be base64 and is not."""
    decoded = mime.transfer_decoded(part)
    return part.body if decoded is None else decoded


def _returned(parts: Iterable[mime.Part]) -> list[bytes]:
    """Return the returned messages, or their header sections, without transfer encoding.

    RFC 2046 forbids an encoding of message/rfc822, so a false base64 is kept as it is. The other types are then left out, as in
    KumoMTA: encoded bytes are no original message.
    """
    found = []
    for part in parts:
        if part.media_type == mime.MESSAGE:
            found.append(_body(part))
        elif part.media_type in mime.RETURNED_TYPES and (decoded := mime.transfer_decoded(part)) is not None:
            found.append(decoded)
    return found


def _lacking(mail: _Mail) -> str:
    if not mail.parts:
        return "its body does not contain its boundary"
    if _all(mail.parts, _FEEDBACK_TYPES):
        return "it has a message/feedback-report part, but its report-type is not feedback-report"
    wanted = "message/feedback-report" if mail.top.report_type == b"feedback-report" else "message/delivery-status"
    return f"no part directly below its multipart/report is {wanted}"


def _bounce_words(report: OobReport) -> str:
    if not report.per_recipient:
        return "a bounce report that names no recipient"
    counts = Counter(entry.action for entry in report.per_recipient)
    (action, count), *others = counts.items()
    first = f"{count} recipient{'s' if count > 1 else ''} {action}"
    return ", ".join((f"a bounce report: {first}", *(f"{count} {action}" for action, count in others)))


def _quoted(text: bytes) -> str:
    """Return a peer's text, cut, in quotes and without control characters."""
    decoded = text.decode("utf-8", "replace")
    return repr(decoded if len(decoded) <= _QUOTED_LIMIT else decoded[: _QUOTED_LIMIT - 3] + "...")
