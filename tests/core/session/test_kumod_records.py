"""The records that a real kumod wrote for 102 reports: with `compat = "kumomta"` ours are equal, field by field."""

import json
from pathlib import Path
from typing import Any

import pytest

from sidecar.core.records import encode
from tests.building import entry, settings
from tests.core.session.driving import content, envelope, hello, play, session

REPORTS = [json.loads(line) for line in (Path(__file__).parents[2] / "data/kumomta/reports.jsonl").read_text().splitlines()]
SETTINGS = settings(
    [entry("near.test", log_oob="LogThenDrop", log_arf="LogThenDrop")],
    refuse_at_connect=False,
    compat="kumomta",
    headers=("subject",),
)


def as_recorded(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return records as the samples have them: ids by their order, no times and the like. `meta` is each program's own."""
    names: dict[str, str] = {"": ""}
    for record in records:
        record["id"] = names.setdefault(record["id"], f"id{len(names)}")
        for name in ("timestamp", "event_time", "created", "created_time", "size", "nodeid", "session_id", "meta"):
            record.pop(name, None)
    return records


@pytest.mark.parametrize("report", REPORTS, ids=lambda report: report["name"])
def test_records(report: dict[str, Any]) -> None:
    """Type and number of the records, and each of their fields, are those of kumod."""
    envelope_of = report["envelope"]
    events = [*hello(envelope_of["peer"], helo=envelope_of["helo"]), *envelope(envelope_of["to"], sender=envelope_of["from"])]
    outcome = play(session(SETTINGS), [*events, *content(report["mail"].encode("latin-1"))])[-1]
    ours = as_recorded([json.loads(encode(record)) for record in outcome.records])
    assert ours == as_recorded(report["records"])
