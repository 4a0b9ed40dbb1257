"""How each type of record is filled (records reference, Records). Never decides whether a record is written."""

import math
import re
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime

from msgspec import Struct
from msgspec.structs import replace

from sidecar.core.disposition import Disposition
from sidecar.core.records.record import UNCATEGORIZED, EnhancedCode, Headers, PeerAddress, Record, RecordType, Response
from sidecar.core.reports.values import ArfReport, DiagnosticCode, OobReport, PerRecipient
from sidecar.core.text import rfc3339

_ACCEPTED = Response(code=250)
# KumoMTA's code for a bounce without an SMTP reply.
_NO_REPLY = 550
# KumoMTA accepts any number up to 65535 as a code, but only these are reply codes (RFC 5321 section 4.2).
_REPLY_CODE = re.compile("[2-5][0-9]{2}")

# In characters. Each record of a report repeats most of these texts, and a report may have a thousand records.
NAME_LIMIT = 255
"""No host name, domain or queue id is longer (RFC 1035 section 2.3.4)."""
MAILBOX_LIMIT = 320
"""A local part of 64 octets, the @ and a domain of 255 (RFC 5321 section 4.5.3.1): addresses that differ stay different."""
REPLY_LIMIT = 1024
"""Two SMTP reply lines (RFC 5321 section 4.5.3.1.5); the longest diagnostic of the sample reports has 150 characters."""
WHY_LIMIT = 1024
"""A reason names four rules at most, each with a domain and a place in a file."""


class Facts(Struct, frozen=True, kw_only=True):
    """The common facts of all records of a message. Times are seconds since 1970; `message_id` can be empty.

    `classify` returns the class of a response as one line, or None if no rule matches; it is None if there are no rules.
    `compat` names the program whose records ours imitate, or is None.
    """

    node_id: str
    session_id: str
    message_id: str
    now: float
    created: float
    peer: str
    helo: str
    sender: str
    listener: str | None
    authz_id: str | None
    queue_id: str | None
    headers: Headers
    disposition: Disposition
    compat: str | None = None
    classify: Callable[[str], str | None] | None = None


def reception(  # noqa: PLR0913 - each is a field of the record
    facts: Facts,
    *,
    recipients: Sequence[str],
    queue: str,
    size: int,
    why: str,
    dropped: Sequence[str] = (),
    report: ArfReport | None = None,
    quarantine: str | None = None,
) -> Record:
    """Return the record of an accepted message; with `report` it is a Feedback record.

    `queue` is the first recipient's domain, `size` the message's in bytes. `dropped` are the recipients that are removed from
    the envelope of a message that is relayed to others. `quarantine` is the message's file in the quarantine.
    """
    kind: RecordType = "Reception" if report is None else "Feedback"
    record = _record(facts, kind, recipients=recipients, queue=queue, response=_ACCEPTED, why=why, size=size, report=report)
    if dropped:
        return replace(record, meta={**record.meta, "dropped": _mailboxes(dropped)})
    return record if quarantine is None else replace(record, meta={**record.meta, "quarantine": quarantine})


def oob_bounces(facts: Facts, *, report: OobReport, recipient: str, queue: str, why: str) -> Iterator[Record]:
    """Yield a record of each failed recipient of the report. `recipient` is the report's own: the sender of the original."""
    reporter = report.per_message.reporting_mta
    for failed in report.per_recipient:
        if failed.action != "failed":
            continue
        known, last_attempt = failed.original_recipient or failed.final_recipient, failed.last_attempt_date
        # From the view of the reporter, which got the message from the address that the report was sent to.
        own = replace(
            facts,
            now=facts.now if last_attempt is None else datetime.fromisoformat(last_attempt).timestamp(),
            helo="" if reporter is None else reporter.name,
            sender=recipient,
        )
        to = () if known is None else (known.recipient,)
        yield _record(own, "OOB", recipients=to, queue=queue, response=bounce_response(failed), why=why)


def bounce_response(failed: PerRecipient) -> Response:
    """Return the response for one recipient of a report: from its Diagnostic-Code, or else 550, and its Status."""
    status = failed.status
    code, content = _smtp_reply(failed.diagnostic_code)
    content = content[:REPLY_LIMIT]
    if status is None:
        return Response(code=code, content=content)
    enhanced = EnhancedCode(class_=status.class_, subject=status.subject, detail=status.detail)
    return Response(code=code, enhanced_code=enhanced, content=content)


def rejection(facts: Facts, *, recipients: Sequence[str], response: Response, why: str) -> Record:
    """Return the record of a rejected connection (no recipients), recipient, or message (all recipients)."""
    return _record(facts, "Rejection", recipients=recipients, queue="", response=response, why=why)


def rejections(first: Record, *, count: int, now: float, why: str) -> Record:
    """Return one record of many rejections of one peer, made of the `first` one's. It has the peer and the reply."""
    return replace(
        first,
        id="",
        sender="",
        recipient="",
        response=replace(first.response, command=None),
        timestamp=int(now),
        event_time=record_time(now),
        created=first.timestamp,
        created_time=first.event_time,
        meta={"why": why[:WHY_LIMIT], "disposition": first.meta["disposition"], "count": count},
        headers={},
    )


def record_time(seconds: float) -> str:
    """Return a time in seconds since 1970 as text in UTC, with microseconds."""
    whole = math.floor(seconds)
    micros = round((seconds - whole) * 1_000_000)
    if micros == 1_000_000:  # noqa: PLR2004 - in one second
        whole, micros = whole + 1, 0
    return f"{rfc3339(whole)[:-1]}.{micros:06}Z"


def _record(  # noqa: PLR0913 - each is a field of the record
    facts: Facts,
    kind: RecordType,
    *,
    recipients: Sequence[str],
    queue: str,
    response: Response,
    why: str,
    size: int = 0,
    report: ArfReport | None = None,
) -> Record:
    bounce_class = facts.classify(response.line) if facts.classify is not None and kind in {"OOB", "Rejection"} else None
    return Record(
        type=kind,
        id=facts.message_id,
        sender=facts.sender[:MAILBOX_LIMIT],
        recipient=_mailboxes(recipients) if len(recipients) > 1 else "".join(recipients)[:MAILBOX_LIMIT],
        queue=queue[:NAME_LIMIT],
        size=size,
        response=response,
        peer_address=PeerAddress(name=facts.helo[:NAME_LIMIT], addr=facts.peer),
        timestamp=int(facts.now),
        event_time=record_time(facts.now),
        created=int(facts.created),
        created_time=record_time(facts.created),
        bounce_classification=bounce_class or UNCATEGORIZED,
        feedback_report=report,
        meta=_meta(facts, why),
        headers=facts.headers,
        reception_protocol=None if kind == "Rejection" else "ESMTP",
        nodeid=facts.node_id,
        session_id=facts.session_id,
    )


def _mailboxes(addresses: Sequence[str]) -> list[str]:
    return [address[:MAILBOX_LIMIT] for address in addresses]


def _meta(facts: Facts, why: str) -> dict[str, str]:
    meta: dict[str, str] = {"why": why[:WHY_LIMIT], "disposition": facts.disposition}
    if facts.queue_id is not None:
        meta["queue_id"] = facts.queue_id[:NAME_LIMIT]
    if facts.listener is not None:
        meta["listener"] = facts.listener
    if facts.authz_id is not None:
        meta["authz_id"] = facts.authz_id[:MAILBOX_LIMIT]
    if facts.compat is not None:
        meta["compat"] = facts.compat
    return meta


def _smtp_reply(diagnostic: DiagnosticCode | None) -> tuple[int, str]:
    """Return code and text of an SMTP diagnostic as KumoMTA reads it: `CODE rest`, or 550 and all of it."""
    if diagnostic is None or diagnostic.diagnostic_type.lower() != "smtp":
        return _NO_REPLY, ""
    code, space, rest = diagnostic.diagnostic.partition(" ")
    if space and _REPLY_CODE.fullmatch(code):
        return int(code), rest
    return _NO_REPLY, diagnostic.diagnostic
