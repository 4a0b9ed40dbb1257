"""Records of bounces in text form, judged again: as a session judges the message."""

from typing import Any
from uuid import uuid4

import pytest

from sidecar.core.evaluate.envelope import envelope_of
from sidecar.core.evaluate.evaluator import Evaluator
from sidecar.core.evaluate.explanation import Question
from sidecar.core.records import Record, decode, encode
from tests.building import entry, settings
from tests.core.session.driving import EXTERNAL, NOON, OOB
from tests.core.session.test_text import BOUNCE, DROP, last

DOMAINS = (entry("bounce.example.com", log_oob="LogThenDrop"), entry("fbl.example.com", log_arf="LogThenDrop"))


def records(message: bytes, to: str) -> tuple[Record, ...]:
    return last(message, to, its=settings(DOMAINS)).records


@pytest.mark.parametrize("new", [{"text_bounces": "accept"}, {"text_bounces": "reject"}, {"compat": "kumomta"}])
@pytest.mark.parametrize("message", [BOUNCE, OOB])
def test_each_record_is_judged_as_its_message(message: bytes, new: dict[str, Any]) -> None:
    """Reception and OOB record have the result of the message under other settings."""
    evaluator = Evaluator(settings(DOMAINS, **new))
    question = Question(peer=str(EXTERNAL), sender="", to=[DROP])
    expected = evaluator.explain(question, message, clock=lambda: NOON, new_id=uuid4).message.disposition
    assert len(records(message, DROP)) == 2
    for record in records(message, DROP):
        assert evaluator.judge(envelope_of(decode(encode(record)))).outcome == expected


@pytest.mark.parametrize(("message", "to", "kind", "in_text"), [(BOUNCE, DROP, "oob", True), (OOB, DROP, "oob", False)])
def test_accepted(message: bytes, to: str, kind: str, *, in_text: bool) -> None:
    """`read_as` says which form a bounce has."""
    found = {(one.kind, one.in_text) for one in (envelope_of(decode(encode(record))) for record in records(message, to))}
    assert found == {(kind, in_text)}
