"""Every SMTP reply of the sidecar, word for word, and the verdict above each bound.

Postmasters read these texts, and scripts match them. Never counts anything: the message and the quota do.
"""

from enum import Enum, auto
from typing import assert_never

from sidecar.core.names import IPAddress, endpoint
from sidecar.core.session.verdicts import Reject, Reply, Tempfail
from sidecar.core.settings.values import Settings

TROUBLE = Reply(code=451, enhanced="4.3.0", text="the policy service has trouble; try again later")
UNKNOWN_LISTENER = Reply(code=451, enhanced="4.3.5", text="the policy service does not know which listener this is")
NOT_A_REPORT = Reply(code=550, enhanced="5.7.1", text="relaying not permitted")
TOO_MANY_RECIPIENTS = Reply(code=452, enhanced="4.5.3", text="too many recipients in one message")
TOO_MANY_SESSIONS = Reply(code=451, enhanced="4.3.2", text="too many connections at the moment; try again later")
TOO_MANY_REPORTS = Reply(code=451, enhanced="4.7.1", text="too many reports from you at once; try again later")
TOO_MANY_RECORDS = Reply(code=451, enhanced="4.7.0", text="your mail makes too many log records here; try again later")
NO_MEMORY = Reply(code=451, enhanced="4.3.1", text="too many reports at the moment; try again later")
QUARANTINE_FULL = Reply(
    code=451, enhanced="4.3.1", text="no room at the moment for a report that cannot be read; try again later"
)
UNREADABLE_ADDRESS = Reply(code=553, enhanced="5.1.3", text="this recipient address cannot be read")

# Mail that went through many filters has a hundred. Each field has a cost beyond that of its bytes; later ones are counted.
HEADER_FIELD_LIMIT = 1000


def relaying_not_permitted(peer: IPAddress, port: int | None) -> Reply:
    """Return the reply to a rejected recipient or peer: KumoMTA's words, with the peer's own address."""
    return Reply(code=550, enhanced="5.7.1", text=f"relaying not permitted for {endpoint(peer, port)}")


def too_large(what: str, limit: int, unit: str) -> Reply:
    """Return the reply to a report of which `what` has more than `limit` bytes or fields (RFC 1870 section 6.3)."""
    return Reply(code=552, enhanced="5.3.4", text=f"{what} may have {limit} {unit} at most")


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


def verdict_above(bound: Bound, settings: Settings) -> tuple[Reject | Tempfail, str]:  # noqa: PLR0911 - one for each bound
    """Return the verdict above a bound and its reason, which names the setting.

    A message that is too large is rejected: it will not become smaller. Too much at once is tempfailed: the sender retries.
    """
    limits = settings.limits
    match bound:
        case Bound.SESSIONS:
            why = f"this worker has {limits.sessions} sessions, as many as limits.sessions allows"
            return Tempfail(reply=TOO_MANY_SESSIONS), why
        case Bound.RATE:
            why = f"the peer sends more reports per second than limits.reports_per_second allows, {limits.reports_per_second}"
            return Tempfail(reply=TOO_MANY_REPORTS), why
        case Bound.MEMORY:
            why = f"the messages of this worker have as many bytes as limits.report_memory allows, {limits.report_memory}"
            return Tempfail(reply=NO_MEMORY), why
        case Bound.HEADER_SIZE:
            limit = limits.header_size
            why = f"the message claims to be a report, and its header section has more bytes than limits.header_size, {limit}"
            return Reject(reply=too_large("the header section of a report", limit, "bytes")), why
        case Bound.HEADER_FIELDS:
            why = f"the message claims to be a report, and its header section has more than {HEADER_FIELD_LIMIT} fields"
            return Reject(reply=too_large("the header section of a report", HEADER_FIELD_LIMIT, "fields")), why
        case Bound.REPORT_SIZE:
            limit = settings.report_size_limit
            why = f"the message claims to be a report and has more bytes than report_size_limit, {limit}"
            return Reject(reply=too_large("a report", limit, "bytes")), why
        case Bound.QUARANTINE:
            limit = limits.quarantine_size
            why = f"unparsable report, and the quarantine has as many bytes as limits.quarantine_size allows, {limit}"
            return Tempfail(reply=QUARANTINE_FULL), why
        case Bound.RECORDS:
            why = (
                f"the records of this peer's network have more bytes than limits.record_bytes_per_byte, "
                f"{limits.record_bytes_per_byte}, allows for each byte received, and limits.record_bytes_burst, "
                f"{limits.record_bytes_burst}, beyond that"
            )
            return Tempfail(reply=TOO_MANY_RECORDS), why
        case _:
            assert_never(bound)
