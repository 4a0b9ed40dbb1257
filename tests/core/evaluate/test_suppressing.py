"""Recipients on the suppression list, in questions and in records."""

import json
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from msgspec import UNSET
from msgspec.structs import replace

from sidecar.core.disposition import Disposition
from sidecar.core.evaluate.envelope import RecordedEntry, RecordedList, envelope_of, recorded_answer
from sidecar.core.evaluate.evaluator import Evaluator, explanation_of
from sidecar.core.evaluate.explanation import Question
from sidecar.core.records.reading import decode
from sidecar.core.settings.settings import Settings
from sidecar.core.settings.suppression import SuppressionRule, SuppressionSettings
from sidecar.core.settings.values import Where
from tests.building import settings

RULE = SuppressionRule(when=("BadDomain",), where=Where(file="sidecar.toml", line=12, key="suppression.rule"))
ENTRY = RecordedEntry(reason="BadDomain", source="reports", since=1_790_000_000, expires=0)
REPLY = "550 5.7.1 gone@x.example is on the suppression list: BadDomain since 2026-09-21"
META = {"reason": "BadDomain", "source": "reports", "since": "2026-09-21T14:13:20Z", "expires": None}


def with_check(check: Any) -> Settings:
    return replace(settings(), suppression=SuppressionSettings(database=Path("x"), check=check, rule=(RULE,)))


@pytest.mark.parametrize(("check", "reply"), [("off", None), ("log", None), ("reject", REPLY)])
def test_a_question(check: Any, reply: str | None) -> None:
    """The answer has the entry, and the place of its rule."""
    question = Question(peer="127.0.0.1", sender="a@b.example", to=["gone@x.example"])
    evaluator = Evaluator(with_check(check), suppression=RecordedList(entry=ENTRY))
    (part,) = evaluator.explain(question, None, clock=lambda: 1.8e9, new_id=uuid4).recipients
    assert (part.reply, part.action) == (reply, "reject" if reply else "accept")
    if check == "off":
        assert part.suppressed is UNSET
    else:
        assert part.suppressed is not UNSET
        assert (part.suppressed.rule, part.suppressed.since) == ("sidecar.toml:12", META["since"])
        assert "gone@x.example is on the suppression list: BadDomain since 2026-09-21" in part.because[-1].text


def line_of(check: str, **more: Any) -> bytes:
    """Return the record of a suppressed recipient as the milter wrote it with this check."""
    meta = {"why": "x", "disposition": "relayed" if check == "log" else "rejected_at_rcpt", "suppressed": META}
    response: dict[str, Any] = {"code": 250, "content": ""}
    if check == "reject":
        enhanced = {"class": 5, "subject": 7, "detail": 1}
        response = {"code": 550, "enhanced_code": enhanced, "content": REPLY[10:], "command": "RCPT TO:<gone@x.example>"}
    record = {
        "type": "Rejection" if check == "reject" else "Reception",
        "id": "1",
        "sender": "a@b.example",
        "recipient": "gone@x.example",
        "response": response,
        "peer_address": {"name": "h", "addr": "127.0.0.1"},
        "timestamp": 1_790_100_000,
        "created": 1_790_100_000,
        "meta": meta,
        "reception_protocol": "ESMTP",
    }
    return json.dumps(record | more).encode()


@pytest.mark.parametrize("written", ["log", "reject"])
@pytest.mark.parametrize(
    ("check", "more", "outcome"),
    [
        ("off", {}, Disposition.RELAYED),
        ("log", {}, Disposition.RELAYED),
        ("reject", {}, Disposition.REJECTED_AT_RCPT),
        ("reject", {"sender": ""}, Disposition.RELAYED),
    ],
)
def test_a_record(written: str, check: Any, more: dict[str, Any], outcome: Disposition) -> None:
    """A record with an entry shows what another check would do: after a time of `log`, what `reject` rejects."""
    found = decode(line_of(written, **more))
    assert recorded_answer(found).happened == ("rejected" if written == "reject" else "accepted")
    envelope = envelope_of(found)
    assert envelope.suppressed == ENTRY
    judgement = Evaluator(with_check(check)).judge(envelope)
    assert judgement.outcome == outcome
    (part,) = explanation_of(envelope, judgement).recipients
    assert part.reply == (REPLY if outcome is Disposition.REJECTED_AT_RCPT else None)
