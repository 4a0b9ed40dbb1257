"""Records and journals for the tests of the index."""

import json
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from sidecar.core.settings.settings import Settings
from sidecar.core.settings.values import AdminSettings, JournalSettings, LimitSettings
from sidecar.journal.index.follower import IndexFollower
from sidecar.journal.index.keeping import locked
from tests.building import settings

BEGIN = 1_790_000_000 // 3600 * 3600
NOW = BEGIN + 86400


def indexed(folder: Path, *, age: int = 30 * 86400) -> Settings:
    """Return settings with a console, and everything in a folder."""
    limits = LimitSettings(index_age=age)
    journal = JournalSettings(directory=folder / "journal")
    return replace(settings(), state_directory=folder, journal=journal, limits=limits, admin=AdminSettings(console=True))


def record(kind: str = "Rejection", *, at: float = 0, **values: Any) -> dict[str, Any]:
    """Return a record, made so many seconds after `BEGIN`. What is named `meta_...` is in `meta`."""
    when = BEGIN + at
    time = datetime.fromtimestamp(when, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    meta = {name.removeprefix("meta_"): values.pop(name) for name in [*values] if name.startswith("meta_")}
    made: dict[str, Any] = {
        "type": kind,
        "id": "",
        "sender": "a@sender.example",
        "recipient": "b@recipient.example",
        "response": {
            "code": 550,
            "enhanced_code": {"class": 5, "subject": 7, "detail": 1},
            "content": "relaying not permitted",
        },
        "peer_address": {"name": "mx.peer.example", "addr": "192.0.2.1"},
        "timestamp": int(when),
        "event_time": time,
        "created": int(when),
        "created_time": time,
        "bounce_classification": "Uncategorized",
        "feedback_report": None,
        "meta": {"why": "192.0.2.1 is no relay host", "disposition": "rejected_at_rcpt", **meta},
        "session_id": "0d9ad4d0-5d6c-4f0e-9f5e-6f2f4a0c0001",
    }
    return {**made, **values}


def write_segment(made: Settings, number: int, records: Iterable[dict[str, Any] | bytes], *, finished: bool = True) -> Path:
    """Add records, or lines, to a segment of the journal."""
    path = made.journal.directory / f"20260921-1200{number:02}.000000.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab") as file:
        for one in records:
            file.write((one if isinstance(one, bytes) else json.dumps(one, separators=(",", ":")).encode()) + b"\n")
    path.chmod(0o440 if finished else 0o640)
    return path


def read_journal(made: Settings, *, now: float = NOW, tidies: bool = True) -> None:
    """Read the journal, as the process of the index does."""
    with locked(made), IndexFollower(made, clock=lambda: now) as follower:
        follower.read_new()
        if tidies:
            follower.tidy()
