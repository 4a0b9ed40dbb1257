"""What proves that a report is about mail of ours: all methods, one after the other, the strongest first."""

from sidecar.core.proof.address import check_address
from sidecar.core.proof.dkim.check import FIELD, check_dkim
from sidecar.core.proof.head import Returned, fields, head_of
from sidecar.core.proof.reporter import read_reporter
from sidecar.core.proof.trace import NAMES, check_trace
from sidecar.core.proof.values import SIGNATURE_LIMIT, Case, Keys, Verification
from sidecar.core.reports.values import ReportReading

# Without one of these in a header section, no field of it is read.
_MARKS = (FIELD, *NAMES)
# A bounce can name a thousand; each takes some microseconds, and only where a message of ours was found.
_RECIPIENTS_LIMIT = 1000


def verify(  # noqa: PLR0913 - each is a fact about the report, or bounds its cost
    reading: ReportReading,
    *,
    recipient: str,
    report: bytes,
    keys: Keys,
    now: float,
    signature_limit: int = SIGNATURE_LIMIT,
) -> Verification:
    """Return what proves that a report is about mail of ours. Never raise an exception for any report.

    `recipient` is the envelope recipient of the report, without angle brackets; `report` the report itself, of which only the
    header section is read; `now` seconds since 1970. A lower `signature_limit` checks fewer DKIM signatures.
    """
    case = Case(
        keys=keys,
        now=now,
        recipient=None if reading.oob is None else recipient,
        reported=reported_recipients(reading),
        signature_limit=signature_limit,
    )
    original = _original(reading)
    head = head_of(original)
    lowered = head.lower()
    returned = Returned(original, fields(head) if any(mark in lowered for mark in _MARKS) else [])
    return Verification(
        methods=(
            check_dkim(returned, case),
            check_trace(returned.fields, case),
            check_address(recipient, keys, now, case.reported),
        ),
        reporter=read_reporter(report, keys.authserv_ids),
    )


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
