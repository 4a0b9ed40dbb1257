"""The log record: KumoMTA's shape, field by field. Field names and order are for ever; docs call this "a record".

Owns the shape and its encoding. Never decides what is written.
"""

import re
from collections.abc import Mapping
from typing import Any, Literal

import msgspec
from msgspec import Struct

from sidecar.reports.values import ArfReport

RecordType = Literal["Reception", "OOB", "Feedback", "Rejection"]
Headers = Mapping[str, str | list[str]] | msgspec.Raw
"""Names and values of the recorded headers. Raw is the same as JSON: all records of a message share it."""


UNCATEGORIZED = "Uncategorized"
"""KumoMTA's class of a bounce that no rule fits, and of every record where there are none."""


class EnhancedCode(Struct, frozen=True, kw_only=True, rename={"class_": "class"}):
    """An enhanced status code (RFC 3463)."""

    class_: int
    subject: int
    detail: int


class Response(Struct, frozen=True, kw_only=True):
    """An SMTP response; `command` is the one that was answered, where the record tells it."""

    code: int
    enhanced_code: EnhancedCode | None = None
    content: str = ""
    command: str | None = None

    @property
    def line(self) -> str:
        """The response as the one line that rules for classes of bounces are written for (KumoMTA: to_single_line)."""
        enhanced = self.enhanced_code
        codes = f"{self.code} " if enhanced is None else f"{self.code} {enhanced.class_}.{enhanced.subject}.{enhanced.detail} "
        return codes + self.content.replace("\r", "\\r").replace("\n", "\\n")


class PeerAddress(Struct, frozen=True, kw_only=True):
    """`name` is the HELO name (for OOB records the Reporting-MTA), `addr` the IP address."""

    name: str
    addr: str


class Record(Struct, frozen=True, kw_only=True):
    """One line of the journal. Times are seconds since 1970 and the same instant as RFC 3339; `size` is in bytes."""

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
    session_id: str


_ENCODER = msgspec.json.Encoder()

# In UTF-8: C1 controls (U+009B begins a terminal's orders), line and paragraph separators (some readers end a line there), and
# the marks that turn text around. JSON lets them stand as they are.
_UNSEEN = re.compile(rb"\xc2[\x80-\x9f]|\xe2\x80[\x8e\x8f\xa8-\xae]|\xe2\x81[\xa6-\xa9]|\x7f")


def encode(record: Record) -> bytes:
    """Give the record as one line of JSON, line end included. All text must be free of lone surrogates."""
    return visible(_ENCODER.encode(record)) + b"\n"


def visible(json: bytes) -> bytes:
    """Escape, in JSON, what strangers could play with terminals and readers of lines; the values stay the same."""
    if json.isascii() and b"\x7f" not in json:
        return json
    return _UNSEEN.sub(lambda found: b"\\u%04x" % ord(found[0].decode()), json)
