"""A complete message -> which report it is, if any.

Owns the order of steps: the top Content-Type, the parts directly below it, then the module for each kind of report. Never reads
deeper parts.
"""

from codecs import getincrementaldecoder
from collections import Counter

from sidecar.core.reports import mime
from sidecar.core.reports.arf import read_feedback, supplemental_trace
from sidecar.core.reports.oob import read_status
from sidecar.core.reports.strict import feedback_fault, status_fault
from sidecar.core.reports.values import ArfReport, OobReport, ReportReading

_STATUS_TYPES = frozenset((b"message/delivery-status", b"message/global-delivery-status"))
_FEEDBACK_TYPES = frozenset((b"message/feedback-report",))
_MESSAGE = b"message/rfc822"
_RETURNED_TYPES = frozenset((_MESSAGE, b"text/rfc822-headers", b"message/global", b"message/global-headers"))

# A larger returned message is decoded in pieces of this size.
_PIECE = 64 * 1024
# Characters of a peer's text in a sentence.
_QUOTED_LIMIT = 60


def may_be_report(content_type: bytes | None) -> bool:
    """Return True if a message with this value of its first Content-Type field can be a report.

    `read` never finds a report if this is False. The value may be folded; None means that the field is missing.
    """
    return mime.media_type(content_type) == mime.REPORT


def read(message: bytes, *, strict: bool = False) -> ReportReading:
    """Read a message: header section, empty line, body; lines may end with CRLF or LF.

    Never raise an exception for any bytes. `why` describes the report, or says why the message is none. With `strict` only
    what KumoMTA accepts is a report.
    """
    head, rest = mime.split_message(message)
    value = mime.header(head, b"content-type")
    top = mime.content_type(value)
    if top.media_type != mime.REPORT:
        if value is None:
            return _none("it has no Content-Type")
        return _none(f"its Content-Type is {_quoted(top.media_type)}, not multipart/report")
    if top.boundary is None:
        return _none("its Content-Type has no boundary")
    parts = mime.parts(message, top.boundary, rest)
    is_feedback = top.report_type is not None and top.report_type.strip().lower() == b"feedback-report"
    feedback = _first(parts, _FEEDBACK_TYPES) if is_feedback else None
    status = _first(parts, _STATUS_TYPES)
    if feedback is None and status is None:
        return _none(_lacking(parts, is_feedback=is_feedback))
    returned = _returned(parts)
    original = _text(returned[-1]) if returned else None
    arf: ArfReport | str = ""
    oob: OobReport | str = ""
    if feedback is not None:
        fault = strict and feedback_fault(head, feedback)
        arf = fault or read_feedback(_body(feedback), original, supplemental_trace(returned))
    if status is not None:
        fault = strict and status_fault(head, status)
        oob = fault or read_status(_body(status), original)
    return _reading(arf, oob)


def _reading(arf: ArfReport | str, oob: OobReport | str) -> ReportReading:
    """Combine the two readings: each is a report, or the reason why it is none."""
    found = []
    if isinstance(arf, ArfReport):
        found.append(f"a feedback report: {_quoted(arf.feedback_type.encode())}")
    if isinstance(oob, OobReport):
        found.append(_bounce(oob))
    if not found:
        return _none(str(arf or oob))
    return ReportReading(
        arf=arf if isinstance(arf, ArfReport) else None,
        oob=oob if isinstance(oob, OobReport) else None,
        why=", and ".join(found),
    )


def _none(reason: str) -> ReportReading:
    return ReportReading(why=f"not a report, because {reason}")


def _first(parts: list[mime.Part], media_types: frozenset[bytes]) -> mime.Part | None:
    return next((part for part in parts if part.media_type in media_types), None)


def _body(part: mime.Part) -> bytes:
    """Return a part's body without its transfer encoding, or unchanged if it claims to be base64 and is not."""
    decoded = mime.transfer_decoded(part)
    return part.body if decoded is None else decoded


def _returned(parts: list[mime.Part]) -> list[bytes]:
    """Return the returned messages, or their header sections, without transfer encoding.

    RFC 2046 forbids an encoding of message/rfc822, so a false base64 is kept as it is. The other types are then left out, as in
    KumoMTA: encoded bytes are no original message.
    """
    found = []
    for part in parts:
        if part.media_type == _MESSAGE:
            found.append(_body(part))
        elif part.media_type in _RETURNED_TYPES and (decoded := mime.transfer_decoded(part)) is not None:
            found.append(decoded)
    return found


def _text(original: bytes) -> str:
    """Return a returned message as text with LF line ends; bytes that are not UTF-8 are U+FFFD."""
    # In pieces, which end with a line if possible: other threads run between them, and of 10 MB each step takes up to 0.1 s.
    decoder, texts, start = getincrementaldecoder("utf-8")("replace"), [], 0
    while start < len(original):
        end = original.rfind(b"\n", start, start + _PIECE) + 1 or start + _PIECE
        if original[end - 1 : end + 1] == b"\r\n":
            end += 1
        text = decoder.decode(original[start:end].replace(b"\r\n", b"\n"), end >= len(original))
        if not text.isascii() and len(text.encode("utf-16-le")) > 2 * len(text):
            # Beyond U+FFFF each character takes four bytes, in the pieces and in the whole: too much memory.
            return original.replace(b"\r\n", b"\n").decode("utf-8", "replace")
        texts.append(text)
        start = end
    return "".join(texts)


def _lacking(parts: list[mime.Part], *, is_feedback: bool) -> str:
    if not parts:
        return "its body does not contain its boundary"
    if _first(parts, _FEEDBACK_TYPES) is not None:
        return "it has a message/feedback-report part, but its report-type is not feedback-report"
    wanted = "message/feedback-report" if is_feedback else "message/delivery-status"
    return f"no part directly below its multipart/report is {wanted}"


def _bounce(report: OobReport) -> str:
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
