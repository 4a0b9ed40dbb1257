"""KumoMTA's additional demands on a report: a message that misses one is no report for KumoMTA.

Never reads values for the report: other modules do. From KumoMTA's readers for RFC 3464 and RFC 5965 (August 2026).
"""

import re
from collections.abc import Callable, Mapping
from datetime import date
from email.utils import parsedate
from io import StringIO
from itertools import chain, repeat
from typing import get_args

from sidecar.core.reports import mime
from sidecar.core.reports.dates import DATE_LIMIT, read_date
from sidecar.core.reports.fields import FIELDS_SIZE_LIMIT, field_limit
from sidecar.core.reports.oob import RECIPIENT_LIMIT
from sidecar.core.reports.values import Action

Rules = Mapping[str, tuple[bool, Callable[[str], object] | None]]
"""By field: whether it is required, and a test of its value, if not all are right. No field can appear twice."""

Fields = dict[str, list[list[str]]]
"""Lower-case names, each with its values in order, each value as the lines it is folded into."""

_NAME = re.compile(r"(?:[!-9;-~][!-9;-~ \t\r]*+)?")
_STATUS = re.compile(r"(\d{1,3})\.(\d{1,5})\.(\d{1,5})(?:[. ]|\Z)", re.ASCII)
_STATUS_LIMITS = (0xFF, 0xFFFF, 0xFFFF)
_TYPED = re.compile(";")
_COUNT = re.compile(r"\d{1,10}", re.ASCII)
_ATOM = r"""[^\s<>()\[\]\\,;:@"]+"""
_ADDRESS = re.compile(
    rf"""<>|<?postmaster>?|(<)?(?:@[^\s<>:]+:)?(?:"(?>(?:[^"\\]|\\.)*)"|{_ATOM})@(?:\[[^\s\[\]]+\]|{_ATOM})(?(1)>)""",
    re.IGNORECASE,
)
# RFC 5322 section 3.3, with the obsolete years and zones; the names of months and days in any case.
_DATE = re.compile(
    r"(?:([a-z]{3})\s*,\s*)?\d{1,2}\s+[a-z]{3}\s+\d{2,4}\s+\d{1,2}:\d{2}(?::\d{2})?\s*(?:[+-]\d{4}|[a-z]+)(?:\s*\([^()]*\))?",
    re.IGNORECASE | re.ASCII,
)
_DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")


def _recipient(value: str) -> bool:
    kind, semicolon, address = value.partition(";")
    return bool(semicolon) and (kind != "rfc822" or _ADDRESS.fullmatch(address.strip()) is not None)


def _status(value: str) -> bool:
    found = _STATUS.match(value)
    return found is not None and all(int(number) <= limit for number, limit in zip(found.groups(), _STATUS_LIMITS, strict=True))


def _count(value: str) -> bool:
    return _COUNT.fullmatch(value) is not None and int(value) < 1 << 32


def _date(value: str) -> bool:
    """Return True for a date with the right day of the week."""
    found = _DATE.fullmatch(value[:DATE_LIMIT])
    written = parsedate(value[:DATE_LIMIT])
    if found is None or written is None or read_date(value) is None:
        return False
    return found[1] is None or _DAYS[date(*written[:3]).weekday()] == found[1].lower()


_MESSAGE: Rules = {
    "reporting-mta": (True, _TYPED.search),
    "original-envelope-id": (False, None),
    "dsn-gateway": (False, _TYPED.search),
    "received-from-mta": (False, _TYPED.search),
    "arrival-date": (False, _date),
}
_RECIPIENT: Rules = {
    "original-recipient": (False, _recipient),
    "final-recipient": (True, _recipient),
    "remote-mta": (False, _TYPED.search),
    "last-attempt-date": (False, _date),
    "will-retry-until": (False, _date),
    "final-log-id": (False, None),
    "action": (True, get_args(Action).__contains__),
    "status": (True, _status),
    "diagnostic-code": (False, _TYPED.search),
}
_FEEDBACK: Rules = {
    "feedback-type": (True, None),
    "user-agent": (True, None),
    "version": (True, None),
    "incidents": (False, _count),
    "original-envelope-id": (False, None),
    "original-mail-from": (False, _ADDRESS.fullmatch),
    "reporting-mta": (False, _TYPED.search),
    "source-ip": (False, None),
}


def status_fault(head: bytes, part: mime.Part) -> str | None:
    """Return a fault of a bounce report, from the header section of the message and its delivery-status part."""
    body = mime.transfer_decoded(part)
    fault = _type_fault(head, mime.REPORT) or _type_fault(part.head, part.media_type)
    if body is None or fault is not None:
        return fault or "its delivery-status part does not have the encoding that its header names"
    text = body[:FIELDS_SIZE_LIMIT].decode("utf-8", "replace").replace("\r\n", "\n").strip()
    blocks = text.split("\n\n", RECIPIENT_LIMIT + 1)[: RECIPIENT_LIMIT + 1]
    rules = chain((_MESSAGE,), repeat(_RECIPIENT))
    return next(filter(None, (_fault(_fields(block), rule) for block, rule in zip(blocks, rules, strict=False))), None)


def feedback_fault(head: bytes, part: mime.Part) -> str | None:
    """Return a fault of a feedback report, from the header section of the message and its feedback-report part."""
    # KumoMTA reads this part as it was sent, whatever its transfer encoding.
    text = (
        part.message[part.start : min(part.end, part.start + FIELDS_SIZE_LIMIT)]
        .decode("utf-8", "replace")
        .removeprefix("\r")
        .removeprefix("\n")
    )
    fields = _fields(text)
    fault = _type_fault(head, mime.REPORT) or _type_fault(part.head, part.media_type) or _fault(fields, _FEEDBACK)
    if fault is None and mime.content_type(mime.header(head, b"content-type")).report_type != b"feedback-report":
        fault = "its report-type is not spelled feedback-report"
    if fault is None and not all(
        _ADDRESS.fullmatch(_unfolded(pieces)) for pieces in (fields or {}).get("original-rcpt-to", [])
    ):
        fault = "its original-rcpt-to is invalid"
    return fault


def _type_fault(head: bytes, wanted: bytes) -> str | None:
    """Return the fault of a Content-Type that means `wanted`: KumoMTA compares its spelling."""
    value = mime.header(head, b"content-type") or b""
    if value.partition(b";")[0].strip() == wanted:
        return None
    return f"its Content-Type is not spelled {wanted.decode()}"


def _fault(fields: Fields | None, rules: Rules) -> str | None:
    if fields is None:
        return "its fields have lines that are not fields"
    for name, (required, fits) in rules.items():
        values = fields.get(name, [])
        if len(values) > 1:
            return f"its {name} appears more than once"
        if required and not values:
            return f"its {name} is missing"
        if values and fits is not None and not fits(_unfolded(values[0])):
            return f"its {name} is invalid"
    return None


def _fields(text: str) -> Fields | None:
    """Return the fields up to the first empty line; None if a line is no field, or there are too many."""
    fields: Fields = {}
    known: dict[str, list[list[str]]] = {}
    pieces: list[str] | None = None
    limit = field_limit(len(text))
    # Only a line feed ends a line, and the lines are read one by one.
    for count, ended in enumerate(StringIO(text, newline="\n")):
        line = ended.removesuffix("\n").removesuffix("\r")
        if not line:
            break
        if count >= limit:
            return None
        if line[0] in " \t" and pieces is not None:
            pieces.append(line)
            continue
        name, _, value = line.partition(":")
        values = known.get(name)
        if values is None:
            if not _NAME.fullmatch(name):
                return None
            values = known[name] = fields.setdefault(name.partition(" ")[0].rstrip().lower(), [])
        pieces = [value]
        values.append(pieces)
    return fields


def _unfolded(pieces: list[str]) -> str:
    return " ".join("".join(pieces).split())
