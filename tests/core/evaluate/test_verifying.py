"""Verified reports without an MTA: what a question and a recorded envelope answer under [verify]."""

from typing import Any

import pytest
from msgspec import UNSET
from msgspec.structs import replace

from sidecar.core.evaluate.envelope import envelope_of, recorded_answer
from sidecar.core.evaluate.evaluator import Evaluator, deciding, explanation_of
from sidecar.core.evaluate.explanation import Question
from sidecar.core.records import Logged, encode
from sidecar.core.records.reading import decode
from sidecar.core.settings.proof import VerifySettings
from tests.building import settings
from tests.core.proof.making import MAIL, NOW, SENDER, complaint
from tests.core.session.driving import PLAIN
from tests.core.session.test_verifying import BOTH, DOMAINS, FORGED, OLD, REFUSED, REQUIRED, TOKEN, TRUE, run, section

REQUIRING = section("accept", bounce_sender_example=BOTH)


def evaluator(verify: VerifySettings | None) -> Evaluator:
    return Evaluator(settings(DOMAINS, relay_hosts=["127.0.0.1"], verify=verify))


def records(verify: VerifySettings | None, *recipients: str, report: bytes | None = TRUE) -> list[Logged]:
    """Return the records of a message, as a log has them."""
    return [decode(line) for line in encode(*run(verify, *recipients, report=report)[-1].records).splitlines()]


@pytest.mark.parametrize(
    ("verify", "recipient", "report"),
    [
        (verify, recipient, report)
        for verify in (None, section(), section("reject"), section("quarantine"))
        for recipient, report in (
            (SENDER, TRUE),
            (SENDER, FORGED),
            (TOKEN, FORGED),
            ("b@open.example", FORGED),
            ("b@open.example", PLAIN),
            ("b@keep.example", complaint(MAIL)),
        )
    ]
    + [(REQUIRING, TOKEN, TRUE), (REQUIRING, SENDER, None), (REQUIRING, OLD, None)],
)
def test_records_agree(verify: VerifySettings | None, recipient: str, report: bytes | None) -> None:
    """The configuration that made a record decides the same on it."""
    for record in records(verify, recipient, report=report):
        judgement = evaluator(verify).judge(envelope_of(record))
        assert judgement.outcome == record.disposition, record
        assert recorded_answer(record).happened in {"accepted", "quarantined", "rejected"}
        assert all(reason.text for reason in deciding(judgement))


@pytest.mark.parametrize(
    ("recorded", "verify", "outcome", "place"),
    [
        (section(), section("reject"), "rejected_at_end", "verify.unverified"),
        (section(), section("quarantine"), "quarantined", "verify.unverified"),
        (section(), REQUIRING, "rejected_at_rcpt", "verify.unverified"),
        # A record of before the section does not contain what the report proves.
        (None, section("reject"), "proof_unknown", '"bounce.sender.example".log_oob'),
        (None, section("accept"), "logged_and_dropped", '"bounce.sender.example".log_oob'),
        (section("reject"), section(), "logged_and_dropped", '"bounce.sender.example".log_oob'),
        (section("quarantine"), section(), "logged_and_dropped", '"bounce.sender.example".log_oob'),
        (section("reject"), None, "logged_and_dropped", '"bounce.sender.example".log_oob'),
    ],
)
def test_another_configuration(
    recorded: VerifySettings | None, verify: VerifySettings | None, outcome: str, place: str
) -> None:
    """A recorded unverified report is decided by the rule of the configuration, which is named."""
    record = records(recorded, SENDER, report=FORGED)[-1]
    judgement = evaluator(verify).judge(envelope_of(record))
    assert (judgement.outcome, deciding(judgement)[0].key) == (outcome, place)


@pytest.mark.parametrize(
    ("verify", "recipient", "reply"), [(section("reject"), SENDER, REFUSED), (REQUIRING, SENDER, REQUIRED)]
)
def test_replies(verify: VerifySettings, recipient: str, reply: str) -> None:
    """The explanation of a record has the reply that the peer gets."""
    envelope = replace(envelope_of(records(section(), recipient, report=FORGED)[-1]), at=int(NOW))
    found = explanation_of(envelope, evaluator(verify).judge(envelope))
    assert reply in {found.message.reply, found.recipients[0].reply}


def question(verify: VerifySettings | None, recipient: str, report: bytes) -> Any:
    asked = Question(peer="203.0.113.9:4444", sender="", to=[recipient])
    return evaluator(verify).explain(asked, report, clock=lambda: NOW, new_id=iter(range(1, 99)).__next__)


def test_explanation() -> None:
    """It has the result of each method with the reason, and the rule that rejects. Without the section it has nothing."""
    found = question(section("reject"), OLD, FORGED).message
    assert (found.action, found.reply) == ("reject", REFUSED)
    assert [(one.method, one.result) for one in found.verification.methods] == [
        ("dkim", "absent"),
        ("header", "absent"),
        ("address", "invalid"),
    ]
    assert "older than 30 days" in found.verification.methods[2].why
    assert [reason.key for reason in found.verification.because] == ["verify.unverified"]
    found = question(section("reject"), TOKEN, TRUE).message
    assert [one.result for one in found.verification.methods] == ["valid"] * 3
    assert found.verification.because == []
    assert question(None, TOKEN, TRUE).message.verification is UNSET


def test_required_address() -> None:
    """At RCPT the reason says what is wrong with the token."""
    (found,) = question(REQUIRING, OLD, TRUE).recipients
    assert (found.reply, found.because[0].key) == (REQUIRED, "verify.unverified")
    assert "older than 30 days" in found.because[0].text
