"""Why was this accepted or rejected: every kind of record under one configuration, with what decided and what to change."""

import json
from functools import reduce
from typing import Any

import msgspec
import pytest

from sidecar.core.disposition import Disposition
from sidecar.core.evaluate.envelope import envelope_of
from sidecar.core.evaluate.evaluator import Evaluator
from sidecar.core.evaluate.recorded.explanation import Explainer, RecordExplanation
from sidecar.core.evaluate.recorded.follow_up import Entry, with_follow_ups
from sidecar.core.evaluate.recorded.words import decision
from sidecar.core.records import encode
from sidecar.core.settings.settings import Settings
from sidecar.output.streams import print_json
from tests.building import entry, settings
from tests.core.evaluate.recorded.samples import NOT_PERMITTED, entry_of, logged, ours, record, rejection
from tests.core.evaluate.recorded.worlds import applied
from tests.core.session.driving import ARF, OOB, PLAIN, content, envelope, hello, play, session

DOMAINS = [
    entry("*", log_oob="LogThenRelay", log_arf="LogThenRelay"),
    entry("bounce.example.com", log_oob="LogThenDrop"),
    entry("open.example", relay_to=True),
    entry("send.example", relay_from=["198.51.100.0/24"]),
    entry("auth.example", relay_from_authz=["daniel"]),
    entry("closed.example", log_oob="Ignore"),
    entry("there.example", "10.1.1.1:25", relay_to=True),
]
UNDER = settings(DOMAINS, relay_hosts=["127.0.0.1", "192.168.1.0/24"])
RELAY_HOST = "192.168.1.7"


def explained(*made: dict[str, Any], under: Settings = UNDER) -> list[RecordExplanation]:
    explainer = Explainer(Evaluator(under))
    return [explainer.explain(it) for it in with_follow_ups([entry_of(one) for one in made])]


def places(explanation: RecordExplanation) -> list[str | None]:
    return [it.key for it in explanation.decided]


def changes(explanation: RecordExplanation) -> list[tuple[str | None, tuple[str, ...]]]:
    return [] if explanation.fix is None else [(it.key, it.lines) for it in explanation.fix.changes]


def test_the_question_of_the_project() -> None:
    """The external host reached RCPT because `*` accepts reports, and the record does not mean that its message was relayed."""
    (it,) = explained(
        record(
            sender="test@test.com",
            recipient="mmiihhww09@gmail.com",
            peer_address={"name": "WIN-CLJ1B0GQ6JP", "addr": "91.92.251.215"},
            queue="default@gmail.com",
        )
    )
    assert (it.happened, it.outcome, it.agrees) == ("accepted", "content_unknown", None)
    assert it.connect is not None
    assert it.connect.deferred
    assert [(part.action, part.relay) for part in it.recipients] == [("accept", False)]
    assert places(it) == ['"*".log_oob', '"*".log_arf']
    assert changes(it) == [
        ('"*".log_oob', ("log_oob = false",)),
        ('"*".log_arf', ("log_arf = false",)),
        (None, ('["fbl.example.com"]', 'log_arf = "LogThenDrop"')),
    ]
    assert it.fix is not None
    assert "rejected at RCPT" in it.fix.then
    assert "does not mean that the message was relayed" in it.notes[0]
    assert "same peer" in it.notes[0]


STRANGERS_OWN = {"recipient": "x@other.test"}


@pytest.mark.parametrize(
    ("made", "outcome", "agrees", "decided", "changed"),
    [
        # Accepted, and why.
        (record(peer=RELAY_HOST), "relayed", True, ["relay_hosts"], ["relay_hosts"]),
        (record(peer=f"::ffff:{RELAY_HOST}"), "relayed", True, ["relay_hosts"], ["relay_hosts"]),
        (record(recipient="x@open.example"), "relayed", True, ['"open.example".relay_to'], ['"open.example".relay_to']),
        (
            record(peer="198.51.100.9", sender="a@send.example"),
            "relayed",
            True,
            ['"send.example".relay_from'],
            ['"send.example".relay_from'],
        ),
        (
            ours(sender="a@auth.example", meta={"authz_id": "daniel"}),
            "relayed",
            True,
            ['"auth.example".relay_from_authz'],
            ['"auth.example".relay_from_authz'],
        ),
        (
            ours("Feedback", **STRANGERS_OWN),
            "logged_and_relayed",
            True,
            ['"*".log_arf'],
            ['"*".log_oob', '"*".log_arf', None],
        ),
        (
            record("OOB", sender="b@bounce.example.com"),
            "logged_and_dropped",
            True,
            ['"bounce.example.com".log_oob'],
            ['"bounce.example.com".log_oob'],
        ),
        (
            ours(recipient="b@bounce.example.com"),
            "content_unknown",
            True,
            ['"bounce.example.com".log_oob'],
            ['"bounce.example.com".log_oob'],
        ),
        (
            record(recipient="x@there.example", meta={"received_via": "10.1.1.1:25"}),
            "relayed",
            True,
            ['listener."10.1.1.1:25"."there.example".relay_to'],
            ['listener."10.1.1.1:25"."there.example".relay_to'],
        ),
        # Accepted then, rejected today: nothing is left to change.
        (record(recipient="x@closed.example"), "rejected_at_rcpt", False, ['"closed.example"', "relay_hosts"], []),
        (
            record("Feedback", recipient="b@bounce.example.com"),
            "rejected_at_end",
            False,
            ['"bounce.example.com".log_oob'],
            [],
        ),
        # Rejected, and what makes it accepted.
        (
            rejection("RCPT TO:<x@closed.example>"),
            "rejected_at_rcpt",
            True,
            ['"closed.example"', "relay_hosts"],
            ['"closed.example"', '"closed.example"', "relay_hosts"],
        ),
        (
            ours("Rejection", answer=(550, NOT_PERMITTED, "DATA"), recipient="x@bounce.example.com"),
            "rejected_at_end",
            True,
            ['"bounce.example.com".log_oob'],
            ['"bounce.example.com"', "relay_hosts"],
        ),
        (rejection("end"), "recipients_unknown", None, ["relay_hosts", '"*".log_oob'], []),
        # Rejected then, accepted today.
        (rejection("RCPT TO:<x@open.example>"), "relayed", False, ['"open.example".relay_to'], []),
        (rejection("rcpt"), "content_unknown", False, ['"*".log_oob', '"*".log_arf'], []),
        (
            ours("Rejection", recipient="", answer=(550, NOT_PERMITTED, "CONNECT")),
            "recipients_unknown",
            False,
            ["relay_hosts", '"*".log_oob'],
            [],
        ),
        # No decision of the policy.
        (rejection("rcpt", code=451, content="later"), "content_unknown", None, ['"*".log_oob', '"*".log_arf'], []),
        (
            rejection("end", code=552, content="too big", recipient=["x@open.example"]),
            "relayed",
            None,
            ['"open.example".relay_to'],
            [],
        ),
        # Kept unread.
        (
            ours(recipient="b@bounce.example.com", meta={"quarantine": "x.eml"}),
            "rejected_at_end",
            False,
            ['"bounce.example.com".log_oob'],
            [],
        ),
    ],
)
def test_one_record(
    made: dict[str, Any], outcome: str, agrees: bool | None, decided: list[str], changed: list[str | None]
) -> None:
    """What this configuration makes of it, whether the record agrees, the lines that decide and those to change."""
    (it,) = explained(made)
    assert (it.outcome, it.agrees) == (outcome, agrees)
    assert places(it) == decided
    assert [key for key, _ in changes(it)] == changed
    assert it.fix is None or (it.fix.aim == "reject") == (it.happened in {"accepted", "quarantined"})


def test_the_envelope_is_told() -> None:
    """From and to are the envelope's, also where the record has others in these fields; the bounce's reply is no answer."""
    bounce = record("OOB", sender="b@bounce.example.com", recipient="gone@isp.test", answer=(550, "5.1.1 gone", None))
    rejected = rejection("rcpt", recipient=["last.accepted@a.example"])
    for made, to, response in ((bounce, "b@bounce.example.com", ""), (rejected, "x@a.example", f"550 {NOT_PERMITTED}")):
        (it,) = explained(made)
        assert (it.record.to, it.record.response) == ([to], response)


def test_quarantine() -> None:
    """What is kept unread is so by this configuration, too, if it says so."""
    under = settings(DOMAINS, unparsable_reports="quarantine")
    (it,) = explained(ours(recipient="b@bounce.example.com", meta={"quarantine": "x.eml"}), under=under)
    assert (it.happened, it.outcome, it.agrees) == ("quarantined", "quarantined", True)
    assert it.message is not None
    assert it.message.action == "discard"


@pytest.mark.parametrize(
    ("message", "taken", "offered", "what"), [(OOB, "log_arf", "log_oob", "bounces"), (ARF, "log_oob", "log_arf", "complaints")]
)
def test_a_report_of_the_other_kind(message: bytes, taken: str, offered: str, what: str) -> None:
    """A report that was rejected because its domain accepts the other kind is first offered its own key, then wider changes."""
    under = settings([entry("r.example", **{taken: "LogThenRelay"})])
    *_, last = play(session(under), [*hello(), *envelope(["x@r.example"]), *content(message)])
    (made,) = last.records
    (it,) = explained(json.loads(encode(made)), under=under)
    assert (it.outcome, it.agrees) == ("rejected_at_end", True)
    assert changes(it) == [
        ('"r.example"', (f'{offered} = "LogThenDrop"',)),
        ('"r.example"', ("relay_to = true",)),
        ("relay_hosts", ('relay_hosts = ["127.0.0.1", "::1", "203.0.113.9"]',)),
    ]
    assert it.fix is not None
    assert it.fix.changes[0].text == f"If {what} return to r.example, let it accept them."
    after = Evaluator(reduce(applied, it.fix.changes[:1], under))
    assert after.judge(envelope_of(logged(json.loads(encode(made))))).outcome == "logged_and_dropped"


def test_a_message_that_is_no_report() -> None:
    """No report is offered for other mail; for KumoMTA's pair of records, only the kind that the domain does not accept."""
    under = settings([entry("r.example", log_arf="LogThenRelay")])
    *_, last = play(session(under), [*hello(), *envelope(["x@r.example"]), *content(PLAIN)])
    (made,) = last.records
    (it,) = explained(json.loads(encode(made)), under=under)
    assert next(lines for _, lines in changes(it)) == ("relay_to = true",)
    it, _ = explained(record(recipient="x@r.example"), rejection("end"), under=under)
    assert (it.follow_up, [lines for _, lines in changes(it)][:2]) == (
        "rejected",
        [('log_oob = "LogThenDrop"',), ("relay_to = true",)],
    )


def test_rejected_at_connect() -> None:
    """If external hosts can send nothing, the connection decides, and the advice names the peer."""
    (it,) = explained(ours("Rejection", recipient="", answer=(550, NOT_PERMITTED, "CONNECT")), under=settings([]))
    assert (it.outcome, it.agrees) == ("rejected_at_connect", True)
    assert it.connect is not None
    assert it.connect.reply == "550 5.7.1 relaying not permitted for 203.0.113.9"
    assert [lines[0] for _, lines in changes(it)] == [
        '["bounce.example.com"]',
        '["fbl.example.com"]',
        'relay_hosts = ["127.0.0.1", "::1", "203.0.113.9"]',
    ]


def test_recipients_with_different_fates() -> None:
    """Each recipient has its own answer; the message is relayed to those that may have it."""
    (it,) = explained(record(recipient=["x@closed.example", "x@open.example", "x@bounce.example.com"]))
    assert [(part.action, part.relay) for part in it.recipients] == [("reject", False), ("accept", True), ("accept", False)]
    assert (it.outcome, it.agrees) == ("relayed", False)


@pytest.mark.parametrize(
    ("made", "follow_up", "outcome", "agrees", "note"),
    [
        ([record(), rejection("end")], "rejected", "rejected_at_end", True, "KumoMTA writes the Reception first"),
        (
            [record(recipient="x@bounce.example.com"), record("OOB", sender="x@bounce.example.com")],
            "bounce_report",
            "logged_and_dropped",
            True,
            "OOB record has the same id",
        ),
        ([record(), record("Delivery")], "outgoing", "content_unknown", None, "was sent on"),
        # Only what drops reports is known: it cannot have been one.
        ([record(recipient="x@bounce.example.com"), record("Delivery")], "outgoing", "content_unknown", False, "was sent on"),
        ([record(recipient="x@open.example"), rejection("end")], "rejected", "relayed", False, "rejected"),
        ([record(recipient="x@closed.example"), rejection("end")], "rejected", "rejected_at_rcpt", True, "rejected"),
    ],
)
def test_what_the_log_says_later(
    made: list[dict[str, Any]], follow_up: str, outcome: str, agrees: bool | None, note: str
) -> None:
    """A Reception of KumoMTA's is classified by the records that follow it."""
    it = explained(*made)[0]
    assert (it.follow_up, it.outcome, it.agrees) == (follow_up, outcome, agrees)
    assert note in it.notes[0]


@pytest.mark.parametrize(
    ("made", "note"),
    [
        (record(session_id="5f3c"), "in the same session (5f3c)"),
        (ours(), "writes no Reception for a rejected message"),
        (rejection("end"), "the Reception just before it"),
        (rejection("rcpt", code=451, content="later"), "not a decision of the policy"),
        (rejection("EHLO x", code=500, content="5.5.2 what?"), "not from the listener policy"),
        (ours("Rejection", recipient="", answer=(550, NOT_PERMITTED, None), meta={"count": 7}), "stands for 7 rejections"),
        (record(recipient=[]), "contains no recipient"),
        (record(recipient="x@closed.example"), "would reject it"),
        (rejection("RCPT TO:<x@open.example>"), "would accept it"),
        (record("Bounce"), "outgoing mail"),
        (record("Suppression"), "is a change of the suppression list"),
    ],
)
def test_notes(made: dict[str, Any], note: str) -> None:
    """What has to be known before a record is believed is said."""
    (it,) = explained(made)
    assert any(note in printed for printed in it.notes)


def test_a_login_that_is_not_told() -> None:
    """If the login would decide, the record neither agrees nor disagrees, and a note says how to log it."""
    under = settings([entry("login.example", relay_from_authz=["daniel"])])
    made = record(sender="a@login.example", recipient="x@closed.example", tls_cipher="TLS13_AES_256")
    (it,) = explained(made, under=under)
    assert (it.outcome, it.agrees, it.fix) == ("rejected_at_rcpt", None, None)
    assert any("lists received_via and authz_id" in printed for printed in it.notes)


def test_the_listener() -> None:
    """If rules apply only to one listener, a record without the listener is judged with a note."""
    note = "the record does not contain the listener"
    assert any(note in printed for printed in explained(record())[0].notes)
    assert not any(note in printed for printed in explained(record(meta={"listener": "10.1.1.1:25"}))[0].notes)
    assert not any(note in printed for printed in explained(record(), under=settings(DOMAINS[:2]))[0].notes)


def test_addresses_that_are_none() -> None:
    """An address that no configuration accepts has nothing to change."""
    (it,) = explained(
        ours("Rejection", recipient="x\x00@a.example", answer=(553, "this recipient address cannot be read", None))
    )
    assert (it.happened, it.outcome) == ("rejected_for_other_reason", "rejected_at_rcpt")
    assert it.recipients[0].reply == "553 5.1.3 this recipient address cannot be read"
    (it,) = explained(rejection("RCPT TO:<x\x00@a.example>"))
    assert it.fix is None


def test_many_domains() -> None:
    """A message to hundreds of domains is not answered with hundreds of changes."""
    under = settings([entry("*.example", relay_to=True)])
    (it,) = explained(record(recipient=[f"x@{number}.example" for number in range(300)]), under=under)
    assert it.fix is not None
    assert (len(it.fix.changes), it.fix.more) == (8, 292)


@pytest.mark.parametrize(
    ("more", "time"),
    [
        ({"event_time": "2026-07-02T18:55:38.250000Z"}, "2026-07-02T18:55:38.250000Z"),
        ({"timestamp": 1_783_018_538}, "2026-07-02T18:55:38.000000Z"),
        ({"timestamp": 10**18}, ""),
        ({"timestamp": -1}, ""),
    ],
)
def test_times(more: dict[str, Any], time: str) -> None:
    """The time is the record's own, or made of its seconds; what is no time is left out."""
    (it,) = explained(record(**more))
    assert it.record.time == time


def test_the_shape(capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    """The keys of the JSON object are for ever."""
    (it,) = explained(ours("Rejection", answer=(550, NOT_PERMITTED, "DATA"), recipient="x@\x9b1m.example", session_id="s"))
    print_json(it)
    line = capsysbinary.readouterr().out
    assert b"\xc2\x9b" not in line
    assert line.count(b"\n") == 1
    printed = json.loads(line)
    assert list(printed) == [
        "record",
        "happened",
        "follow_up",
        "disposition",
        "undecided",
        "agrees",
        "decided",
        "connect",
        "recipients",
        "message",
        "fix",
        "notes",
    ]
    assert list(printed["record"]) == [
        "file",
        "line",
        "type",
        "id",
        "time",
        "peer",
        "listener",
        "auth",
        "from",
        "to",
        "command",
        "response",
        "why",
        "count",
    ]
    (it,) = explained(record())
    printed = msgspec.to_builtins(it)
    assert list(printed["fix"]) == ["aim", "apply", "changes", "more", "then"]
    assert list(printed["fix"]["changes"][0]) == ["text", "file", "line", "key", "lines", "opens", "concerns"]
    assert list(printed["decided"][0]) == ["file", "line", "key", "value", "text"]


def test_a_line_that_is_no_record() -> None:
    """What cannot be judged raises what it lacks."""
    explainer = Explainer(Evaluator(UNDER))
    with pytest.raises(ValueError, match="broken"):
        explainer.explain(Entry(file="log", line=1, size=0, fault="broken"))
    with pytest.raises(ValueError, match="peer's address"):
        explainer.explain(entry_of(record(peer_address=None)))


def test_a_recipient_that_was_dropped() -> None:
    """It has a Reception; a configuration that accepts only reports for it agrees, one that relays to it does not."""
    under = settings([entry("bounce.example.com", log_oob="LogThenDrop"), entry("open.example", relay_to=True)])
    recipients = ["b@bounce.example.com", "o@open.example"]
    outcome = play(session(under), [*hello(), *envelope(recipients), *content(PLAIN)])[-1]
    records = [json.loads(encode(one)) for one in outcome.records]
    dropped, relayed = explained(*records, under=under)
    assert (dropped.happened, dropped.outcome, dropped.agrees) == ("dropped", "rejected_at_end", True)
    assert decision(dropped, Disposition.REJECTED_AT_END) == (
        "accepts the recipient, and does not accept the message for it, as the record says"
    )
    assert dropped.notes == ["Such a message to this recipient alone is rejected at its end."]
    assert (relayed.happened, relayed.outcome, relayed.agrees) == ("accepted", "relayed", True)
    opened = settings([entry("bounce.example.com", relay_to=True), entry("open.example", relay_to=True)])
    dropped, relayed = explained(*records, under=opened)
    assert (dropped.outcome, dropped.agrees, relayed.agrees) == ("relayed", False, True)
    assert not any("alone" in note for note in dropped.notes)
