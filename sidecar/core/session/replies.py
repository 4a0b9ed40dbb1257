"""Every SMTP reply the sidecar gives, word for word. Peers' postmasters read these texts; scripts match them."""

from sidecar.core.names import IPAddress, endpoint
from sidecar.core.session.verdicts import Reply

TROUBLE = Reply(code=451, enhanced="4.3.0", text="the policy service has trouble; try again later")
UNKNOWN_LISTENER = Reply(code=451, enhanced="4.3.5", text="the policy service was not told which listener this is")
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


def relaying_not_permitted(peer: IPAddress, port: int | None) -> Reply:
    """Refuse a recipient, or a peer: KumoMTA's words, with the peer's own address in them."""
    return Reply(code=550, enhanced="5.7.1", text=f"relaying not permitted for {endpoint(peer, port)}")


def header_too_big(limit: int) -> Reply:
    """Refuse a report whose header section has more than `limit` bytes."""
    return Reply(code=552, enhanced="5.3.4", text=f"the header section of a report may have {limit} bytes at most")


def too_many_fields(limit: int) -> Reply:
    """Reject a report whose header section has more than `limit` fields."""
    return Reply(code=552, enhanced="5.3.4", text=f"the header section of a report may have {limit} fields at most")


def report_too_big(limit: int) -> Reply:
    """Refuse a report of more than `limit` bytes (RFC 1870 section 6.3)."""
    return Reply(code=552, enhanced="5.3.4", text=f"a report may have {limit} bytes at most")
