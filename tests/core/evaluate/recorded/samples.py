"""Records as logs have them, in few words: KumoMTA's shape, and ours, which has the reason."""

from typing import Any

import msgspec

from sidecar.core.evaluate.recorded.follow_up import Entry
from sidecar.core.records import Logged

EXTERNAL = "203.0.113.9"
NOT_PERMITTED = "relaying not permitted"


def record(kind: str = "Reception", **more: Any) -> dict[str, Any]:
    """Make a record of KumoMTA's."""
    code, content, command = more.pop("answer", (250, "", None))
    return {
        "type": kind,
        "id": "1d98076abbbc11ed940250ebf67f93bd",
        "sender": "a@sender.test",
        "recipient": "x@a.example",
        "response": {"code": code, "enhanced_code": None, "content": content, "command": command},
        "peer_address": {"name": "peer.test", "addr": more.pop("peer", EXTERNAL)},
        "timestamp": 1_790_000_000,
        "meta": {},
        **more,
    }


def ours(kind: str = "Reception", why: str = "because", **more: Any) -> dict[str, Any]:
    """Make a record of our own."""
    return record(kind, **{**more, "meta": {"why": why, **more.get("meta", {})}})


def rejection(stage: str, code: int = 550, content: str = NOT_PERMITTED, **more: Any) -> dict[str, Any]:
    """Make KumoMTA's Rejection, as it is for this stage: without an id, and with the last accepted recipient or none."""
    command = {"connect": None, "rcpt": "RCPT TO:<x@a.example>", "end": "DATA"}.get(stage, stage)
    return record("Rejection", **({"id": "", "recipient": [""], "answer": (code, content, command)} | more))


def logged(made: dict[str, Any]) -> Logged:
    """Read a record as if it came from a log."""
    return msgspec.convert(made, Logged)


def entry_of(made: dict[str, Any], line: int = 1, **more: Any) -> Entry:
    """Put a record into its place in a log."""
    return Entry(file="log", line=line, size=1000, record=logged(made), **more)
