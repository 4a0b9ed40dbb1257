"""`compat = "kumomta"`: rejections are recorded to KumoMTA's letter (contract sections 3 and 4: **Ours**).

Owns what is different in the records then. Never in the way of a message without it.
"""

from msgspec.structs import replace

from sidecar.core.policy import MessageAnswer
from sidecar.core.records import Facts, Record, reception
from sidecar.core.session.message import Message


def recipient_rejection(record: Record, message: Message) -> Record:
    """Return the record of a rejected recipient as KumoMTA writes it.

    The rejected recipient stands in the command alone; the record's own is the last one that was accepted.
    """
    accepted = message.recipients
    return _bare(record, recipient=accepted[-1].address if accepted else "")


def message_rejection(record: Record, message: Message, facts: Facts, answer: MessageAnswer | None) -> tuple[Record, ...]:
    """Return the records of a rejected message as KumoMTA writes them.

    KumoMTA forgets the envelope once it has the message. What the policy rejects, it has recorded as received before.
    """
    record = replace(record, id="")
    if answer is None:
        return (_bare(record, recipient=message.recipients[-1].address),)
    received = reception(
        facts,
        recipients=[result.address for result in answer.results],
        queue=answer.results[0].domain,
        size=message.size,
        why=record.meta["why"],
    )
    return received, _bare(replace(record, sender=""), recipient="")


def _bare(record: Record, *, recipient: str) -> Record:
    """Return a Rejection as KumoMTA writes it: made when the rejection was, and without the message's headers."""
    return replace(record, recipient=recipient, created=record.timestamp, created_time=record.event_time, headers={})
