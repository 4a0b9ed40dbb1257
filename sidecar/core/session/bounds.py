"""The bounds on what an external host may use, and the answer above each: verdict and reason.

Owns which bound means which reply. Never counts anything: the message and the quota do.
"""

from enum import Enum, auto
from typing import assert_never

from sidecar.core.session import replies
from sidecar.core.session.verdicts import Reject, Tempfail
from sidecar.core.settings.values import Settings

# Mail that went through many filters has a hundred. Each field has a cost beyond that of its bytes; later ones are counted.
HEADER_FIELD_LIMIT = 1000


class Bound(Enum):
    """A bound that was reached. `core/reports` has its own bounds for the parts and fields of a report."""

    SESSIONS = auto()
    RATE = auto()
    MEMORY = auto()
    HEADER_SIZE = auto()
    HEADER_FIELDS = auto()
    REPORT_SIZE = auto()
    QUARANTINE = auto()
    RECORDS = auto()


def verdict_above(bound: Bound, settings: Settings) -> tuple[Reject | Tempfail, str]:
    """Return the verdict above a bound and its reason, which names the setting.

    A message that is too large is rejected: it will not become smaller. Too much at once is tempfailed: the sender retries.
    """
    limits = settings.limits
    verdict: Reject | Tempfail
    match bound:
        case Bound.SESSIONS:
            why = f"this worker has {limits.sessions} sessions, as many as limits.sessions allows"
            verdict = Tempfail(reply=replies.TOO_MANY_SESSIONS)
        case Bound.RATE:
            why = f"the peer brings more reports than limits.reports_per_second allows, {limits.reports_per_second}"
            verdict = Tempfail(reply=replies.TOO_MANY_REPORTS)
        case Bound.MEMORY:
            why = (
                f"the messages in hand of this worker have as many bytes as limits.report_memory allows, {limits.report_memory}"
            )
            verdict = Tempfail(reply=replies.NO_MEMORY)
        case Bound.HEADER_SIZE:
            limit = limits.header_size
            why = f"the message claims to be a report, and its header section has more bytes than limits.header_size, {limit}"
            verdict = Reject(reply=replies.header_too_big(limit))
        case Bound.HEADER_FIELDS:
            why = f"the message claims to be a report, and its header section has more than {HEADER_FIELD_LIMIT} fields"
            verdict = Reject(reply=replies.too_many_fields(HEADER_FIELD_LIMIT))
        case Bound.REPORT_SIZE:
            limit = settings.report_size_limit
            why = f"the message claims to be a report and has more bytes than report_size_limit, {limit}"
            verdict = Reject(reply=replies.report_too_big(limit))
        case Bound.QUARANTINE:
            limit = limits.quarantine_size
            why = (
                f"a report that cannot be read, and the quarantine has as many bytes as limits.quarantine_size allows, {limit}"
            )
            verdict = Tempfail(reply=replies.QUARANTINE_FULL)
        case Bound.RECORDS:
            why = (
                f"the records of this peer's network have more bytes than limits.record_bytes_per_byte, "
                f"{limits.record_bytes_per_byte}, allows for each byte received, and limits.record_bytes_burst, "
                f"{limits.record_bytes_burst}, beyond that"
            )
            verdict = Tempfail(reply=replies.TOO_MANY_RECORDS)
        case _:
            assert_never(bound)
    return verdict, why
