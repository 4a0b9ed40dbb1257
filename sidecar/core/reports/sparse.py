"""What a feedback report does not say of the message -> from the header section of the returned message.

Owns which header field stands for which value, the surest one first. Never replaces a value that was reported.
"""

import re
from collections.abc import Callable, Iterator

from msgspec.structs import replace

from sidecar.core.reports.addresses import is_mailbox, readable_address
from sidecar.core.reports.dates import read_date
from sidecar.core.reports.fields import Block
from sidecar.core.reports.original import header_fields
from sidecar.core.reports.values import ArfReport

# Of a field's value: several addresses of 320 characters, or a trace field with its date at the end.
_VALUE_LIMIT = 2048

_MESSAGE_ID = "meta.original.message_id"

# What mailbox providers add on delivery. Each has one address.
_DELIVERED_TO = ("x-hmxmroriginalrecipient", "x-original-to", "x-apparently-to", "delivered-to", "envelope-to")
_FOR = re.compile(r"\bfor <?([^\s<>;]{3,320})>?(?=[\s;]|\Z)", re.IGNORECASE)
_MAIL_FROM = re.compile(r"\bsmtp\.mail(?:from)?=<?([^\s<>;]{3,320})", re.IGNORECASE)
_IN_BRACKETS = re.compile(r"<([^<>\s]{3,320})>")
# What providers write instead of an address: `redacted@example.com`, `x@redacted.invalid`.
_REDACTED = re.compile(r"redacted|\.invalid\Z", re.IGNORECASE)


def completed(report: ArfReport) -> tuple[ArfReport, tuple[str, ...]]:
    """Return a report with sender, date and recipient of the returned message where it has none, and the names of these.

    A name is the value's path in the record, as in `meta.derived`. A field that was reported and cannot be read was reported:
    it stays empty.
    """
    lacking = [name for name, (spelled, _) in _VALUES_FOUND.items() if _lacks(report, name, spelled)]
    if not lacking or report.original_message is None:
        return report, ()
    fields = [field for field in header_fields(report.original_message) if field[0] in _USED]
    found = {name: value for name in lacking if (value := _VALUES_FOUND[name][1](fields))}
    if not found:
        return report, ()
    # Without all of these, the report says nothing but its type.
    is_sparse = len(lacking) == len(_VALUES_FOUND) and any(name == "message-id" for name, _ in fields)
    derived = (f"feedback_report.{name}" for name in found)
    return replace(report, **found), (*derived, *[_MESSAGE_ID] * is_sparse)


def _lacks(report: ArfReport, name: str, spelled: tuple[str, ...]) -> bool:
    value = getattr(report, name)
    return (value is None or value == []) and report.extensions.keys().isdisjoint(spelled)


def _sender(fields: Block) -> str | None:
    candidates = (*_values(fields, "return-path"), *_matches(fields, "authentication-results", _MAIL_FROM))
    return _first((*candidates, *map(_bare, (*_values(fields, "sender"), *_values(fields, "from")))))


def _arrival_date(fields: Block) -> str | None:
    # The newest trace field is the first: the provider received the message then.
    received = (value.rpartition(";")[2] for value in _values(fields, "received"))
    return next(filter(None, map(read_date, (*received, *_values(fields, "date")))), None)


def _recipients(fields: Block) -> list[str]:
    delivered = [value for name in _DELIVERED_TO for value in _values(fields, name)]
    # Of several recipients in To none is the one that complains.
    to = [value for value in _values(fields, "to") if value.count("@") == 1]
    found = _first((*delivered, *_matches(fields, "received", _FOR), *map(_bare, to)))
    return [] if found is None else [found]


_VALUES_FOUND: dict[str, tuple[tuple[str, ...], Callable[[Block], str | list[str] | None]]] = {
    "arrival_date": (("arrival-date", "received-date"), _arrival_date),
    "original_mail_from": (("original-mail-from",), _sender),
    "original_rcpto_to": (("original-rcpt-to",), _recipients),
}
"""The values, in the order of the record: the names of their fields in the report, and how they are found."""


_USED = {
    "authentication-results", "date", "from", "message-id", "received", "return-path", "sender", "to", *_DELIVERED_TO,
}  # fmt: skip
"""The fields of a returned message that are read."""


def _values(fields: Block, wanted: str) -> Iterator[str]:
    return (value[:_VALUE_LIMIT] for name, value in fields if name == wanted)


def _matches(fields: Block, name: str, pattern: re.Pattern[str]) -> Iterator[str]:
    return (found[1] for value in _values(fields, name) if (found := pattern.search(value)) is not None)


def _bare(value: str) -> str:
    """Return the address of `Jo <jo@example.com>`, or the value."""
    found = _IN_BRACKETS.search(value)
    return value if found is None else found[1]


def _first(candidates: tuple[str, ...]) -> str | None:
    """Return the first candidate that is an address and was not redacted, in normal form."""
    addresses = map(readable_address, candidates)
    return next((address for address in addresses if is_mailbox(address) and not _REDACTED.search(address)), None)
