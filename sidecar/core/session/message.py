"""One message in hand: what MAIL creates and what the end of the message, or an abort, takes away again.

Owns the envelope and the buffer of a message that may be a report. Never decides anything.
"""

import json
from bisect import bisect_right
from collections.abc import Mapping
from functools import lru_cache
from io import BytesIO

import msgspec
from msgspec import Raw

from sidecar.core.policy import RecipientAnswer
from sidecar.core.records.record import Headers
from sidecar.core.reports import may_be_report
from sidecar.core.session.events import Mail
from sidecar.core.session.quota import Quota
from sidecar.core.session.replies import HEADER_FIELD_LIMIT, Bound
from sidecar.core.settings.values import Settings
from sidecar.core.text import printable_json

# In bytes of JSON, escapes included, of all recorded headers of a message; an honest one has some 5,000 in its Received and
# DKIM headers. All records of a message repeat them, and a bounce report may make a thousand. The rest is left out.
RECORDED_HEADERS_LIMIT = 16 * 1024

_TYPE = b"content-type"

# Reading a large report, and writing its record, needs up to so many times its size (measured: text that a character of four
# bytes has made wide, and what must be escaped). Smaller ones are many before they are much.
_LARGE = 256 * 1024
_NEED = 4

# Bytes of the quota that are taken ahead: a usual report needs it twice then, not once for each header field.
_AHEAD = 4 * 1024


class Message:
    """The state of one message. `message_id` is 32 hex digits, `created` seconds since 1970.

    `is_decided`: the verdict is certain before the body, and waits for the end of the message. `whole`: all of the message was
    seen.
    The content is kept only while it may still be a report, and only within the bounds of the settings and of the `quota`, so
    that a message of any size from a relay host costs nothing. `exceeded` is the first bound that it went over: from there on
    nothing is kept. Call `release` when the message is over, however it ended.
    """

    def __init__(
        self,
        mail: Mail,
        *,
        message_id: str,
        created: float,
        settings: Settings,
        quota: Quota,
    ) -> None:
        self.mail = mail
        self.message_id = message_id
        self.created = created
        self.queue_id = mail.queue_id
        self.recipients: list[RecipientAnswer] = []
        self.headers: dict[str, str | list[str]] = {}
        self.is_decided = False
        self.whole = False
        self.claims_report = False
        self.exceeded: Bound | None = None
        self.needed = 0
        self._settings = settings
        self._quota = quota
        self._kept = False
        self._held = 0
        self._room = 0
        self._seen = 0
        self._in_headers = True
        self._is_typed = False
        self._fields = 0
        self._recordable = RECORDED_HEADERS_LIMIT
        self._recorded: Raw | None = None
        # Not a list: a million pieces of a few bytes each would take fifteen times their size.
        self._content = BytesIO()

    @property
    def takes_reports(self) -> bool:
        """Tell whether it matters, for some recipient, what the message is."""
        return any(recipient.takes_reports for recipient in self.recipients)

    @property
    def size(self) -> int:
        """Give the size in bytes: of what was seen, or what the peer declared where the verdict came before the body."""
        return self._seen if self.whole else max(self._seen, self.mail.declared_size or 0)

    @property
    def seen(self) -> int:
        """Return the bytes of the header section and the body that were seen."""
        return self._seen

    @property
    def content(self) -> bytes:
        """Give the whole message, as far as it was kept."""
        return self._content.getvalue()

    def begin_content(self) -> None:
        """Mark where the envelope is complete."""
        self._kept = self.takes_reports

    def add_fields(self, fields: list[tuple[bytes, bytes]], size: int) -> bool:
        """Keep header fields, record those that are wanted, and see whether they claim that this is a report.

        `size` is what they have in the message, in bytes, together with those that were left out. Return True when none but a
        Content-Type matters any more.
        """
        recorded = fields[: max(0, HEADER_FIELD_LIMIT - self._fields)] if self._settings.headers else ()
        self._fields += len(fields)
        if self._kept:
            if self._fields > HEADER_FIELD_LIMIT:
                self.exceeded = Bound.HEADER_FIELDS
                self.release()
            self._keep(b"".join([b"%b: %b\r\n" % field for field in fields]), size)
        else:
            self._seen += size
        # Only the first counts, for the report reader too.
        if not self._is_typed:
            self._find_type(fields)
        for name, value in recorded:
            if _is_among(text := name.rstrip().lower().decode("utf-8", "replace"), self._settings.headers):
                self._record_header(text, value)
        return self._fields > HEADER_FIELD_LIMIT or not (self._kept or self._settings.headers)

    def _find_type(self, fields: list[tuple[bytes, bytes]]) -> None:
        for name, value in fields:
            # RFC 5322 section 4.5 let a blank stand before the colon, and the report reader takes it so too.
            if len(name) >= len(_TYPE) and name.rstrip().lower() == _TYPE:
                self._is_typed = True
                self.claims_report = may_be_report(value)
                return

    def end_headers(self) -> None:
        """Mark where the body begins; what is certain to be no report is let go."""
        self._keep(b"\r\n", len(b"\r\n"))
        self._in_headers = False
        if not self.claims_report:
            self.release()

    def add_body(self, chunk: bytes) -> None:
        """Take a piece of the body."""
        self._keep(chunk, len(chunk))

    def begin_reading(self) -> None:
        """Take the quota that reading a large report needs; `end_reading` returns it."""
        need = self._seen * _NEED if self._kept and self._seen > _LARGE else 0
        if need and not self._quota.begin_reading(need):
            self.exceeded = Bound.MEMORY
            self.release()
        elif need:
            self.needed = need

    def end_reading(self) -> None:
        """Give back what reading and writing needed. May be called again."""
        if self.needed:
            self._quota.end_reading(self.needed)
            self.needed = 0

    def release(self) -> None:
        """Let go of the content, and of its part of the quota. May be called again."""
        self._kept = False
        if self._held:
            self._content = BytesIO()
            self._quota.release(self._held)
            self._held = self._room = 0

    def _keep(self, piece: bytes, size: int) -> None:
        self._seen += size
        if not self._kept:
            return
        if self._seen > self._room:
            self.exceeded = self._make_room()
        if self.exceeded is None:
            self._content.write(piece)
        else:
            self.release()

    def _make_room(self) -> Bound | None:
        """Take the quota for what was seen, and for some more at once where there is, or name the bound that was gone over."""
        limit = self._settings.report_size_limit
        if self._seen > limit:
            return Bound.REPORT_SIZE
        if self._in_headers:
            limit = min(limit, self._settings.limits.header_size)
        if self._seen > limit:
            return Bound.HEADER_SIZE
        lacking = self._seen - self._held
        if lacking > 0 and not (self._hold(lacking + _AHEAD) or self._hold(lacking)):
            return Bound.MEMORY
        self._room = min(self._held, limit)
        return None

    def _hold(self, size: int) -> bool:
        free = self._quota.hold(size)
        self._held += size if free else 0
        return free

    @property
    def recorded_headers(self) -> Headers:
        """Return the recorded headers in the form that all records share, encoded once."""
        if self._recorded is None and self.headers:
            encoded = printable_json(msgspec.json.encode(self.headers))
            if len(encoded) > RECORDED_HEADERS_LIMIT:
                # In ASCII, where the bytes of a text do not depend on the text around it.
                encoded = json.dumps(_within_limit(self.headers), separators=(",", ":")).encode()
            self._recorded = Raw(encoded)
        return self._recorded or {}

    def _record_header(self, name: str, value: bytes) -> None:
        # In characters, which are fewer than the encoded bytes: those are counted once, when all headers are there.
        room = self._recordable - len(name)
        if room <= 0:
            return
        text = " ".join(value.decode("utf-8", "replace").split())[:room]
        self._recordable = room - len(text)
        self._recorded = None
        known = self.headers.get(name)
        if known is None:
            self.headers[name] = text
        elif isinstance(known, list):
            known.append(text)
        else:
            self.headers[name] = [known, text]


def _within_limit(headers: Mapping[str, str | list[str]]) -> dict[str, str | list[str]]:
    """Return the first headers, the last of them cut, whose encoded bytes are within the limit."""
    kept: dict[str, str | list[str]] = {}
    room = RECORDED_HEADERS_LIMIT - len("{}")
    for name, value in headers.items():
        room -= _encoded_size(name) + len("[]")
        texts: list[str] = []
        for text in [value] if isinstance(value, str) else value:
            if room < _encoded_size(""):
                return {**kept, name: texts} if texts else kept
            texts.append(text[: bisect_right(range(len(text) + 1), room, key=lambda end: _encoded_size(text[:end])) - 1])
            room -= _encoded_size(texts[-1])
        kept[name] = texts[0] if isinstance(value, str) else texts
    return kept


def _encoded_size(text: str) -> int:
    """Return the bytes of a text in JSON of ASCII, with its quotes and the sign that follows it."""
    return len(json.dumps(text)) + 1


def _is_among(name: str, wanted: tuple[str, ...]) -> bool:
    """Tell whether a header is one that records want; those that end with `*` stand for all that begin so."""
    return name in wanted or name.startswith(_beginnings(wanted))


@lru_cache(maxsize=8)  # there is one list in a worker; two, while it is replaced
def _beginnings(wanted: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(one[:-1] for one in wanted if one.endswith("*"))
