"""A record to a row of the index: what people search for, cut to a size.

Records of any age and of other programs are external data: a value of a wrong type is missing, and no record raises. Owns the
limits of a row. Never knows a table.
"""

import json
import re
from collections.abc import Mapping
from typing import Any, Final

import msgspec
from msgspec import Struct

from sidecar.core.policy.address import normal_address
from sidecar.core.records.build import MAILBOX_LIMIT, NAME_LIMIT, WHY_LIMIT
from sidecar.core.records.reading import Logged
from sidecar.core.records.reason import BOUNCES
from sidecar.journal.index.peers import packed, unpacked

SECOND: Final = 1_000_000
"""In microseconds."""
LAST_TIME: Final = 7_258_118_400 * SECOND
"""The year 2200: what is later is no time, and would not fit into a key."""

# Of a message with more recipients, these are found.
_ADDRESSES: Final = 100
# An id of ours has 36 characters.
_ID_LIMIT: Final = 64
_WORD_LIMIT: Final = 64
# RFC 5322 section 2.1.1.
_MESSAGE_ID_LIMIT: Final = 998
# `2026-11-22T09:30:00.123456Z`: a report's records have the time of its message, and the ones before are at most so much older.
_FRACTION: Final = slice(20, 26)
_FOLLOW_UP: Final = 3600 * SECOND
# The database cannot have the surrogates. A NUL is the mark between words.
_NO_TEXT: Final = re.compile("[\0\ud800-\udfff]")


class Row(Struct, frozen=True, kw_only=True, gc=False):
    """What the index has of a record; a text is empty if the record does not have it. `time` is in microseconds since 1970.

    `reason` is `meta.why`, or the reply in a record of a bounce. `reported` are the addresses in a feedback report, and
    `original_id` the Message-ID of the returned message, without `<>`. `reporter` is the host that reported. `count` is how
    many events the record stands for.
    """

    time: int
    type: str
    id: str = ""
    message_id: str = ""
    session_id: str = ""
    queue_id: str = ""
    original_id: str = ""
    sender: str = ""
    recipients: tuple[str, ...] = ()
    reported: tuple[str, ...] = ()
    peer: str = ""
    peer_name: str = ""
    disposition: str = ""
    reason: str = ""
    bounce_class: str = ""
    feedback_type: str = ""
    reporter: str = ""
    verified: str = ""
    count: int = 1

    @property
    def addresses(self) -> tuple[str, ...]:
        """All addresses of the record."""
        return (*((self.sender,) if self.sender else ()), *self.recipients, *self.reported)


class _Timed(Logged, frozen=True, kw_only=True, gc=False):
    created_time: str = ""


_DECODER: Final = msgspec.json.Decoder(_Timed)
_FIELDS: Final = {field.encode_name: field for field in msgspec.structs.fields(_Timed)}


def row_of(line: bytes, before: int) -> Row | None:
    """Return the row of a line; None if the line is no record. `before` is the time of the record before it in its segment."""
    record = _decode(line)
    if record is None:
        return None
    meta, report = record.meta, record.feedback_report or {}
    peer = record.peer_address
    is_bounce = record.type in BOUNCES
    return Row(
        time=_time(record, before),
        type=_text(record.type, _WORD_LIMIT),
        id=_text(record.id, _ID_LIMIT),
        message_id=_text(meta.get("message_id"), _ID_LIMIT),
        session_id=_text(record.session_id, _ID_LIMIT),
        queue_id=_text(meta.get("queue_id"), NAME_LIMIT),
        original_id=_original_id(meta),
        sender=_address(record.sender),
        recipients=tuple(filter(None, map(_address, record.recipients[:_ADDRESSES]))),
        reported=_reported(report) if report else (),
        peer="" if peer is None else _peer(peer.addr),
        peer_name="" if peer is None else _text(peer.name, NAME_LIMIT),
        disposition=_text(meta.get("disposition"), _WORD_LIMIT),
        reason=_text(_reply(record) if is_bounce else meta.get("why"), WHY_LIMIT),
        bounce_class=_text(record.bounce_classification, _WORD_LIMIT) if is_bounce else "",
        feedback_type=_text(report.get("feedback_type"), _WORD_LIMIT).lower(),
        reporter=_reporter(record, report),
        verified=_text(meta.get("verified"), _WORD_LIMIT),
        count=record.count,
    )


def _decode(line: bytes) -> _Timed | None:
    try:
        return _DECODER.decode(line)
    except (ValueError, RecursionError):
        return _decode_damaged(line)


def _decode_damaged(line: bytes) -> _Timed | None:
    """Read what can be read of a record with values of wrong types."""
    try:
        values = json.loads(line.decode("utf-8", "replace"))
    except (ValueError, RecursionError):
        return None
    if not isinstance(values, dict) or not isinstance(values.get("type"), str):
        return None
    found = dict[str, Any]()
    for name, field in _FIELDS.items():
        if name in values:
            try:
                found[field.name] = msgspec.convert(values[name], field.type)
            except (ValueError, RecursionError, OverflowError):
                continue
    return _Timed(**found)


def _time(record: _Timed, before: int) -> int:
    """Return when a record was made. That of an OOB record is when its message began: it follows the record before it."""
    is_oob = record.type == "OOB" and record.created > 0
    seconds, text = (record.created, record.created_time) if is_oob else (record.timestamp, record.event_time)
    fraction = text[_FRACTION]
    time = seconds * SECOND + (int(fraction) if fraction.isascii() and fraction.isdigit() else 0)
    if not 0 < time <= LAST_TIME:
        return before
    return before if is_oob and time < before <= time + _FOLLOW_UP else time


def _text(value: object, limit: int) -> str:
    if not isinstance(value, str):
        return ""
    text = value[:limit]
    return text if text.isascii() and "\0" not in text else _NO_TEXT.sub("\ufffd", text)


def _address(value: object) -> str:
    # Several are one text, with line feeds between them.
    return _text(value, MAILBOX_LIMIT).replace("\n", "\ufffd")


def _peer(text: str) -> str:
    address = packed(text)
    return _text(text, _WORD_LIMIT) if address is None else unpacked(address)


def _reply(record: Logged) -> str:
    response = record.response
    if not response.code:
        return ""
    status = "" if response.enhanced_code is None else f"{response.enhanced_code} "
    return f"{response.code} {status}{response.content.removeprefix(status)}".rstrip()


def _reported(report: Mapping[str, Any]) -> tuple[str, ...]:
    named = report.get("original_rcpto_to")
    texts = [*(named[:_ADDRESSES] if isinstance(named, list) else ()), report.get("original_mail_from")]
    found = (_address(one).strip().removeprefix("<").removesuffix(">") for one in texts)
    # Of a route without an address, as "<@a:>", nothing is left.
    return tuple(dict.fromkeys(filter(None, map(normal_address, found))))


def _original_id(meta: Mapping[str, Any]) -> str:
    original = meta.get("original")
    found = _text(original.get("message_id"), _MESSAGE_ID_LIMIT) if isinstance(original, dict) else ""
    return found.strip().removeprefix("<").removesuffix(">")


def _reporter(record: Logged, report: Mapping[str, Any]) -> str:
    if record.type == "OOB":
        return "" if record.peer_address is None else _text(record.peer_address.name, NAME_LIMIT)
    mta = report.get("reporting_mta")
    name = mta.get("name") if isinstance(mta, dict) else None
    return _text(name or report.get("user_agent"), NAME_LIMIT)
