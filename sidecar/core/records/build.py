"""How each type of record is filled (records reference, Records). Never decides whether a record is written."""

import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime

from msgspec import Raw, Struct
from msgspec.structs import replace

from sidecar.core.disposition import Disposition
from sidecar.core.policy.address import normal_address
from sidecar.core.proof.values import Verification
from sidecar.core.records.record import UNCATEGORIZED, EnhancedCode, Headers, PeerAddress, Record, RecordType, Response
from sidecar.core.reports.values import ArfReport, DiagnosticCode, OobReport, PerRecipient, ReportedRecipient
from sidecar.core.text import rfc3339

_ACCEPTED = Response(code=250)
_ACCEPTED_REPORTS = {Disposition.LOGGED_AND_RELAYED, Disposition.LOGGED_AND_DROPPED}
# KumoMTA's code for a bounce without an SMTP reply, and for one whose text begins with no number of 16 bits.
_NO_REPLY = 550
_REPLY_CODE = re.compile(r"\+?0*([0-9]{1,5})", re.ASCII)
_HIGHEST_CODE = 65535

# In characters. Each record of a report repeats most of these texts, and a report may have a thousand records.
NAME_LIMIT = 255
"""No host name, domain or queue id is longer (RFC 1035 section 2.3.4)."""
MAILBOX_LIMIT = 320
"""A local part of 64 octets, the @ and a domain of 255 (RFC 5321 section 4.5.3.1): addresses that differ stay different."""
REPLY_LIMIT = 1024
"""Two SMTP reply lines (RFC 5321 section 4.5.3.1.5); the longest diagnostic of the sample reports has 150 characters."""
WHY_LIMIT = 1024
"""A reason names four rules at most, each with a domain and a place in a file."""


class Tls(Struct, frozen=True, kw_only=True):
    """What an MTA reports of a TLS session. `subject` has the parts of a verified client certificate's name (`CN=...`)."""

    cipher: str
    protocol_version: str
    subject: tuple[str, ...] = ()


class Facts(Struct, frozen=True, kw_only=True):
    """The common facts of all records of a message. Times are seconds since 1970; `message_id` can be empty.

    `decided` is "data" if the verdict was given before the content. `classify` returns the class of a response as one line, or
    None if no rule matches; it is None if there are no rules. `compat` names the program whose records ours imitate, if any.
    """

    node_id: str
    session_id: str
    message_id: str
    now: float
    created: float
    peer: str
    helo: str
    tls: Tls | None = None
    sender: str
    listener: str | None
    authz_id: str | None
    queue_id: str | None
    headers: Headers
    decided: str | None = None
    compat: str | None = None
    classify: Callable[[str], str | None] | None = None


class ForRecipient(Struct, frozen=True, kw_only=True):
    """What the records of a message have of one recipient; a rejected message has one for all of them.

    `id` is 32 hex digits or empty, `address` as `mailbox` returns it, `queue` the domain of a recipient that was accepted.
    `read_as` is how the report was read, if it is logged for this recipient; `verification` what it proves. `suppressed` is the
    recipient's entry in the suppression list.
    """

    id: str
    address: str | list[str]
    queue: str = ""
    disposition: Disposition
    why: str
    read_as: str = ""
    verification: Verification | None = None
    suppressed: Mapping[str, str | None] | None = None


def receptions(  # noqa: PLR0913 - each is a field of the record
    facts: Facts,
    recipients: Sequence[ForRecipient],
    *,
    size: int,
    report: ArfReport | None = None,
    original: Raw | None = None,
    derived: tuple[str, ...] = (),
    quarantine: str | None = None,
) -> list[Record]:
    """Return a record for each recipient of an accepted message, in their order; with `report` they are Feedback records.

    `size` is the message's in bytes. `original` has the headers of the returned message (see `original_of`), `derived` the
    values of `report` that were worked out, `quarantine` is the message's file in the quarantine.
    """
    if not recipients:
        return []
    kind: RecordType = "Reception" if report is None else "Feedback"
    record = _with_tls(_record(facts, kind, recipients[0], response=_ACCEPTED, size=size, report=report), facts.tls)
    record = _with_meta(record, original=original, derived=derived or None, quarantine=quarantine)
    proofs, reported = _Proofs(kind), () if report is None else tuple(report.original_rcpto_to)
    own = [proofs.of(to, reported) for to in recipients]
    return [_with_meta(record, **own[0]), *(_for(record, to, more) for to, more in zip(recipients[1:], own[1:], strict=True))]


def oob_bounces(
    facts: Facts, recipients: Sequence[ForRecipient], *, report: OobReport, original: Raw | None = None
) -> Iterator[list[Record]]:
    """Yield for each recipient of a report its records, one for each failed recipient that the report names.

    A recipient of the report is the sender of the original message.
    """
    failed = [entry for entry in report.per_recipient if entry.action == "failed"]
    bounces = [
        _with_meta(_bounce(facts, recipients[0], report, entry), original=original, derived=entry.derived or None)
        for entry in failed
    ]
    named = [(one.recipient,) if (one := _named(entry)) is not None and one.recipient else () for entry in failed]
    proofs = _Proofs("OOB")
    for number, to in enumerate(recipients):
        own = [proofs.of(to, reported) for reported in named]
        each = zip(bounces, own, strict=True)
        if number:
            yield [_for(one, to, more, sender=to.address, recipient=one.recipient) for one, more in each]
        else:
            yield [_with_meta(one, **more) for one, more in each]


def _bounce(facts: Facts, recipient: ForRecipient, report: OobReport, failed: PerRecipient) -> Record:
    reporter, last_attempt = report.per_message.reporting_mta, failed.last_attempt_date
    # From the view of the reporter, which got the message from the address that the report was sent to.
    own = replace(
        facts,
        now=facts.now if last_attempt is None else datetime.fromisoformat(last_attempt).timestamp(),
        helo="" if reporter is None else reporter.name,
        sender=recipient.address,
    )
    to = replace(recipient, address=_reported(_named(failed)))
    return _record(own, "OOB", to, response=bounce_response(failed, exactly=facts.compat is not None))


def bounce_response(failed: PerRecipient, *, exactly: bool = False) -> Response:
    """Return the response for one recipient of a report: from its Diagnostic-Code, or else 550, and its Status.

    With `exactly` the type of an SMTP diagnostic must be spelled in lower case.
    """
    status = failed.status
    code, content = _smtp_reply(failed.diagnostic_code, exactly=exactly)
    content = content[:REPLY_LIMIT]
    if status is None:
        return Response(code=code, content=content)
    enhanced = EnhancedCode(class_=status.class_, subject=status.subject, detail=status.detail)
    return Response(code=code, enhanced_code=enhanced, content=content)


def rejection(facts: Facts, to: ForRecipient, *, response: Response) -> Record:
    """Return the record of a rejected connection (no recipient), recipient, or message (all recipients)."""
    return _with_meta(_record(facts, "Rejection", to, response=response), **_Proofs("Rejection").of(to, ()))


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


def mailbox(address: str) -> str:
    """Return an envelope address as records have it: in normal form, and not too long."""
    return normal_address(address)[:MAILBOX_LIMIT]


def mailboxes(addresses: Sequence[str]) -> str | list[str]:
    """Return the addresses of one record: `""` for none, and no list for one."""
    return [*map(mailbox, addresses)] if len(addresses) > 1 else "".join(map(mailbox, addresses))


def _named(failed: PerRecipient) -> ReportedRecipient | None:
    return failed.original_recipient or failed.final_recipient


def _reported(recipient: ReportedRecipient | None) -> str:
    if recipient is None:
        return ""
    # Addresses of other types have another syntax (X.400), or internationalised ones that KumoMTA leaves as they are.
    return mailbox(recipient.recipient) if recipient.recipient_type == "rfc822" else recipient.recipient[:MAILBOX_LIMIT]


def _record(  # noqa: PLR0913 - each is a field of the record
    facts: Facts, kind: RecordType, to: ForRecipient, *, response: Response, size: int = 0, report: ArfReport | None = None
) -> Record:
    # KumoMTA asks its rules about complaints, too.
    bounce_class = facts.classify(response.line) if facts.classify is not None and kind != "Reception" else None
    return Record(
        type=kind,
        id=to.id,
        sender=mailbox(facts.sender),
        recipient=to.address,
        queue=to.queue[:NAME_LIMIT],
        size=size,
        response=response,
        peer_address=PeerAddress(name=facts.helo[:NAME_LIMIT], addr=facts.peer),
        timestamp=int(facts.now),
        event_time=record_time(facts.now),
        created=int(facts.created),
        created_time=record_time(facts.created),
        bounce_classification=bounce_class or UNCATEGORIZED,
        feedback_report=report,
        meta=_meta(facts, to),
        headers=facts.headers,
        reception_protocol=None if kind == "Rejection" else "ESMTP",
        nodeid=facts.node_id,
        session_id=facts.session_id,
    )


def _for(record: Record, to: ForRecipient, proof: Mapping[str, object], **changes: object) -> Record:
    """Return a record of the same message for another recipient, with its `proof` in `meta`, and with `changes`."""
    own = {"read_as": to.read_as or None, "suppressed": to.suppressed}
    meta = {**record.meta, "why": to.why[:WHY_LIMIT], "disposition": to.disposition, **own, **proof}
    for name in [name for name, value in own.items() if value is None]:
        del meta[name]
    values = {"id": to.id, "recipient": to.address, "queue": to.queue[:NAME_LIMIT], "meta": meta, **changes}
    return replace(record, **values)


def _with_tls(record: Record, tls: Tls | None) -> Record:
    if tls is None:
        return record
    protocol_version, subject = tls.protocol_version, tls.subject
    return replace(record, tls_cipher=tls.cipher, tls_protocol_version=protocol_version, tls_peer_subject_name=subject)


def _with_meta(record: Record, **entries: object) -> Record:
    """Return a record with more entries in `meta`, except for those that are None."""
    more = {name: value for name, value in entries.items() if value is not None}
    return replace(record, meta={**record.meta, **more}) if more else record


class _Proofs:
    """What a report proves, as entries of `meta` for records of a type. Most recipients of a report share them."""

    def __init__(self, kind: RecordType) -> None:
        self._kind = kind
        self._found: dict[tuple[int, tuple[str, ...], Disposition], Mapping[str, object]] = {}

    def of(self, to: ForRecipient, reported: tuple[str, ...]) -> Mapping[str, object]:
        """Return what is proved about recipients that the report names, in its spelling; nothing without a verification."""
        if to.verification is None:
            return {}
        key = id(to.verification), reported, to.disposition
        if (found := self._found.get(key)) is None:
            found = self._found[key] = self._made(to.verification, reported, to.disposition)
        return found

    def _made(self, verification: Verification, reported: tuple[str, ...], disposition: Disposition) -> dict[str, object]:
        proof = verification.proof(*reported)
        meta: dict[str, object] = {"verified": proof.verified, "verified_by": proof.verified_by}
        if proof.verified_ids and self._kind in {"OOB", "Feedback"}:
            meta["verified_ids"] = proof.verified_ids
        # Not if nothing more could be proved, or if the OOB records have it.
        if proof.verified != "recipient" and (self._kind != "Reception" or disposition not in _ACCEPTED_REPORTS):
            meta["proof"] = verification.why[:WHY_LIMIT]
        if verification.reporter is not None:
            meta["reporter"] = verification.reporter
        return meta


def _meta(facts: Facts, to: ForRecipient) -> dict[str, object]:
    meta: dict[str, object] = {"why": to.why[:WHY_LIMIT], "disposition": to.disposition}
    if to.read_as:
        meta["read_as"] = to.read_as
    if to.suppressed is not None:
        meta["suppressed"] = to.suppressed
    if facts.message_id:
        meta["message_id"] = facts.message_id
    if facts.queue_id is not None:
        meta["queue_id"] = facts.queue_id[:NAME_LIMIT]
    if facts.listener is not None:
        meta["listener"] = facts.listener
    if facts.authz_id is not None:
        meta["authz_id"] = facts.authz_id[:MAILBOX_LIMIT]
    if facts.decided is not None:
        meta["decided"] = facts.decided
    if facts.compat is not None:
        meta["compat"] = facts.compat
    return meta


def _smtp_reply(diagnostic: DiagnosticCode | None, *, exactly: bool) -> tuple[int, str]:
    """Return code and text of an SMTP diagnostic as KumoMTA reads it: `CODE rest`, or 550 and all of it."""
    if diagnostic is None:
        return _NO_REPLY, ""
    kind = diagnostic.diagnostic_type
    if (kind if exactly else kind.lower()) != "smtp":
        return _NO_REPLY, ""
    code, space, rest = diagnostic.diagnostic.partition(" ")
    found = _REPLY_CODE.fullmatch(code) if space else None
    if found is None or (number := int(found[1])) > _HIGHEST_CODE:
        return _NO_REPLY, diagnostic.diagnostic
    return number, rest
