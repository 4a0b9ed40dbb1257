"""Records made by hand: the facts of a message, and one recipient."""

from typing import Any

from sidecar.core.disposition import Disposition
from sidecar.core.records import Facts, ForRecipient, Record, Response, mailboxes, receptions, rejection
from tests.core.session.driving import NODE, NOON

FACTS = Facts(
    node_id=NODE,
    session_id=NODE,
    message_id="0" * 32,
    now=NOON,
    created=NOON,
    peer="203.0.113.9",
    helo="peer.example.net",
    sender="",
    listener=None,
    authz_id=None,
    queue_id=None,
    headers={},
)


def to(*addresses: str, id: str = "0" * 32, why: str = "-", disposition: Disposition = Disposition.RELAYED) -> ForRecipient:  # noqa: A002
    """Return what a record has of one recipient, or of all of a rejected message."""
    queue = addresses[0].rpartition("@")[2] if addresses else ""
    return ForRecipient(id=id, address=mailboxes(addresses), queue=queue, disposition=disposition, why=why)


def reception(facts: Facts = FACTS, *addresses: str, size: int = 1, why: str = "-", **more: Any) -> Record:
    """Make a Reception, or a Feedback record."""
    return receptions(facts, [to(*addresses or ("x@y.example",), why=why)], size=size, **more)[0]


def refusal_of(facts: Facts = FACTS, *addresses: str, response: Response, why: str = "-") -> Record:
    """Make a Rejection."""
    return rejection(facts, to(*addresses, why=why), response=response)
