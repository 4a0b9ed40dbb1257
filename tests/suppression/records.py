"""Records for the tests of the suppression list, as their lines are read."""

import hashlib
from typing import Any

from sidecar.core.records.reading import Logged

DAY = 86400
BEGIN = 1_790_000_000 // DAY * DAY


def oob(address: str, bounce_class: str, *, day: float = 0, message: str = "", **meta: object) -> dict[str, Any]:
    """Return the record of a failed recipient; each has a message of its own unless it is named."""
    created = int(BEGIN + day * DAY)
    message = message or hashlib.md5(f"{address}{bounce_class}{created}".encode(), usedforsecurity=False).hexdigest()
    return {
        "type": "OOB",
        "id": f"id-{message}",
        "sender": "b@bounce.example.com",
        "recipient": address,
        "timestamp": 1,
        "created": created,
        "bounce_classification": bounce_class,
        "meta": {"message_id": message, **meta},
    }


def feedback(*addresses: str, kind: str = "abuse", day: float = 0, message: str = "", **meta: object) -> dict[str, Any]:
    """Return the record of a complaint."""
    record = oob(
        "",
        kind,
        day=day,
        message=message or hashlib.md5(f"{addresses}{kind}{day}".encode(), usedforsecurity=False).hexdigest(),
        **meta,
    )
    report = {"feedback_type": kind, "original_rcpto_to": list(addresses)}
    return record | {
        "type": "Feedback",
        "recipient": "fbl@example.com",
        "timestamp": record["created"],
        "feedback_report": report,
    }


def change(address: str, action: str, *, day: float = 0, reason: str = "", expires: int = 0) -> dict[str, Any]:
    """Return the record of a change by hand."""
    time = int((BEGIN + day * DAY) * 1_000_000)
    meta = {"action": action, "reason": reason, "time": time, "expires": expires}
    return {
        "type": "Suppression",
        "id": hashlib.md5(f"{action}{address}{day}".encode(), usedforsecurity=False).hexdigest(),
        "recipient": address,
        "meta": meta,
    }


def logged(record: dict[str, Any]) -> Logged:
    """Return a record as a reader of the journal gets it."""
    return Logged(**record)
