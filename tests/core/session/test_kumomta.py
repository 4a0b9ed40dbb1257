"""`compat = "kumomta"`: what a session records and reads as KumoMTA does, and what stays as it is."""

from typing import Any

import msgspec
import pytest

from sidecar.core.evaluate.envelope import envelope_of, recorded_answer
from sidecar.core.evaluate.evaluator import Evaluator
from sidecar.core.evaluate.explanation import Question
from sidecar.core.records import Logged, Record, decode, encode
from sidecar.core.session.verdicts import Accept, Discard, Reject, Verdict
from sidecar.core.settings.settings import Settings
from tests.building import entry, settings
from tests.core.session.driving import ARF, NOON, OOB, PLAIN, content, envelope, headers_of, hello, play, session, world

DOMAINS = (entry("bounce.example.com", log_oob="LogThenDrop"), entry("fbl.example.com", log_arf="LogThenDrop"))
SLOPPY = OOB.replace(b"Action: failed", b"Action: Failed")
TO = "b@bounce.example.com"


def kumo_settings(**more: Any) -> Settings:
    return settings(DOMAINS, reject_at_connect=False, compat="kumomta", **more)


def outcome_of(message: bytes, *recipients: str, made: Settings | None = None) -> tuple[Verdict, tuple[Record, ...]]:
    """Let an external host bring a message, and give the last verdict with its records."""
    it = session(kumo_settings() if made is None else made)
    outcomes = play(it, [*hello(), *envelope(recipients, sender="a@b.example"), *content(message)])
    return outcomes[-1].verdict, outcomes[-1].records


def logged(record: Record) -> Logged:
    return decode(encode(record))


def test_a_reception_before_a_refusal() -> None:
    """A message that the policy refuses at its end is recorded as received first, then as refused without its envelope."""
    verdict, (received, second, refused) = outcome_of(
        PLAIN, TO, "c@bounce.example.com", made=kumo_settings(headers=("subject",))
    )
    assert isinstance(verdict, Reject)
    assert (received.type, received.response.code, received.recipient) == ("Reception", 250, TO)
    assert (second.type, second.response.code, second.recipient) == ("Reception", 250, "c@bounce.example.com")
    assert received.id != second.id
    assert (received.sender, received.queue) == ("a@b.example", "bounce.example.com")
    assert received.size == len(PLAIN.partition(b"Just")[0])  # as far as it was seen: the verdict came before the body
    assert headers_of(received) == {"Subject": "hello"}
    assert len(received.id) == 32
    assert (refused.type, refused.response.code, refused.response.command) == ("Rejection", 550, "DATA")
    assert (refused.id, refused.sender, refused.recipient, refused.queue) == ("", "", "", "")
    assert refused.headers == {}
    assert received.session_id == refused.session_id
    assert received.meta["why"] == refused.meta["why"]


@pytest.mark.parametrize(("accepted", "expected"), [([], ""), ([TO], TO), ([TO, "c@fbl.example.com"], "c@fbl.example.com")])
def test_the_recipient_of_a_refusal_at_rcpt(accepted: list[str], expected: str) -> None:
    """It is the last one that was accepted; the refused one stands in the command."""
    it = session(kumo_settings())
    outcomes = play(it, [*hello(), *envelope([*accepted, "x@closed.example"], sender="a@b.example")])
    (record,) = outcomes[-1].records
    assert (record.type, record.id, record.sender, record.recipient) == ("Rejection", "", "a@b.example", expected)
    assert record.response.command == "RCPT TO:<x@closed.example>"
    assert record.created == record.timestamp == int(NOON)


@pytest.mark.parametrize("message", [OOB, ARF])
def test_reports_are_taken_as_ever(message: bytes) -> None:
    """A report that KumoMTA can read has the same records, but for the mark in their meta, and what only ours have there."""
    recipient = TO if message is OOB else "c@fbl.example.com"
    verdict, records = outcome_of(message, recipient)
    plain_verdict, plain = outcome_of(message, recipient, made=settings(DOMAINS))
    assert verdict == plain_verdict == Discard()
    assert all(record.meta["compat"] == "kumomta" for record in records)
    unmarked = [msgspec.structs.replace(one, meta={k: v for k, v in one.meta.items() if k != "compat"}) for one in records]
    ours = {"read_as", "derived"}
    without = [msgspec.structs.replace(one, meta={k: v for k, v in one.meta.items() if k not in ours}) for one in plain]
    assert list(map(_undefined, unmarked)) == list(map(_undefined, without))
    assert all(record.feedback_report.original_mail_from is None for record in records if record.feedback_report)


def _undefined(record: Record) -> Record:
    """Return a record without the sender that only the returned message of ARF has."""
    if record.feedback_report is None:
        return record
    report = msgspec.structs.replace(record.feedback_report, original_mail_from=None)
    return msgspec.structs.replace(record, feedback_report=report)


def test_a_sloppy_report_is_none() -> None:
    """What KumoMTA cannot read is refused, and taken without the setting; the reason says what is wrong with it."""
    verdict, (_, refused) = outcome_of(SLOPPY, TO)
    assert isinstance(verdict, Reject)
    assert "its action is invalid" in refused.meta["why"]
    assert outcome_of(SLOPPY, TO, made=settings(DOMAINS))[0] == Discard()


def test_what_is_too_big_was_never_received() -> None:
    """A rejection above a limit has no Reception, and has the envelope: KumoMTA answers before it releases that."""
    recipients = (TO, "c@bounce.example.com")
    verdict, records = outcome_of(OOB + b"x" * 2000, *recipients, made=kumo_settings(report_size_limit=1000))
    assert isinstance(verdict, Reject)
    (record,) = records
    assert (record.type, record.id, record.response.command) == ("Rejection", "", "DATA")
    assert (record.sender, record.recipient) == ("a@b.example", recipients[-1])


def test_nobody_is_refused_at_connect() -> None:
    """Where nothing is permitted an external host hears so at RCPT."""
    made = settings((), reject_at_connect=False, compat="kumomta")
    outcomes = play(session(made), [*hello(), *envelope([TO])])
    assert [len(outcome.records) for outcome in outcomes] == [0, 0, 0, 1]
    assert isinstance(outcomes[-1].verdict, Reject)


def test_relayed_mail_is_accepted() -> None:
    """A relay host's mail has a Reception and nothing else."""
    made = kumo_settings()
    outcomes = play(session(made), [*hello("127.0.0.1"), *envelope(["x@any.example"]), *content(PLAIN)])
    assert outcomes[-1].verdict == Accept()
    assert [record.type for record in outcomes[-1].records] == ["Reception"]


def test_hindsight_reads_them_as_kumomtas() -> None:
    """A record is explained like one of KumoMTA's: its recipient is in the command."""
    it = session(kumo_settings())
    refused = logged(play(it, [*hello(), *envelope([TO, "x@closed.example"])])[-1].records[0])
    assert not recorded_answer(refused).is_ours
    assert envelope_of(refused).recipients == ("x@closed.example",)
    received, at_end = map(logged, outcome_of(PLAIN, TO)[1])
    assert [recorded_answer(one).happened for one in (received, at_end)] == ["accepted", "rejected"]


@pytest.mark.parametrize(("compat", "action"), [(None, "discard"), ("kumomta", "reject")])
def test_explain_follows(compat: str | None, action: str) -> None:
    """An explanation is made with the same session."""
    made = settings(DOMAINS, compat=compat)
    question = Question(peer="203.0.113.9:4444", sender="", to=[TO])
    explained = Evaluator(made).explain(question, SLOPPY, clock=world().clock, new_id=world().new_id)
    assert explained.message.action == action
    assert [record.type for record in explained.message.records][-1] == ("OOB" if compat is None else "Rejection")
