"""With `compat = "kumomta"` the answers and the records are those of a running kumod, field by field."""

import json
from typing import Any

from sidecar.core.records import encode
from sidecar.core.session.verdicts import Reject
from tests.building import entry, settings
from tests.core.kumod import each_mail, message_of
from tests.core.session.driving import content, envelope, hello, play, session

SETTINGS = settings(
    [entry("near.test", log_oob="LogThenDrop", log_arf="LogThenDrop")],
    reject_at_connect=False,
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


@each_mail
def test_answer_and_records(mail: dict[str, Any]) -> None:
    """The answer, type and number of the records, and each of their fields are those of kumod."""
    sent = mail["envelope"]
    events = [*hello(sent["peer"], helo=sent["helo"]), *envelope(sent["to"], sender=sent["from"]), *content(message_of(mail))]
    outcome = play(session(SETTINGS), events)[-1]
    assert (outcome.verdict.reply.code if isinstance(outcome.verdict, Reject) else 250) == mail["answer"][0]
    ours = as_recorded([json.loads(encode(record)) for record in outcome.records])
    assert ours == as_recorded(mail["records"])
