"""A complete message -> the reports that KumoMTA reads in it.

Owns the order of steps, and which fields a report must have. Never accepts what KumoMTA does not.
"""

import binascii
import re
from collections.abc import Callable
from typing import NamedTuple, TypeVar

from sidecar.core.reports.addresses import RECIPIENT_LIMIT, mailbox, within_limits
from sidecar.core.reports.arf import supplemental_trace
from sidecar.core.reports.fields import FIELDS_SIZE_LIMIT, Group
from sidecar.core.reports.mime import quoted_printable, spans
from sidecar.core.reports.oob import recipient_fields
from sidecar.core.reports.original import original_text
from sidecar.core.reports.strict import values
from sidecar.core.reports.strict.content_type import ExactType, content_type, transfer_encoding
from sidecar.core.reports.strict.headers import WHITE, FaultError, first, group, section_end
from sidecar.core.reports.values import ArfReport, OobReport, PerMessage, PerRecipient

# KumoMTA also reads parts of parts, and one broken header section there spoils the report. Each level reads its bytes again.
_DEPTH_LIMIT = 8

_STATUS_TYPES = ("message/delivery-status", "message/global-delivery-status")
_RETURNED_TYPES = ("message/rfc822", "text/rfc822-headers")
# KumoMTA puts header fields of its own in front of a message, so a first line that begins with a blank continues one of them.
_CONTINUED = re.compile(rb"(?>(?:[ \t][^\n]*+(?:\n|\Z))*)")
_BASE64 = re.compile(rb"[A-Za-z0-9+/]*+={0,2}")
# In quoted-printable, KumoMTA leaves out blanks at the end of a line, and all bytes that are no text of ASCII.
_NO_TEXT = bytes({*range(256)} - {*range(0x20, 0x7F)} - {*b"\t\r\n"})

T = TypeVar("T")


class ExactPart(NamedTuple):
    """A part: its header section, its Content-Type, if that can be read, and where its body is in the message."""

    head: bytes
    type: ExactType | None
    start: int
    end: int

    @property
    def media_type(self) -> str:
        """The media type as it was written, or `""`."""
        return "" if self.type is None else self.type.media_type


def read_strictly(message: bytes) -> tuple[ArfReport | str, OobReport | str]:
    """Read a message as a feedback report and as a bounce report.

    Each is the report, or why KumoMTA reads none; `""` if no part claims to be one.
    """
    continued = _CONTINUED.match(message)
    try:
        top = _part(message, continued.end() if continued else 0, len(message))
        if top.media_type != "multipart/report":
            fault = "its Content-Type is not spelled multipart/report, or has a fault"
            return fault, fault
        parts = _parts(message, top)
        _read_deeper(message, parts)
    except FaultError as fault:
        return str(fault), str(fault)
    return _reading(_feedback, message, top, parts), _reading(_bounce, message, top, parts)


def _reading(
    read: Callable[[bytes, ExactPart, list[ExactPart]], T], message: bytes, top: ExactPart, parts: list[ExactPart]
) -> T | str:
    try:
        return read(message, top, parts)
    except FaultError as fault:
        return str(fault)


def _part(message: bytes, start: int, end: int) -> ExactPart:
    body = section_end(message, start, end)
    head = message[start:body]
    return ExactPart(head, content_type(first(head, b"content-type")), body, end)


def _parts(message: bytes, parent: ExactPart) -> list[ExactPart]:
    """Return the parts of a multipart, or of a message with a boundary; none if its body does not have the boundary."""
    boundary = parent.type.parameter("boundary") if parent.type is not None and parent.type.parameters else None
    if boundary is None or not parent.media_type.startswith(("multipart/", "message/")):
        return []
    places = spans(message, boundary, max(0, parent.start - 1), parent.end)
    return [_part(message, line_end + 1, end) for line_end, end in places]


def _read_deeper(message: bytes, parts: list[ExactPart]) -> None:
    """Read the parts of parts, to find a header section that KumoMTA cannot read. Raise FaultError."""
    for _ in range(_DEPTH_LIMIT):
        parts = [inner for part in parts for inner in _parts(message, part)]
        if not parts:
            break


def _feedback(message: bytes, top: ExactPart, parts: list[ExactPart]) -> ArfReport:
    part = _first(parts, ("message/feedback-report",))
    if top.type is None or top.type.parameter("report-type") != b"feedback-report":
        raise FaultError("its report-type is not spelled feedback-report")
    # KumoMTA reads this part as it was sent, whatever its transfer encoding.
    fields = group(_body(message, part)[:FIELDS_SIZE_LIMIT])
    returned = [_body(message, part) for part in parts if part.media_type in _RETURNED_TYPES]
    return ArfReport(
        feedback_type=_required(fields, "feedback-type", str),
        user_agent=_required(fields, "user-agent", str),
        version=_required(fields, "version", str),
        arrival_date=_arrival_date(fields),
        incidents=_optional(fields, "incidents", values.count),
        original_envelope_id=_optional(fields, "original-envelope-id", str),
        original_mail_from=_optional(fields, "original-mail-from", mailbox),
        reporting_mta=_optional(fields, "reporting-mta", values.mta_name),
        source_ip=_optional(fields, "source-ip", str),
        authentication_results=fields.pop("authentication-results", []),
        original_rcpto_to=[_value("original-rcpt-to", text, mailbox) for text in _recipients(fields)],
        reported_domain=fields.pop("reported-domain", []),
        reported_uri=fields.pop("reported-uri", []),
        extensions=dict(sorted(fields.items())),
        original_message=original_text(returned[-1]) if returned else None,
        supplemental_trace=_trace(returned),
    )


def _recipients(fields: Group) -> list[str]:
    return within_limits(fields.pop("original-rcpt-to", []), lambda text: (text,))


def _trace(returned: list[bytes]) -> object:
    """Return KumoMTA's trace. It is not read from a message whose header section has a fault."""
    trace = supplemental_trace(returned)
    if trace is None or all(map(_has_header_section, returned)):
        return trace
    return supplemental_trace([message for message in returned if _has_header_section(message)])


def _arrival_date(fields: Group) -> str | None:
    """Return the Arrival-Date, or the Received-Date if it is missing; None for a date that cannot be read."""
    try:
        date = _optional(fields, "arrival-date", values.timestamp)
        return date if date is not None else _optional(fields, "received-date", values.timestamp)
    except FaultError:
        return None


def _bounce(message: bytes, _top: ExactPart, parts: list[ExactPart]) -> OobReport:
    part = _first(parts, _STATUS_TYPES)
    body = _decoded(_body(message, part), transfer_encoding(first(part.head, b"content-transfer-encoding")))
    text = body[:FIELDS_SIZE_LIMIT].decode("utf-8", "replace").replace("\r\n", "\n").strip(WHITE)
    if len(body) > FIELDS_SIZE_LIMIT:
        text = text.rpartition("\n\n")[0]  # without the group that is cut
    head, *recipients = text.split("\n\n", RECIPIENT_LIMIT + 1)[: RECIPIENT_LIMIT + 1]
    returned = [part for part in parts if part.media_type in _RETURNED_TYPES]
    return OobReport(
        per_message=_per_message(_block(head)),
        per_recipient=[_per_recipient(group) for group in within_limits(map(_block, recipients), recipient_fields)],
        original_message=original_text(_body(message, returned[-1])) if returned else None,
    )


def _block(text: str) -> Group:
    return group(text.encode())


def _per_message(fields: Group) -> PerMessage:
    return PerMessage(
        reporting_mta=_required(fields, "reporting-mta", values.mta_name),
        original_envelope_id=_optional(fields, "original-envelope-id", str),
        dsn_gateway=_optional(fields, "dsn-gateway", values.mta_name),
        received_from_mta=_optional(fields, "received-from-mta", values.mta_name),
        arrival_date=_optional(fields, "arrival-date", values.timestamp),
        extensions=dict(sorted(fields.items())),
    )


def _per_recipient(fields: Group) -> PerRecipient:
    return PerRecipient(
        original_recipient=_optional(fields, "original-recipient", values.recipient),
        final_recipient=_required(fields, "final-recipient", values.recipient),
        remote_mta=_optional(fields, "remote-mta", values.mta_name),
        last_attempt_date=_optional(fields, "last-attempt-date", values.timestamp),
        will_retry_until=_optional(fields, "will-retry-until", values.timestamp),
        final_log_id=_optional(fields, "final-log-id", str),
        action=_required(fields, "action", values.action),
        status=_required(fields, "status", values.status),
        diagnostic_code=_optional(fields, "diagnostic-code", values.diagnostic_code),
        extensions=dict(sorted(fields.items())),
    )


def _first(parts: list[ExactPart], media_types: tuple[str, ...]) -> ExactPart:
    for part in parts:
        if part.media_type in media_types:
            return part
    # A part can mean a type, and not say it to the letter.
    claims = [(first(part.head, b"content-type") or b"").strip().lower() for part in parts]
    for name in media_types:
        if any(claim.startswith(name.encode()) for claim in claims):
            raise FaultError(f"the Content-Type of a part is not spelled {name}, or has a fault")
    raise FaultError("")


def _body(message: bytes, part: ExactPart) -> bytes:
    """Return the body of a part as it was sent. KumoMTA has none of a part that has parts."""
    return b"" if _parts(message, part) else message[part.start : part.end]


def _decoded(body: bytes, encoding: str) -> bytes:
    if encoding == "quoted-printable":
        return quoted_printable(b"\n".join([line.rstrip(b" \t\r") for line in body.translate(None, _NO_TEXT).split(b"\n")]))
    if encoding != "base64":
        return body
    digits = body.translate(None, b" \t\r\n")
    if len(digits) % 4 or not _BASE64.fullmatch(digits):
        raise FaultError("its delivery-status part does not have the encoding that its header names")
    return binascii.a2b_base64(digits)


def _has_header_section(message: bytes) -> bool:
    try:
        section_end(message, 0, len(message))
    except FaultError:
        return False
    return True


def _required(fields: Group, name: str, convert: Callable[[str], T]) -> T:
    value = _optional(fields, name, convert)
    if value is None:
        raise FaultError(f"its {name} is missing")
    return value


def _optional(fields: Group, name: str, convert: Callable[[str], T]) -> T | None:
    """Remove a field and return its value, or None if it is missing. Raise FaultError."""
    found = fields.pop(name, [])
    if len(found) > 1:
        raise FaultError(f"its {name} appears more than once")
    return _value(name, found[0], convert) if found else None


def _value(name: str, text: str, convert: Callable[[str], T]) -> T:
    try:
        return convert(text)
    except ValueError:
        raise FaultError(f"its {name} is invalid") from None
