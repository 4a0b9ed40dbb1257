"""The record: KumoMTA's shape, field by field. Field names and their order are permanent.

Owns the shape and its encoding. Never decides what is written.
"""

import math
from collections.abc import Mapping
from itertools import groupby
from typing import Any, Literal, TypeVar

import msgspec
from msgspec import UNSET, Struct, UnsetType
from msgspec.structs import replace

from sidecar.core.reports.values import ArfReport, OobReport
from sidecar.core.text import printable_json

Report = TypeVar("Report", bound=ArfReport | OobReport)
RecordType = Literal["Reception", "OOB", "Feedback", "Rejection"]
Headers = Mapping[str, str | list[str]] | msgspec.Raw
"""Names and values of the recorded headers. Raw is the same as JSON: all records of a message share it."""


UNCATEGORIZED = "Uncategorized"
"""KumoMTA's class of a bounce that no rule matches, and of all records if there are no rules."""


class EnhancedCode(Struct, frozen=True, kw_only=True, rename={"class_": "class"}):
    """An enhanced status code (RFC 3463)."""

    class_: int
    subject: int
    detail: int

    def __str__(self) -> str:
        return f"{self.class_}.{self.subject}.{self.detail}"


class Response(Struct, frozen=True, kw_only=True):
    """An SMTP response, and the `command` that it answers, if known."""

    code: int
    enhanced_code: EnhancedCode | None = None
    content: str = ""
    command: str | None = None

    @property
    def line(self) -> str:
        """The response as one line, for the rules of bounce classes (KumoMTA: to_single_line)."""
        codes = f"{self.code} " if self.enhanced_code is None else f"{self.code} {self.enhanced_code} "
        return codes + self.content.replace("\r", "\\r").replace("\n", "\\n")


class PeerAddress(Struct, frozen=True, kw_only=True):
    """`name` is the HELO name (for OOB records the Reporting-MTA), `addr` the IP address."""

    name: str
    addr: str


class Record(Struct, frozen=True, kw_only=True):
    """One line of the journal. Times are seconds since 1970 and the same instant as RFC 3339; `size` is in bytes.

    Only a message rejected as a whole has several recipients in one record. The line has no TLS fields if they are not set.
    """

    type: RecordType
    id: str
    sender: str
    recipient: str | list[str]
    queue: str
    site: str = ""
    size: int = 0
    response: Response
    peer_address: PeerAddress
    timestamp: int
    event_time: str
    created: int
    created_time: str
    num_attempts: int = 0
    bounce_classification: str = UNCATEGORIZED
    egress_pool: str | None = None
    egress_source: str | None = None
    source_address: None = None
    feedback_report: ArfReport | None = None
    meta: Mapping[str, Any]
    headers: Headers
    delivery_protocol: str | None = None
    reception_protocol: str | None = None
    nodeid: str
    tls_cipher: str | UnsetType = UNSET
    tls_protocol_version: str | UnsetType = UNSET
    tls_peer_subject_name: tuple[str, ...] | UnsetType = UNSET
    session_id: str


_ENCODER = msgspec.json.Encoder()

# The returned message is encoded in pieces of this many characters: memory besides the result stays small.
_PIECE = 16 * 1024
# The returned message is the only large text of a record. As JSON it can have 1.5 times the bytes of the report, and at least
# this many: control characters have six bytes each, and are rare in mail.
_TEXT_ALLOWANCE = 256 * 1024
# Records that are encoded together: each can have 30 kB, and each step has copies of its own.
_TOGETHER = 64
# The place of the large text: no JSON has this byte.
_GAP = b"\0"


def encode(*records: Record) -> bytes:
    """Return each record as one line of JSON, line end included. All text must be free of lone surrogates.

    `original_message` is cut where its JSON would have more bytes than 1.5 times `size` and 256 kB. The records of a message
    share their feedback report: its JSON is made once.
    """
    if len(records) == 1 and records[0].feedback_report is None:
        return printable_json(_ENCODER.encode_lines(records))
    lines: list[bytes] = []
    encoded: tuple[ArfReport, bytes] | None = None
    for _, group in groupby(records, lambda record: id(record.feedback_report)):
        some = [*group]
        if (report := some[0].feedback_report) is None:
            lines += (printable_json(_ENCODER.encode_lines(some[at : at + _TOGETHER])) for at in range(0, len(some), _TOGETHER))
            continue
        if encoded is None or encoded[0] is not report:
            encoded = report, _report(report, _TEXT_ALLOWANCE + some[0].size * 3 // 2)
        for record in some:
            before, _, after = _ENCODER.encode_lines((replace(record, feedback_report=msgspec.Raw(_GAP)),)).partition(_GAP)
            lines += (printable_json(before), encoded[1], printable_json(after))
    return b"".join(lines)


def with_numbers(report: Report) -> Report:
    """Return a report for JSON: a returned message that is not UTF-8 as an array of numbers."""
    octets = report.original_message
    return report if not isinstance(octets, bytes) else replace(report, original_message=msgspec.Raw(_numbers(octets)))


def _report(report: ArfReport, limit: int) -> bytes:
    text = report.original_message
    if text is None or (isinstance(text, str) and len(text) <= _PIECE):
        return printable_json(_ENCODER.encode(report))
    json = _text(text, limit) if isinstance(text, str) else _numbers(text, limit)
    before, _, after = _ENCODER.encode(replace(report, original_message=msgspec.Raw(_GAP))).partition(_GAP)
    return b"".join((printable_json(before), json, printable_json(after)))


def _text(text: str, limit: int) -> bytearray:
    json = bytearray(b'"')
    for start in range(0, len(text), _PIECE):
        piece = printable_json(_ENCODER.encode(text[start : start + _PIECE]))
        if len(json) + len(piece) > limit:
            break
        json += memoryview(piece)[1:-1]
    json += b'"'
    return json


def _numbers(octets: bytes, limit: float = math.inf) -> bytearray:
    """Return bytes that are not UTF-8 as KumoMTA writes them: an array of numbers."""
    json = bytearray(b"[")
    for start in range(0, len(octets), _PIECE):
        piece = _ENCODER.encode(list(octets[start : start + _PIECE]))
        if len(json) + len(piece) > limit:
            break
        json += b"," if start else b""
        json += memoryview(piece)[1:-1]
    json += b"]"
    return json
