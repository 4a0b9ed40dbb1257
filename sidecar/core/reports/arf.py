"""The fields of a feedback report -> ArfReport (RFC 5965, RFC 6591).

Owns the fields that a feedback report needs, and the trace that KumoMTA puts into outgoing mail to find it in a complaint.
Never reads the rest of the message.
"""

import binascii
import math
import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from itertools import chain, islice
from typing import Any

import msgspec
from msgspec.structs import replace

from sidecar.core.reports.addresses import readable_address, within_limits
from sidecar.core.reports.dates import read_date
from sidecar.core.reports.fields import FIELDS_SIZE_LIMIT, VALUE_LIMIT, Group, blocks, ip_address, mta_name, number, take
from sidecar.core.reports.mime import split_message
from sidecar.core.reports.values import ArfReport

# KumoMTA's trace has the recipient and some metadata; its own example has 60 bytes, and Postfix cuts headers at 100 kB.
TRACE_LIMIT = 64 * 1024
# The marker alone, in base64.
TRACE_MINIMUM = 20
# Mail that went through several filters has some 50 X- headers.
TRACE_HEADER_LIMIT = 1000
# Fields that claim to be a trace and are none. Reading one takes as long as a small report.
TRACE_FAILURES_LIMIT = 4
# Quotes, brackets and commas of a trace, also those in its strings: each value costs time, even an empty one.
TRACE_MARKS_LIMIT = 1000
# A trace is a flat object, its metadata perhaps lists. Encoders recurse, so a deep one must not reach them.
TRACE_DEPTH_LIMIT = 32

# Of the name of a field in JSON.
_NAME_LIMIT = 100

# The media type or the file name of a part.
_IS_YAML = re.compile(rb"[/+-]yaml\b|\.ya?ml\b", re.IGNORECASE)

_REQUIRED = ("feedback-type", "user-agent", "version")

_X_HEADER = re.compile(rb"\n[Xx]-[!-9;-~]*+[ \t]*+:([^\n]*+(?>(?:\n[ \t][^\n]*+)*))")
# JSON begins with `{` or white space, and base64 then with one of these.
_FIRST_DIGITS = frozenset(b"eICD")
_MARKER = "_@_"
_MARKER_VALUE = "\\_/"
_MARKS = (b'"', b"[", b"{", b",")
_BRACKET = re.compile(rb'"(?>(?:[^"\\]++|\\.)*)"?|[\[{]|[\]}]', re.DOTALL)


def read_feedback(body: bytes, original_message: str | bytes | None, supplemental_trace: object) -> ArfReport | str:
    """Read the body of a feedback-report part, decoded. Return the report, or what is missing."""
    group = _group(body)
    feedback_type = take(group, "feedback-type", str)
    if feedback_type is None:
        return "its feedback-report part has no Feedback-Type"
    # KumoMTA reads Received-Date only if there is no Arrival-Date, readable or not.
    date = "arrival-date" if "arrival-date" in group else "received-date"
    return ArfReport(
        feedback_type=feedback_type,
        user_agent=take(group, "user-agent", str),
        version=take(group, "version", str),
        arrival_date=take(group, date, read_date),
        incidents=take(group, "incidents", number),
        original_envelope_id=take(group, "original-envelope-id", str),
        original_mail_from=take(group, "original-mail-from", readable_address),
        reporting_mta=take(group, "reporting-mta", mta_name),
        source_ip=take(group, "source-ip", ip_address),
        authentication_results=group.pop("authentication-results", []),
        original_rcpto_to=list(map(readable_address, within_limits(group.pop("original-rcpt-to", []), lambda text: (text,)))),
        reported_domain=group.pop("reported-domain", []),
        reported_uri=group.pop("reported-uri", []),
        extensions=group,
        original_message=original_message,
        supplemental_trace=supplemental_trace,
    )


def _group(body: bytes) -> Group:
    """Return the fields up to the first empty line, as KumoMTA, or all of them if required ones are missing."""
    found = blocks(body)
    if {name for name, _ in found[0]}.issuperset(_REQUIRED):
        found = found[:1]
    group: Group = {}
    for name, value in chain.from_iterable(found):
        group.setdefault(name, []).append(value)
    return group


def supplemental_trace(returned: list[bytes]) -> Any:  # noqa: ANN401 - whatever JSON object the sender put there
    """Return KumoMTA's trace from the returned messages, the last one first, without its marker; or None."""
    traces = (_trace(text) for message in reversed(returned) for text in _claimed_traces(message))
    return next((trace for trace in islice(traces, TRACE_FAILURES_LIMIT) if trace is not None), None)


def _claimed_traces(message: bytes) -> Iterator[bytes]:
    """Yield decoded base64 of X- header fields that has the marker of a trace."""
    head = split_message(message)[0][:FIELDS_SIZE_LIMIT]
    for field in islice(_X_HEADER.finditer(b"\n" + head), TRACE_HEADER_LIMIT):
        encoded = field[1].translate(None, b" \t\r\n\f\v")
        if TRACE_MINIMUM <= len(encoded) <= TRACE_LIMIT and encoded[0] in _FIRST_DIGITS:
            text = b""
            with suppress(ValueError):
                text = binascii.a2b_base64(encoded, strict_mode=True)
            if _MARKER.encode() in text:
                yield text


def with_attachment(report: ArfReport, texts: Iterable[tuple[bytes, bytes]]) -> ArfReport:
    """Return a report of the type `xarf` with the fields of the first JSON object or YAML document among its parts.

    They are extensions. A field of an object in the object is `report.sourceip`. Fields of the feedback-report part keep their
    values. `texts` are the header section and the body of each part.
    """
    read = (_attached(head, text) for head, text in texts if len(text) <= TRACE_LIMIT)
    fields = next(filter(None, read), None)
    return report if fields is None else replace(report, extensions={**fields, **report.extensions})


def _attached(head: bytes, text: bytes) -> Group | None:
    """Return the fields of an attachment, or None if it is neither JSON nor the flat YAML of older reporters."""
    text = text.removeprefix(b"\xef\xbb\xbf").lstrip()
    if text.startswith(b"{"):
        values = _json_object(text)
        return None if values is None else _flat(values)
    if not (text.startswith(b"---\n") or _IS_YAML.search(head)):
        return None
    group: Group = {}
    for name, value in chain.from_iterable(blocks(text)):
        group.setdefault(name, []).append(value)
    return group


def _flat(values: dict[str, Any]) -> Group:
    """Return the values of an object as text, by the path of their names in lower case. The depth is bounded already."""
    flat: Group = {}
    waiting: list[tuple[str, Any]] = [("", values)]
    while waiting:
        path, value = waiting.pop()
        if isinstance(value, dict):
            waiting += [(f"{path}.{name[:_NAME_LIMIT].lower()}".lstrip("."), inner) for name, inner in reversed(value.items())]
        elif isinstance(value, list):
            waiting += [(path, inner) for inner in reversed(value)]
        elif value is not None:
            text = value if isinstance(value, str) else msgspec.json.encode(value).decode()
            flat.setdefault(path, []).append(text[:VALUE_LIMIT])
    return flat


def _trace(text: bytes) -> dict[str, Any] | None:
    trace = _json_object(text)
    return None if trace is None or trace.pop(_MARKER, None) != _MARKER_VALUE else trace


def _json_object(text: bytes) -> dict[str, Any] | None:
    """Return a JSON object that is neither too large nor too deep, or None."""
    if sum(map(text.count, _MARKS)) > TRACE_MARKS_LIMIT or _too_deep(text):
        return None
    try:
        value = _DECODER.decode(text)
        # Other readers of records reject an integer outside i64 and u64, and so does this encoder.
        msgspec.msgpack.encode(value)
    except (ValueError, OverflowError, msgspec.DecodeError):
        return None
    return value if isinstance(value, dict) else None


def _finite(digits: str) -> float:
    number = float(digits)
    if math.isinf(number):
        raise ValueError(digits)
    return number


# msgspec rejects NaN and infinities. Some numbers, such as 1e300, take it 8 us, and Python 0.4.
_DECODER: msgspec.json.Decoder[Any] = msgspec.json.Decoder(float_hook=_finite)


def _too_deep(text: bytes) -> bool:
    depth = 0
    for bracket in _BRACKET.finditer(text):
        depth += {b"[": 1, b"{": 1, b"]": -1, b"}": -1}.get(bracket[0], 0)
        if depth > TRACE_DEPTH_LIMIT:
            return True
    return False
