"""What a record tells of an SMTP transaction: who wanted to send what to whom.

Owns the way back from a record to the questions that the policy was asked. Never asks it.
"""

from typing import Literal

from msgspec import Struct

from sidecar.records import Logged
from sidecar.settings.names import IPAddress, normal_listener, split_endpoint
from sidecar.settings.values import ANY_LISTENER

Kind = Literal["arf", "oob", "other", "unknown"]
"""What the message was, as far as a record tells: a report, something else, or it does not say."""


class Envelope(Struct, frozen=True, kw_only=True):
    """The questions behind a record. `listener` is `ANY_LISTENER` where the record does not tell it."""

    peer: IPAddress
    listener: str
    authz_id: str | None
    sender: str
    recipients: tuple[str, ...]
    kind: Kind


def envelope_of(record: Logged) -> Envelope:
    """Give the envelope behind a record. Raises ValueError, which says what the record lacks, where there is none."""
    if record.type not in {"Reception", "Rejection", "OOB", "Feedback"}:
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
        recipients=(record.sender,) if is_bounce else record.recipients,
        kind="oob" if is_bounce else "arf" if record.type == "Feedback" else "unknown",
    )


def _listener(record: Logged) -> str:
    # KumoMTA tells it as `received_via`, where its log is set up to.
    for name in ("listener", "received_via"):
        if (told := _text(record, name)) is not None:
            return normal_listener(told)
    return ANY_LISTENER


def _text(record: Logged, name: str) -> str | None:
    value = record.meta.get(name)
    return value if isinstance(value, str) else None
