"""One line for a record: time, type, disposition, reply, peer, envelope and reason; or a block with all facts of it.

Owns the columns, and what a terminal does not show. Never prints.
"""

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any, NamedTuple

from sidecar.core.disposition import REJECTED, Disposition
from sidecar.core.records import Logged
from sidecar.core.text import printable

_WORDS: dict[str, tuple[str, ...]] = {
    "green": ("Reception", "Delivery", Disposition.RELAYED),
    "red": ("Rejection", "Bounce", "AdminBounce", "Expiration", *REJECTED),
    "yellow": ("TransientFailure", "Delayed", Disposition.QUARANTINED, Disposition.TEMPFAILED),
    "magenta": ("OOB", "Feedback", Disposition.LOGGED_AND_RELAYED, Disposition.LOGGED_AND_DROPPED),
}
_STYLES = {word: style for style, words in _WORDS.items() for word in words}

_TYPE_WIDTH = len("Rejection")
_DISPOSITION_WIDTH = len(Disposition.REJECTED_AT_CONNECT)
# A narrower terminal has no column for the disposition.
_WIDE = 140
_CODE_WIDTH = len("550 5.7.1")
_PEER_WIDTH = len("255.255.255.255")

_NULL_SENDER = "<>"

_DATE_LENGTH = len("2026-11-22")
_SECONDS_LENGTH = len("2026-11-22T09:30:00")

_TEMPORARY = range(400, 500)
_NO_CLASS = {"", "Uncategorized"}


class LinePart(NamedTuple):
    """A part of the line, without control characters, and its style on a terminal."""

    text: str
    style: str = ""


def line_of(record: Logged, *, today: str | None = None, width: int | None = None, local: bool = False) -> list[LinePart]:
    """Return the parts of the line, to be joined with spaces. The last one is the reason, or empty.

    `today` (`YYYY-MM-DD`) shortens the time, which is in UTC, or `local`. `width` is that of a terminal, in characters: there
    only the first recipient is shown, and a narrow one has no disposition.
    """
    parts = [LinePart(_time(record, today, local=local), "dim"), _type(record)]
    # KumoMTA's records have no disposition.
    if (disposition := record.disposition) is not None and (width is None or width >= _WIDE):
        parts.append(LinePart(disposition.value.ljust(_DISPOSITION_WIDTH), _STYLES.get(disposition, "")))
    peer = "-" if record.peer_address is None else printable(record.peer_address.addr)
    parts += [LinePart(_code(record).ljust(_CODE_WIDTH)), LinePart(peer.ljust(_PEER_WIDTH))]
    return [*parts, LinePart(_envelope(record, first_only=width is not None)), LinePart(_why(record), "dim")]


def block_of(record: Logged, *, local: bool = False) -> list[list[LinePart]]:
    """Return the parts of several lines: time, type, disposition and reply, then a line for each other fact."""
    head = [LinePart(_time(record, None, local=local), "dim"), _type(record), LinePart(_code(record))]
    if (disposition := record.disposition) is not None:
        head.insert(2, LinePart(disposition.value, _STYLES.get(disposition, "")))
    return [head, *([LinePart(f"  {label}:", "dim"), LinePart(printable(text))] for label, text in _facts(record) if text)]


def _facts(record: Logged) -> Iterator[tuple[str, str]]:
    """Yield the facts of a record with their labels; a fact that is not known is empty."""
    meta, peer = record.meta, record.peer_address
    yield "reason", " ".join(_text(meta.get("why")).split())
    yield "proof", " ".join(f"{_verified(meta)} {_text(meta.get('proof'))}".split())
    yield "reply", " ".join(record.response.content.split())
    yield "command", record.response.command or ""
    yield "rejections", f"{record.count:,}" if record.count > 1 else ""
    yield "peer", "" if peer is None else " ".join(filter(None, (peer.addr, f"({peer.name})" if peer.name else "")))
    yield "listener", _text(meta.get("listener"))
    yield "login", _text(meta.get("authz_id"))
    yield "sender", record.sender or (_NULL_SENDER if record.recipients else "")
    for recipient in record.recipients:
        yield "recipient", recipient
    dropped = meta.get("dropped")  # in records of before each recipient had its own
    for recipient in dropped if isinstance(dropped, list) else ():
        yield "dropped", _text(recipient)
    yield "feedback type", _text((record.feedback_report or {}).get("feedback_type"))
    yield "queue id", _text(meta.get("queue_id"))
    yield "quarantine", _text(meta.get("quarantine"))
    yield "read as", _text(meta.get("read_as"))
    derived = meta.get("derived")
    yield "derived", ", ".join(map(_text, derived)) if isinstance(derived, list) else ""
    original = meta.get("original")
    for name, value in original.items() if isinstance(original, dict) else ():
        yield (
            f"original {printable(name.replace('_', ' '))}",
            ", ".join(map(_text, value)) if isinstance(value, list) else _text(value),
        )
    yield "message id", _text(meta.get("message_id"))
    yield "id", record.id
    yield "session", record.session_id or ""


def _verified(meta: Mapping[str, Any]) -> str:
    """Return what a record proves, with the methods: `recipient (dkim, header)`; empty if it does not say."""
    level, methods = _text(meta.get("verified")), meta.get("verified_by")
    named = ", ".join(map(str, methods)) if isinstance(methods, list) else ""
    return f"{level} ({named})" if level and named else level


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _type(record: Logged) -> LinePart:
    rejected_for_now = record.type == "Rejection" and record.response.code in _TEMPORARY
    style = "yellow" if rejected_for_now else _STYLES.get(record.type, "")
    return LinePart(printable(record.type).ljust(_TYPE_WIDTH), style)


def _time(record: Logged, today: str | None, *, local: bool) -> str:
    time = _local(record.event_time) if local else record.event_time
    time = printable(time) or str(record.timestamp)
    if today is None:
        return time
    short = time[:_SECONDS_LENGTH].replace("T", " ")
    return short[_DATE_LENGTH + 1 :] if short.startswith(today) else short[len("2026-") :]


def _local(time: str) -> str:
    """Return an RFC 3339 time in the time zone of this machine; any other text unchanged."""
    try:
        read = datetime.fromisoformat(time)
        return time if read.tzinfo is None else read.astimezone().isoformat()
    except (ValueError, OverflowError):
        return time


def _code(record: Logged) -> str:
    code, enhanced = record.response.code, record.response.enhanced_code
    parts = [str(code) if code else "-"]
    if enhanced is not None:
        parts.append(str(enhanced))
    if record.bounce_classification not in _NO_CLASS:
        parts.append(printable(record.bounce_classification))
    return " ".join(parts)


def _envelope(record: Logged, *, first_only: bool) -> str:
    if record.count > 1:
        return f"({record.count} of them)"
    sender = printable(record.sender) or _NULL_SENDER
    if not record.recipients:
        # Rejected at connect, or at MAIL.
        return printable(record.response.command or f"{sender} ->")
    first, *others = map(printable, record.recipients)
    if first_only and others:
        return f"{sender} -> {first} +{len(others)}"
    return f"{sender} -> {', '.join([first, *others])}"


def _why(record: Logged) -> str:
    """Return `meta.why`, or else the reply. For a bounce it is the reply of the remote MTA."""
    why, reply = _text(record.meta.get("why")), record.response.content
    kind = (record.feedback_report or {}).get("feedback_type") if record.type == "Feedback" else None
    if isinstance(kind, str):
        why = ": ".join(filter(None, (kind, why)))
    shown = (reply or why) if record.type == "OOB" else (why or reply)
    level = _text(record.meta.get("verified"))
    return printable(" ".join(f"{shown} {level and f'(verified: {level})'}".split()))
