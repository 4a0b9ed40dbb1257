"""What a record tells of an SMTP transaction: who wanted to send what to whom, and what was answered.

Owns the way back from a record to the questions that the policy was asked. Never asks it.
"""

import re
from typing import Literal

from msgspec import Struct

from sidecar.core.names import IPAddress, normal_listener, split_endpoint
from sidecar.core.records import Logged
from sidecar.core.settings.values import ANY_LISTENER

Kind = Literal["arf", "oob", "unreadable", "other", "unknown"]
"""What the message was, as far as a record tells.

`unreadable`: it claims to be a report and cannot be read as one; `other`: nothing that was taken as a report; `unknown`: the
record does not say.
"""

Happened = Literal["accepted", "quarantined", "rejected", "rejected_for_other_reason", "tempfailed", "outgoing"]
"""What happened by the record. `rejected`: by the listener policy; `tempfailed`: 4xx, which is not a decision of the policy;
`outgoing`: the record is about outgoing mail."""

Stage = Literal["connect", "rcpt", "end"]

_INCOMING = {"Reception", "Rejection", "OOB", "Feedback"}
# KumoMTA's words and ours; its older versions leave the enhanced code in the text.
_BY_POLICY = re.compile(r"(?:5\.7\.1 )?relaying not permitted")
# KumoMTA keeps the command line as the peer wrote it, with its parameters (RFC 5321 section 4.1.1.3).
_RCPT = re.compile(r"RCPT TO: *<(.*)>", re.IGNORECASE | re.DOTALL)


class Envelope(Struct, frozen=True, kw_only=True):
    """The questions behind a record. `listener` is `ANY_LISTENER` where the record does not tell it.

    `recipients` may be empty: a peer that was refused at connect named none, and some records do not tell them.
    """

    peer: IPAddress
    listener: str
    authz_id: str | None
    sender: str
    recipients: tuple[str, ...]
    kind: Kind


class RecordedAnswer(Struct, frozen=True, kw_only=True):
    """The answer that a record contains. `stage` is None if the record does not contain it.

    `is_ours`: the sidecar wrote the record without `compat`. A record with `compat` is read as KumoMTA's.
    """

    happened: Happened
    stage: Stage | None
    is_ours: bool


def recorded_answer(record: Logged) -> RecordedAnswer:
    """Return the answer that a record contains."""
    is_ours = _is_ours(record)
    if record.type not in _INCOMING:
        return RecordedAnswer(happened="outgoing", stage=None, is_ours=False)
    if record.type != "Rejection":
        return RecordedAnswer(
            happened="quarantined" if "quarantine" in record.meta else "accepted", stage="end", is_ours=is_ours
        )
    return RecordedAnswer(happened=_refusal(record), stage=_stage(record), is_ours=is_ours)


def envelope_of(record: Logged) -> Envelope:
    """Give the envelope behind a record. Raises ValueError, which says what the record lacks, where there is none."""
    if record.type not in _INCOMING:
        raise ValueError(f"a {record.type} record tells of mail that went out, not of mail that came in")
    if record.peer_address is None:
        raise ValueError("the record does not tell the peer's address")
    peer, _ = split_endpoint(record.peer_address.addr)
    # An OOB record's sender is the recipient of the report; the report itself has the null sender (RFC 3464 section 2).
    is_bounce = record.type == "OOB"
    return Envelope(
        peer=peer,
        listener=_listener(record),
        authz_id=_text(record, "authz_id"),
        sender="" if is_bounce else record.sender,
        recipients=(record.sender,) if is_bounce else _recipients(record),
        kind=_kind(record),
    )


def _is_ours(record: Logged) -> bool:
    """Tell whether the record is written in our own way: neither KumoMTA's, nor ours with `compat`."""
    return _text(record, "why") is not None and _text(record, "compat") is None


def _refusal(record: Logged) -> Happened:
    if record.response.code < 500:  # noqa: PLR2004 - RFC 5321 section 4.2.1: 4yz is a transient answer
        return "tempfailed"
    return "rejected" if _BY_POLICY.match(record.response.content) else "rejected_for_other_reason"


def _stage(record: Logged) -> Stage | None:
    command = (record.response.command or "").upper()
    if command == "CONNECT":
        return "connect"
    return "rcpt" if command.startswith("RCPT") else "end" if command.startswith("DATA") else None


def _kind(record: Logged) -> Kind:
    if record.type in {"OOB", "Feedback"}:
        return "oob" if record.type == "OOB" else "arf"
    answer = recorded_answer(record)
    if answer.happened == "quarantined":
        return "unreadable"
    return "other" if answer.happened == "rejected" and answer.stage == "end" else "unknown"


def _recipients(record: Logged) -> tuple[str, ...]:
    """Give the recipients. KumoMTA's Rejection names the last one that was accepted; the refused one is in the command."""
    refused = None if _is_ours(record) else _RCPT.match(record.response.command or "")
    if record.type == "Rejection" and refused is not None:
        return (refused[1],)
    return tuple(filter(None, record.recipients))


def _listener(record: Logged) -> str:
    # KumoMTA tells it as `received_via`, where its log is set up to.
    for name in ("listener", "received_via"):
        if (told := _text(record, name)) is not None:
            return normal_listener(told)
    return ANY_LISTENER


def _text(record: Logged, name: str) -> str | None:
    value = record.meta.get(name)
    return value if isinstance(value, str) else None
