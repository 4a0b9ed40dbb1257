"""Every SMTP reply of the sidecar, word for word, and the verdict above each bound.

Postmasters read these texts, and scripts match them. Never counts anything: the message and the quota do.
"""

from enum import Enum

from msgspec.structs import replace

from sidecar.core.names import IPAddress, endpoint
from sidecar.core.session.verdicts import Reject, Reply, Suppressed, Tempfail
from sidecar.core.settings.settings import Settings
from sidecar.core.text import printable, rfc3339

TROUBLE = Reply(code=451, enhanced="4.3.0", text="the policy service has trouble; try again later")
UNKNOWN_LISTENER = Reply(code=451, enhanced="4.3.5", text="the policy service does not know which listener this is")
INCAPABLE_MTA = Reply(code=451, enhanced="4.3.5", text="the mail server here lacks what this message needs; try again later")
NOT_A_REPORT = Reply(code=550, enhanced="5.7.1", text="relaying not permitted")
TOO_MANY_RECIPIENTS = Reply(code=452, enhanced="4.5.3", text="too many recipients in one message")
TOO_MANY_SESSIONS = Reply(code=451, enhanced="4.3.2", text="too many connections at the moment; try again later")
TOO_MANY_REPORTS = Reply(code=451, enhanced="4.7.1", text="too many reports from you at once; try again later")
TOO_MANY_RECORDS = Reply(code=451, enhanced="4.7.0", text="your mail makes too many log records here; try again later")
TOO_MANY_IN_REPORT = Reply(
    code=552, enhanced="5.3.4", text="this report makes too many log records here; send it to fewer recipients"
)
NO_MEMORY = Reply(code=451, enhanced="4.3.1", text="too many reports at the moment; try again later")
QUARANTINE_FULL = Reply(code=451, enhanced="4.3.1", text="no room at the moment to keep this report; try again later")
ADDRESS_REQUIRED = Reply(code=550, enhanced="5.7.1", text="this address accepts only bounces of mail sent from here")
LIST_UNREADABLE = Reply(code=451, enhanced="4.3.0", text="the suppression list cannot be read; try again later")
UNVERIFIED = Reply(code=550, enhanced="5.7.1", text="this report does not prove that it is about mail sent from here")
UNREADABLE_ADDRESS = Reply(code=553, enhanced="5.1.3", text="this recipient address cannot be read")

# Mail that went through many filters has a hundred. Each field has a cost beyond that of its bytes; later ones are counted.
HEADER_FIELD_LIMIT = 1000

# With both a reply fits in one line (RFC 5321 section 4.5.3.1.5). No longer address is on the list.
_ADDRESS_LIMIT, _REASON_LIMIT = 320, 100

_PERMANENT = 500  # RFC 5321 section 4.2.1: 5yz replies


def relaying_not_permitted(peer: IPAddress, port: int | None) -> Reply:
    """Return the reply to a rejected recipient or peer: KumoMTA's words, with the peer's own address."""
    return Reply(code=550, enhanced="5.7.1", text=f"relaying not permitted for {endpoint(peer, port)}")


def suppressed(address: str, entry: Suppressed) -> Reply:
    """Return the reply to a recipient on the suppression list. The texts are bounded, so that the day is not cut off."""
    what, why = printable(address)[:_ADDRESS_LIMIT], printable(entry.reason)[:_REASON_LIMIT]
    return Reply(code=550, enhanced="5.7.1", text=f"{what} is on the suppression list: {why} since {day(entry.since)}")


def day(seconds: int) -> str:
    """Return the day (UTC) of a time in seconds since 1970."""
    return rfc3339(seconds)[: len("2026-01-31")]


def too_large(what: str, limit: int | str, unit: str) -> Reply:
    """Return the reply to a report of which `what` has more than `limit` bytes or fields (RFC 1870 section 6.3)."""
    return Reply(code=552, enhanced="5.3.4", text=f"{what} may have {limit} {unit} at most")


class Bound(Enum):
    """A bound that was reached: the reply, and the reason with the setting. {0} stands for the limits, {1} for the settings.

    `core/reports` has its own bounds for the parts and fields of a report.
    """

    SESSIONS = TOO_MANY_SESSIONS, "this worker has {0.sessions} sessions, as many as limits.sessions allows"
    RATE = (
        TOO_MANY_REPORTS,
        "the peer sends more reports per second than limits.reports_per_second allows, {0.reports_per_second}",
    )
    SIGNATURES = (
        TOO_MANY_REPORTS,
        "the peer's reports have more signatures per second than limits.signatures_per_second, {0.signatures_per_second}",
    )
    MEMORY = (
        NO_MEMORY,
        "the messages of this worker have as many bytes as limits.report_memory allows, {0.report_memory}",
    )
    HEADER_SIZE = (
        too_large("the header section of a report", "{0.header_size}", "bytes"),
        "the message claims to be a report, and its header section has more bytes than limits.header_size, {0.header_size}",
    )
    HEADER_FIELDS = (
        too_large("the header section of a report", HEADER_FIELD_LIMIT, "fields"),
        f"the message claims to be a report, and its header section has more than {HEADER_FIELD_LIMIT} fields",
    )
    REPORT_SIZE = (
        too_large("a report", "{1.report_size_limit}", "bytes"),
        "the message claims to be a report and has more bytes than report_size_limit, {1.report_size_limit}",
    )
    REPORT_RECORDS = (
        TOO_MANY_IN_REPORT,
        "each recipient of this report has a record of each failure, or of the complaint, and these are too many or too large",
    )
    QUARANTINE = (
        QUARANTINE_FULL,
        "the report is for the quarantine, which has as many bytes as limits.quarantine_size allows, {0.quarantine_size}",
    )
    RECORDS = (
        TOO_MANY_RECORDS,
        (
            "the records of this peer's network have more bytes than limits.record_bytes_per_byte, "
            "{0.record_bytes_per_byte}, allows for each byte received, and limits.record_bytes_burst, {0.record_bytes_burst}, "
            "beyond that"
        ),
    )


def verdict_above(bound: Bound, settings: Settings) -> tuple[Reject | Tempfail, str]:
    """Return the verdict above a bound and its reason, which names the setting.

    A message that is too large is rejected: it will not become smaller. Too much at once is tempfailed: the sender retries.
    """
    template, why = bound.value
    reply = replace(template, text=template.text.format(settings.limits, settings))
    verdict = Reject(reply=reply) if reply.code >= _PERMANENT else Tempfail(reply=reply)
    return verdict, why.format(settings.limits, settings)
