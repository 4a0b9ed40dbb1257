"""The SMTP transaction behind a record: the envelope, and the answer that the MTA got."""

import re
from datetime import datetime
from typing import Literal, get_args

from msgspec import Struct

from sidecar.core.disposition import Disposition
from sidecar.core.names import IPAddress, normal_listener, split_endpoint
from sidecar.core.proof.values import Level
from sidecar.core.records import Logged
from sidecar.core.session import replies
from sidecar.core.settings.suppression import SuppressionSettings
from sidecar.core.settings.values import ANY_LISTENER

MessageKind = Literal["arf", "oob", "unreadable", "other", "unknown"]
"""What the message was, as far as a record contains it.

`unreadable`: it claims to be a report and cannot be parsed as one; `other`: no report; `unknown`: the record does not contain
it.
"""

Happened = Literal["accepted", "dropped", "quarantined", "rejected", "rejected_for_other_reason", "tempfailed", "outgoing"]
"""What happened by the record. `dropped`: the message was accepted, but not for this recipient; `rejected`: by the listener
policy; `tempfailed`: 4xx, which is not a decision of the policy; `outgoing`: the record is about outgoing mail."""

_INCOMING = {"Reception", "Rejection", "OOB", "Feedback"}
# KumoMTA's words and ours; older versions of KumoMTA leave the enhanced code in the text.
_BY_POLICY = re.compile(
    rf"(?:5\.7\.1 )?(?:relaying not permitted|{re.escape(replies.ADDRESS_REQUIRED.text)}|{re.escape(replies.UNVERIFIED.text)})"
)
# How `why` begins in a Rejection of a report (core/reports/reading.py).
_REPORTS: dict[str, MessageKind] = {"a feedback report": "arf", "a bounce report": "oob"}
_LEVELS: tuple[Level, ...] = get_args(Level)
_LOGGED = {Disposition.LOGGED_AND_RELAYED, Disposition.LOGGED_AND_DROPPED}
# KumoMTA keeps the peer's command line, with its parameters (RFC 5321 section 4.1.1.3).
_RCPT = re.compile(r"RCPT TO: *<(.*)>", re.IGNORECASE | re.DOTALL)


class RecordedEntry(Struct, frozen=True, kw_only=True):
    """The entry in the suppression list that the recipient had. Times are in seconds since 1970."""

    reason: str
    source: str = ""
    since: int = 0
    expires: int = 0


class RecordedList(Struct, frozen=True, kw_only=True):
    """A suppression list that has each address, with one entry."""

    entry: RecordedEntry

    def may_have(self, _settings: SuppressionSettings, _address: str) -> bool:
        """Return True."""
        return True

    def find(self, _settings: SuppressionSettings, _address: str, _now: int) -> RecordedEntry:
        """Return the entry."""
        return self.entry


class Envelope(Struct, frozen=True, kw_only=True):
    """An envelope that a peer sends. `listener` is `ANY_LISTENER` if it is not known. `in_text`: a bounce in text form.

    `recipients` may be empty: a peer that is rejected at connect sends none, and some records do not contain them.
    `verified` is what a report proved, None if the record does not contain it; `at` is when it began, in seconds since 1970.
    `suppressed` is the recipient's entry in the suppression list, if it had one.
    """

    peer: IPAddress
    listener: str
    authz_id: str | None
    sender: str
    recipients: tuple[str, ...]
    kind: MessageKind
    in_text: bool = False
    verified: Level | None = None
    at: int = 0
    suppressed: RecordedEntry | None = None


class RecordedAnswer(Struct, frozen=True, kw_only=True):
    """The answer that a record contains. `stage` is None if the record does not contain it.

    `is_ours`: the sidecar wrote the record without `compat`. A record with `compat` is read as KumoMTA's.
    """

    happened: Happened
    stage: Literal["connect", "rcpt", "end"] | None
    is_ours: bool


def recorded_answer(record: Logged) -> RecordedAnswer:
    """Return the answer that a record contains."""
    is_ours = _is_ours(record)
    if record.type not in _INCOMING:
        return RecordedAnswer(happened="outgoing", stage=None, is_ours=False)
    if record.type != "Rejection":
        happened: Happened = "quarantined" if "quarantine" in record.meta else "accepted"
        if record.disposition is Disposition.DROPPED:
            happened = "dropped"
        return RecordedAnswer(happened=happened, stage="end", is_ours=is_ours)
    if record.response.code < 500:  # noqa: PLR2004 - RFC 5321 section 4.2.1: 4yz is a transient answer
        happened = "tempfailed"
    else:
        is_policy = _BY_POLICY.match(record.response.content) or _suppressed(record) is not None
        happened = "rejected" if is_policy else "rejected_for_other_reason"
    command = (record.response.command or "").upper()
    stages: dict[str, Literal["connect", "rcpt", "end"]] = {"CONN": "connect", "RCPT": "rcpt", "DATA": "end"}
    return RecordedAnswer(happened=happened, stage=stages.get(command[:4]), is_ours=is_ours)


def envelope_of(record: Logged) -> Envelope:
    """Return the envelope behind a record. Raises ValueError with the missing fact if the record does not contain one."""
    if record.type not in _INCOMING:
        raise ValueError(f"a {record.type} record is about outgoing mail, not about incoming mail")
    if record.peer_address is None:
        raise ValueError("the record does not contain the peer's address")
    peer, _ = split_endpoint(record.peer_address.addr)
    # The sender of an OOB record is the recipient of the report; the report has the null sender (RFC 3464 section 2).
    is_bounce = record.type == "OOB"
    return Envelope(
        peer=peer,
        listener=_listener(record),
        authz_id=meta_text(record, "authz_id"),
        sender="" if is_bounce else record.sender,
        recipients=(record.sender,) if is_bounce else _recipients(record),
        kind=_kind(record),
        in_text=(meta_text(record, "read_as") or "").startswith("text:"),
        verified=_verified(record),
        at=record.created,
        suppressed=_suppressed(record),
    )


def received_by_smtp(record: Logged) -> bool:
    """Return True if the listener policy applies: KumoMTA also accepts mail over HTTP, and writes a Reception for it."""
    protocol = record.reception_protocol
    return "SMTP" in protocol.upper() if protocol is not None else not _is_address(meta_text(record, "received_via"))


def had_no_login(record: Logged) -> bool:
    """Return True if the peer of KumoMTA's record cannot have logged in: that needs TLS, and the record has no cipher.

    Only Receptions and Feedback records have the cipher.
    """
    return record.type in {"Reception", "Feedback"} and not _is_ours(record) and not record.tls_cipher


def _listener(record: Logged) -> str:
    # KumoMTA logs the listener as `received_via`, if its log is configured so; for mail over HTTP this is an address alone.
    listener = meta_text(record, "received_via") if (own := meta_text(record, "listener")) is None else own
    return ANY_LISTENER if listener is None or not received_by_smtp(record) else normal_listener(listener)


def _is_address(text: str | None) -> bool:
    try:
        return text is not None and split_endpoint(text)[1] is None
    except ValueError:
        return False


def _is_ours(record: Logged) -> bool:
    return meta_text(record, "why") is not None and meta_text(record, "compat") is None


def _kind(record: Logged) -> MessageKind:
    if record.type in {"OOB", "Feedback"}:
        return "oob" if record.type == "OOB" else "arf"
    if record.disposition in _LOGGED:
        return "oob"  # a feedback report has a Feedback record instead of the Reception
    answer = recorded_answer(record)
    if answer.happened == "quarantined" and _verified(record) is None:
        return "unreadable"
    if answer.happened == "dropped":
        return "other"
    if answer.happened not in {"rejected", "quarantined"} or answer.stage != "end":
        return "unknown"
    # A report of the kind that no recipient accepts; a message of both kinds is first a feedback report.
    why = meta_text(record, "why") or ""
    return next((kind for words, kind in _REPORTS.items() if why.startswith(words)), "other")


def _verified(record: Logged) -> Level | None:
    level = meta_text(record, "verified")
    return next((known for known in _LEVELS if known == level), None)


def _suppressed(record: Logged) -> RecordedEntry | None:
    entry = record.meta.get("suppressed")
    if not isinstance(entry, dict):
        return None
    reason, source, since, expires = (entry.get(name) for name in ("reason", "source", "since", "expires"))
    return RecordedEntry(reason=str(reason or ""), source=str(source or ""), since=_time(since), expires=_time(expires))


def _time(text: object) -> int:
    """Return a time of a record in seconds since 1970; 0 for one that cannot be read."""
    try:
        return int(datetime.fromisoformat(text).timestamp()) if isinstance(text, str) else 0
    except (ValueError, OverflowError):
        return 0


def _recipients(record: Logged) -> tuple[str, ...]:
    """Return the recipients. KumoMTA's Rejection has the last accepted one; the rejected one is in the command."""
    rejected = None if _is_ours(record) else _RCPT.match(record.response.command or "")
    if record.type == "Rejection" and rejected is not None:
        return (rejected[1],)
    return tuple(filter(None, record.recipients))


def meta_text(record: Logged, name: str) -> str | None:
    """Return the text of an entry of `meta`; None without one, or for another value."""
    value = record.meta.get(name)
    return value if isinstance(value, str) else None
