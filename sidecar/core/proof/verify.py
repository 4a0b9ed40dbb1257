"""What proves that a report is about mail of ours: all methods, one after the other, the strongest first."""

from collections.abc import Callable, Iterable

from sidecar.core.proof.address import check_address
from sidecar.core.proof.dkim.check import FIELD, check_dkim
from sidecar.core.proof.head import Returned, fields
from sidecar.core.proof.reporter import read_reporter
from sidecar.core.proof.trace import NAMES, Traces
from sidecar.core.proof.values import Case, Verification, by_name
from sidecar.core.reports.original import head_of
from sidecar.core.reports.values import ReportReading
from sidecar.core.settings.keys import Keys

# Without one of these in a header section, no field of it is read.
_MARKS = (FIELD, *NAMES)
# A bounce can name a thousand; each takes some microseconds, and only where a message of ours was found.
_RECIPIENTS_LIMIT = 1000


def verify(  # noqa: PLR0913 - each is a fact about the report, or bounds its cost
    reading: ReportReading,
    *,
    recipients: Iterable[str],
    report: bytes,
    keys: Keys,
    now: float,
    admits: Callable[[], bool] = lambda: True,
) -> dict[str, Verification]:
    """Return for each envelope recipient of a report what proves that it is about mail of ours. Never raise for any report.

    `recipients` have no angle brackets. Of `report`, only the header section is read; `now` is in seconds since 1970.
    Signatures are checked once for all recipients; `admits` is called before each check, and False defers it.
    """
    original = _original(reading)
    head = head_of(original)
    lowered = head.lower()
    returned = Returned(original, fields(head) if any(mark in lowered for mark in _MARKS) else {})
    reported = reported_recipients(reading)
    case = Case(keys=keys, now=now, reported=reported, admits=admits)
    dkim, traces, reporter = check_dkim(returned, case), Traces(returned.fields, case), read_reporter(report, keys.authserv_ids)
    found: dict[str, Verification] = {}
    # A report can have a thousand recipients: those that prove the same share it.
    shared: dict[tuple[int, str], Verification] = {}
    names = by_name(reported)
    for recipient in recipients:
        header, address = traces.check(None if reading.oob is None else recipient), check_address(recipient, keys, now, names)
        key = id(header), address.identity or address.why
        if key not in shared:
            shared[key] = Verification(methods=(dkim, header, address), reporter=reporter)
        found[recipient] = shared[key]
    return found


def reported_recipients(reading: ReportReading) -> tuple[str, ...]:
    """Return the recipients that a report names, as its records have them, each once."""
    found: dict[str, None] = {}
    if reading.oob is not None:
        for entry in reading.oob.per_recipient:
            named = entry.original_recipient or entry.final_recipient
            if named is not None:
                found[named.recipient] = None
    if reading.arf is not None:
        found.update(dict.fromkeys(reading.arf.original_rcpto_to))
    found.pop("", None)
    return tuple(found)[:_RECIPIENTS_LIMIT]


def _original(reading: ReportReading) -> str | bytes:
    for report in (reading.oob, reading.arf):
        if report is not None and report.original_message is not None:
            return report.original_message
    return b""
