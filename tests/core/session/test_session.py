"""One SMTP connection from its events to its verdicts and records."""

from typing import Any

import msgspec
import pytest

from sidecar.config.rules import iana_rules
from sidecar.core.records import Tls, encode
from sidecar.core.session.events import Abort, Body, Connect, EndOfHeaders, EndOfMessage, Event, Header, Helo
from sidecar.core.session.verdicts import Accept, Continue, Discard, Outcome, Reject, Tempfail
from sidecar.core.settings.settings import Settings
from tests.building import entry, settings
from tests.core.session.driving import (
    ARF,
    BROKEN,
    EXTERNAL,
    LISTENER,
    NODE,
    NOON,
    OOB,
    PLAIN,
    RELAY_HOST,
    content,
    envelope,
    hello,
    play,
    session,
)

DROP, RELAY, FBL, OPEN, BOTH = (
    "b@bounce.example.com",
    "r@relay.example.com",
    "f@fbl.example.com",
    "o@open.example",
    "t@both.example",
)
DOMAINS = [
    entry("bounce.example.com", log_oob="LogThenDrop"),
    entry("relay.example.com", log_oob="LogThenRelay"),
    entry("fbl.example.com", log_arf="LogThenRelay"),
    entry("both.example", relay_to=True, log_oob="LogThenDrop", log_arf="LogThenDrop"),
    entry("open.example", relay_to=True),
    entry("auth.example", relay_from_authz=["daniel"]),
]


def deliver(message: bytes, *recipients: str, peer: object = EXTERNAL, under: Settings | None = None) -> Outcome:
    """Send one message through a fresh session; give the outcome that ended it."""
    return play(session(under or settings(DOMAINS)), [*hello(peer), *envelope(recipients), *content(message)])[-1]


def types(outcome: Outcome) -> list[str]:
    return [record.type for record in outcome.records]


def logged(outcome: Outcome, number: int = 0) -> dict[str, Any]:
    """Return a record as its readers see it."""
    record: dict[str, Any] = msgspec.json.decode(encode(outcome.records[number]))
    return record


NOT_PERMITTED = "550 5.7.1 relaying not permitted"
MESSAGES = [
    # message, recipients, peer, verdict, records, durable
    (PLAIN, [OPEN], EXTERNAL, Accept(), ["Reception"], False),
    (PLAIN, ["a@else.example"], RELAY_HOST, Accept(), ["Reception"], False),
    (PLAIN, [DROP], EXTERNAL, NOT_PERMITTED, ["Rejection"], False),
    (PLAIN, [FBL, DROP], EXTERNAL, NOT_PERMITTED, ["Rejection"], False),
    (BROKEN, [DROP], EXTERNAL, NOT_PERMITTED, ["Rejection"], False),
    (OOB, [FBL], EXTERNAL, NOT_PERMITTED, ["Rejection"], False),
    (ARF, [DROP], EXTERNAL, NOT_PERMITTED, ["Rejection"], False),
    (OOB, [DROP], EXTERNAL, Discard(), ["Reception", "OOB"], True),
    (OOB, [RELAY], EXTERNAL, Accept(), ["Reception", "OOB"], True),
    (OOB, [OPEN], EXTERNAL, Accept(), ["Reception"], False),
    (OOB, [DROP], RELAY_HOST, Discard(), ["Reception", "OOB"], True),
    (PLAIN, [DROP], RELAY_HOST, Accept(), ["Reception"], False),
    (BROKEN, [DROP], RELAY_HOST, Accept(), ["Reception"], False),
    (ARF, [FBL], EXTERNAL, Accept(), ["Feedback"], True),
    (ARF, [BOTH], EXTERNAL, Discard(), ["Feedback"], True),
    (OOB, [BOTH], EXTERNAL, Discard(), ["Reception", "OOB"], True),
    (PLAIN, [BOTH], EXTERNAL, Accept(), ["Reception"], False),
    (OOB, [DROP, RELAY], EXTERNAL, Accept(without=(f"<{DROP}>",)), ["Reception", "OOB"] * 2, True),
    (PLAIN, [DROP, OPEN], EXTERNAL, Accept(without=(f"<{DROP}>",)), ["Reception"] * 2, False),
    (ARF, [DROP, FBL, OPEN], EXTERNAL, Accept(without=(f"<{DROP}>",)), ["Reception", "Feedback", "Reception"], True),
    (OOB, [OPEN, DROP, OPEN], EXTERNAL, Accept(without=(f"<{DROP}>",)), ["Reception", "Reception", "OOB", "Reception"], True),
]


@pytest.mark.parametrize(("message", "recipients", "peer", "verdict", "records", "durable"), MESSAGES)
def test_message(
    message: bytes,
    recipients: list[str],
    peer: object,
    verdict: object,
    records: list[str],
    durable: bool,
) -> None:
    """The message ends as the policy reference says, with its records, and reports are durable."""
    outcome = deliver(message, *recipients, peer=peer)
    given = str(outcome.verdict.reply) if isinstance(outcome.verdict, Reject) else outcome.verdict
    assert given == verdict
    assert types(outcome) == records
    assert outcome.durable == durable
    assert all(record.meta["why"] for record in outcome.records)
    assert outcome.decision is not None


@pytest.mark.parametrize(
    ("port", "peer", "name"),
    [
        (4444, "203.0.113.9", "203.0.113.9:4444"),
        (None, "203.0.113.9", "203.0.113.9"),
        (4444, "2001:db8::9", "[2001:db8::9]:4444"),
        (None, "2001:db8::9", "[2001:db8::9]"),
    ],
)
def test_refused_recipient(port: int | None, peer: str, name: str) -> None:
    """The reply to a rejected recipient has the peer's address, and there is a Rejection; the others continue."""
    it = session(settings(DOMAINS))
    refused, accepted = play(it, [*hello(peer, port=port), *envelope(["x@else.example", OPEN], sender="s@t.example")])[-2:]
    assert isinstance(refused.verdict, Reject)
    assert str(refused.verdict.reply) == f"550 5.7.1 relaying not permitted for {name}"
    assert isinstance(accepted.verdict, Continue)
    assert logged(refused) == {
        "type": "Rejection",
        "id": "",
        "sender": "s@t.example",
        "recipient": "x@else.example",
        "queue": "",
        "site": "",
        "size": 0,
        "response": {
            "code": 550,
            "enhanced_code": {"class": 5, "subject": 7, "detail": 1},
            "content": f"relaying not permitted for {name}",
            "command": "RCPT TO:<x@else.example>",
        },
        "peer_address": {"name": "peer.example.net", "addr": peer},
        "timestamp": int(NOON),
        "event_time": "2026-09-21T14:13:20.250000Z",
        "created": int(NOON),
        "created_time": "2026-09-21T14:13:20.250000Z",
        "num_attempts": 0,
        "bounce_classification": "Uncategorized",
        "egress_pool": None,
        "egress_source": None,
        "source_address": None,
        "feedback_report": None,
        "meta": {
            "why": f"no listener domain matches else.example; {peer} is not in relay_hosts (sidecar.toml:1 relay_hosts)",
            "disposition": "rejected_at_rcpt",
            "listener": LISTENER,
        },
        "headers": {},
        "delivery_protocol": None,
        "reception_protocol": None,
        "nodeid": NODE,
        "session_id": it.session_id,
    }


def test_reception_record() -> None:
    """A Reception has the envelope, the size from the MTA, 250, and the rule that accepted the message."""
    record = logged(deliver(BROKEN, DROP, peer=RELAY_HOST))
    assert record["size"] == len(BROKEN)
    assert record["recipient"] == DROP
    assert record["queue"] == "bounce.example.com"
    assert record["response"] == {"code": 250, "enhanced_code": None, "content": "", "command": None}
    assert record["reception_protocol"] == "ESMTP"
    assert record["id"] == f"{int(record['id'], 16):032x}"
    assert record["meta"] == {
        "why": "127.0.0.1 is a relay host: 127.0.0.1 is in relay_hosts (sidecar.toml:1 relay_hosts)",
        "disposition": "relayed",
        "message_id": record["id"],
        "queue_id": "4ABC",
        "listener": LISTENER,
    }


def test_oob_record() -> None:
    """An OOB record speaks of the original message: its sender, its recipient, the reporter's reply and time."""
    reception, oob = (logged(deliver(OOB, DROP), number) for number in (0, 1))
    assert oob["id"] == reception["id"]
    assert (reception["size"], oob["size"]) == (len(OOB), 0)
    assert (oob["sender"], oob["recipient"], oob["queue"]) == (DROP, "alias@example.net", "bounce.example.com")
    assert oob["peer_address"] == {"name": "mx.example.net", "addr": str(EXTERNAL)}
    assert oob["response"] == {
        "code": 550,
        "enhanced_code": {"class": 5, "subject": 1, "detail": 1},
        "content": "5.1.1 no such user",
        "command": None,
    }
    assert (oob["timestamp"], oob["event_time"]) == (1783018538, "2026-07-02T18:55:38.000000Z")
    assert oob["meta"]["why"] == (
        'a bounce report for bounce.example.com, logged and dropped (domains.toml:2 "bounce.example.com".log_oob)'
    )


@pytest.mark.parametrize(
    ("diagnostic", "code", "content"),
    [
        (b"smtp; 552 5.2.2 mailbox full", 552, "5.2.2 mailbox full"),
        (b"SMTP; 452 later", 452, "later"),
        (b"smtp; mailbox full", 550, "mailbox full"),
        (b"smtp; 550-5.1.1 no such 550 5.1.1 user", 550, "550-5.1.1 no such 550 5.1.1 user"),
        (b"smtp; 550", 550, "550"),
        (b"smtp; 70000 what", 550, "70000 what"),
        (b"x-unix; exit 67", 550, ""),
    ],
)
def test_oob_response(diagnostic: bytes, code: int, content: str) -> None:
    """The response comes from an SMTP diagnostic: CODE and the rest, or 550 and all of it; otherwise 550 and nothing."""
    response = logged(deliver(OOB.replace(b"smtp; 550 5.1.1 no such user", diagnostic), DROP), 1)["response"]
    assert (response["code"], response["content"]) == (code, content)


def test_feedback_record() -> None:
    """A feedback report is recorded as Feedback, in the Reception's place, with what it says."""
    outcome = deliver(ARF, FBL)
    record = logged(outcome)
    assert record["feedback_report"]["feedback_type"] == "abuse"
    assert record["feedback_report"]["original_message"] == "From: news@example.com\nSubject: news\n\nNews.\n"
    assert (record["size"], record["reception_protocol"]) == (len(ARF), "ESMTP")


def facts_of(outcome: Outcome, *names: str) -> list[tuple[Any, ...]]:
    """Return these fields of each record, or entries of its meta."""
    records = [logged(outcome, number) for number in range(len(outcome.records))]
    return [tuple(record[name] if name in record else record["meta"][name] for name in names) for record in records]


def test_each_recipient_has_its_own_record() -> None:
    """A message has a record for each recipient, with its own domain, disposition and reason."""
    outcome = deliver(PLAIN, DROP, OPEN, BOTH)
    assert facts_of(outcome, "recipient", "queue", "disposition") == [
        (DROP, "bounce.example.com", "dropped"),
        (OPEN, "open.example", "relayed"),
        (BOTH, "both.example", "relayed"),
    ]
    reasons = [record.meta["why"] for record in outcome.records]
    assert "accepts only bounce reports" in reasons[0]
    assert "relay_to" in reasons[1]


def test_a_complaint_is_logged_for_the_recipient_that_logs_it() -> None:
    """The others have a Reception: they are only relayed to, or dropped."""
    assert facts_of(deliver(ARF, DROP, FBL, OPEN), "type", "recipient", "disposition") == [
        ("Reception", DROP, "dropped"),
        ("Feedback", FBL, "logged_and_relayed"),
        ("Reception", OPEN, "relayed"),
    ]


def test_a_bounce_is_logged_for_each_recipient_that_logs_it() -> None:
    """Each has its Reception, and then the failures of the report: it is the sender of the original message."""
    outcome = deliver(OOB, DROP, RELAY, OPEN)
    assert facts_of(outcome, "type", "sender", "recipient", "queue", "disposition") == [
        ("Reception", "", DROP, "bounce.example.com", "logged_and_dropped"),
        ("OOB", DROP, "alias@example.net", "bounce.example.com", "logged_and_dropped"),
        ("Reception", "", RELAY, "relay.example.com", "logged_and_relayed"),
        ("OOB", RELAY, "alias@example.net", "relay.example.com", "logged_and_relayed"),
        ("Reception", "", OPEN, "open.example", "relayed"),
    ]
    ids = [record.id for record in outcome.records]
    assert (ids[0], ids[2]) == (ids[1], ids[3])
    assert len({ids[0], ids[2], ids[4]}) == 3
    assert {record.meta["message_id"] for record in outcome.records} == {ids[0]}


def test_both_kinds_at_once() -> None:
    """A message that is a bounce and a complaint is each of them for the recipients that log it."""
    returned = b"--cut\r\nContent-Type: message/feedback-report\r\n\r\nFeedback-Type: abuse\r\n\r\n--cut--"
    both = OOB.replace(b"report-type=delivery-status", b"report-type=feedback-report").replace(b"--cut--", returned)
    assert facts_of(deliver(both, DROP, FBL, BOTH), "type", "recipient") == [
        ("Reception", DROP),
        ("OOB", "alias@example.net"),
        ("Feedback", FBL),
        ("Feedback", BOTH),
    ]


def test_addresses_in_records() -> None:
    """The envelope is in normal form; the MTA's own spelling is what it removes."""
    events = [*hello(), *envelope(["@a.example:B@Bounce.EXAMPLE.com", "O@Open.Example."], sender="S@B\u00fccher.example")]
    outcome = play(session(settings(DOMAINS)), [*events, *content(PLAIN)])[-1]
    assert facts_of(outcome, "sender", "recipient") == [
        ("S@xn--bcher-kva.example", "B@bounce.example.com"),
        ("S@xn--bcher-kva.example", "O@open.example"),
    ]
    assert outcome.verdict == Accept(without=("<B@Bounce.EXAMPLE.com>",))
    final = OOB.replace(b"alias@example.net", b"Alias@EXAMPLE.net")
    assert logged(deliver(final, DROP), 1)["recipient"] == "Alias@example.net"


def test_a_quarantined_message_has_a_record_for_each_recipient() -> None:
    """The quarantine has one record for all of them."""
    outcome = deliver(BROKEN, DROP, FBL, under=settings(DOMAINS, unparsable_reports="quarantine"))
    assert facts_of(outcome, "type", "recipient", "disposition") == [
        ("Reception", DROP, "quarantined"),
        ("Reception", FBL, "quarantined"),
    ]
    assert outcome.unparsable is not None
    assert outcome.unparsable.record.recipient == [DROP, FBL]
    assert {record.meta["quarantine"] for record in outcome.records} == {f"{outcome.unparsable.name}.eml"}


TLS_REPORT = b"""From: tls-reports@mx.example.net\r
Subject: Report Domain: example.com\r
Content-Type: multipart/report; report-type=tlsrpt; boundary="cut"\r
\r
--cut\r
Content-Type: text/plain\r
\r
A report.\r
--cut\r
Content-Type: application/tlsrpt+json\r
\r
{"organization-name": "mx.example.net", "policies": []}\r
--cut--\r
"""


def test_a_report_of_another_kind_is_rejected_by_name() -> None:
    """It is no unparsable report, and so it is not kept in the quarantine."""
    outcome = deliver(TLS_REPORT, DROP, under=settings(DOMAINS, unparsable_reports="quarantine"))
    assert (outcome.unparsable, facts_of(outcome, "type", "disposition")) == (None, [("Rejection", "rejected_at_end")])
    assert "TLS report" in outcome.records[0].meta["why"]


def test_tls_in_records() -> None:
    """Receptions and Feedback records of a TLS session have its fields; other records, and other sessions, do not."""
    tls = Tls(cipher="AES", protocol_version="TLSv1.3", subject=("CN=mx.example.net",))
    names = ["tls_cipher", "tls_protocol_version", "tls_peer_subject_name"]
    for message, to, kinds in ((OOB, DROP, {"Reception"}), (ARF, FBL, {"Feedback"}), (PLAIN, DROP, set())):
        for encrypted in (True, False):
            greeting = [*hello(), Helo(name="peer.example.net", tls=tls if encrypted else None)]
            outcome = play(session(settings(DOMAINS)), [*greeting, *envelope([to]), *content(message)])[-1]
            for number, record in enumerate(outcome.records):
                found = [logged(outcome, number).get(name) for name in names]
                with_tls = encrypted and record.type in kinds
                assert found == (["AES", "TLSv1.3", ["CN=mx.example.net"]] if with_tls else [None] * 3)
                assert (b'"tls_' in encode(record)) == with_tls


def test_a_record_from_before_the_content() -> None:
    """A Reception that was written at DATA says so; any other does not."""
    at_data = deliver(PLAIN, OPEN, OPEN, peer=RELAY_HOST)
    assert facts_of(at_data, "decided") == [("data",)] * 2
    assert "decided" not in deliver(PLAIN, OPEN).records[0].meta


def test_what_was_seen_whole_has_its_own_size() -> None:
    """A peer's declaration counts only where the verdict came before the body."""
    events = [*hello(), *envelope([DROP]), *content(OOB)]
    events[2] = msgspec.structs.replace(events[2], declared_size=5_000_000)
    assert logged(play(session(settings(DOMAINS)), events)[-1])["size"] == len(OOB)


def test_refused_message_has_only_a_rejection() -> None:
    """A message refused at its end has one record, a Rejection of DATA that names its recipients and what it was."""
    record = logged(deliver(PLAIN, DROP, FBL))
    assert record["response"]["command"] == "DATA"
    assert record["recipient"] == [DROP, FBL]
    assert record["id"]
    assert record["meta"]["why"].startswith("not a report, because")


def test_classes() -> None:
    """With rules, each bounce of a report and each refusal has the class of its response; what was taken has none."""
    ruled = settings(DOMAINS, bounce_rules=iana_rules())
    told_of = {record.type: record.bounce_classification for record in deliver(OOB, RELAY, under=ruled).records}
    assert told_of == {"Reception": "Uncategorized", "OOB": "InvalidRecipient"}
    refused = [play(session(ruled), [*hello(), *envelope(["a@else.example"])])[-1], deliver(PLAIN, DROP, under=ruled)]
    assert [logged(outcome)["bounce_classification"] for outcome in refused] == ["RelayDenied", "RelayDenied"]
    closed = settings(bounce_rules=iana_rules())
    assert logged(play(session(closed), hello())[0])["bounce_classification"] == "RelayDenied"
    assert (
        logged(play(session(settings(DOMAINS)), [*hello(), *envelope(["a@else.example"])])[-1])["bounce_classification"]
        == "Uncategorized"
    )


def test_refused_at_connect() -> None:
    """An external host without any permission is rejected at connect, with one record, and again at each further command."""
    it = session(settings([entry("*", relay_to=False)]))
    connect, rcpt = (play(it, [event])[-1] for event in [next(hello()), next(iter([*envelope(["a@b.example"])][1:]))])
    assert isinstance(connect.verdict, Reject)
    assert str(connect.verdict.reply) == "550 5.7.1 relaying not permitted for 203.0.113.9:4444"
    assert logged(connect)["response"]["command"] == "CONNECT"
    assert (logged(connect)["sender"], logged(connect)["recipient"], logged(connect)["id"]) == ("", "", "")
    assert rcpt.verdict == connect.verdict
    assert not rcpt.records


def test_early_refusal_can_be_turned_off() -> None:
    """With reject_at_connect off, the peer is heard, and refused at RCPT."""
    outcomes = play(session(settings(reject_at_connect=False)), [*hello(), *envelope(["a@b.example"])])
    assert [type(outcome.verdict) for outcome in outcomes] == [Continue, Continue, Continue, Reject]


def test_unknown_listener() -> None:
    """If rules depend on the listener and the MTA does not pass it, every peer is tempfailed."""
    own = settings([entry("a.example", LISTENER, log_oob="LogThenDrop")])
    for peer in (EXTERNAL, RELAY_HOST):
        it = session(own)
        connect = it.handle(next(hello(peer, listener=None)))
        assert isinstance(connect.verdict, Tempfail)
        assert isinstance(play(it, envelope(["b@a.example"]))[-1].verdict, Tempfail)
    assert isinstance(session(settings(DOMAINS)).handle(next(hello(listener=None))).verdict, Continue)


def test_verdict_at_data_for_relay_hosts() -> None:
    """Where nothing in the message matters nothing of it is looked at, and the size is the one the peer declared."""
    it = session(settings(DOMAINS))
    events = [*hello(RELAY_HOST), *envelope([OPEN])]
    events[2] = msgspec.structs.replace(events[2], declared_size=12345)
    outcomes = play(it, [*events, *content(PLAIN)])
    outcome = outcomes[-1]
    assert len(outcomes) == len([*events, "DATA"])
    assert it.state.name == "OPEN"
    assert outcome.verdict == Accept()
    assert logged(outcome)["size"] == 12345


@pytest.mark.parametrize(("peer", "headers"), [(EXTERNAL, ()), (RELAY_HOST, ("subject",))])
def test_verdict_after_the_headers_where_they_matter(peer: str, headers: tuple[str, ...]) -> None:
    """An external host's mail is accepted no earlier than its headers are there, and so is all mail whose records have some."""
    events = [*hello(peer), *envelope([OPEN])]
    events[2] = msgspec.structs.replace(events[2], declared_size=12345)
    outcomes = play(session(settings(DOMAINS, headers=headers)), [*events, *content(PLAIN)])
    assert len(outcomes) == len([*events, "DATA", "From", "Subject", "end of headers"])
    assert outcomes[-1].verdict == Accept()
    assert logged(outcomes[-1])["size"] == 12345
    assert [*map(str.lower, logged(outcomes[-1])["headers"])] == [*headers]


def test_verdict_at_end_of_headers_when_certain() -> None:
    """A message that does not claim to be a report is refused before its body, or its body is skipped."""
    sender = "a@b.example"
    refused = play(session(settings(DOMAINS)), [*hello(), *envelope([DROP], sender=sender), *content(PLAIN)])
    assert len(refused) == len([*hello(), *envelope([DROP])]) + len(["DATA", "From", "Subject", "end of headers"])
    parted = play(session(settings(DOMAINS)), [*hello(), *envelope([DROP, OPEN], sender=sender), *content(PLAIN)])
    assert isinstance(parted[-2].verdict, Continue)
    assert parted[-1].verdict == Accept(without=(f"<{DROP}>",))


def test_content_type_is_believed_wherever_it_stands() -> None:
    """A report with two Content-Type fields is still looked at as a report."""
    doubled = OOB.replace(b"Subject:", b"Content-Type: text/plain\r\nSubject:")
    assert len(play(session(settings(DOMAINS)), [*hello(), *envelope([DROP]), *content(doubled)])) > len(
        doubled.split(b"\r\n\r\n")[0].split(b"\r\n")
    )


def test_big_report() -> None:
    """A report above report_size_limit is refused with a clear 552 as soon as it is too big, and not parsed."""
    outcome = deliver(OOB + b"x" * 2000, DROP, under=settings(DOMAINS, report_size_limit=2000))
    assert isinstance(outcome.verdict, Reject)
    assert str(outcome.verdict.reply) == "552 5.3.4 a report may have 2000 bytes at most"
    assert types(outcome) == ["Rejection"]
    huge_header = OOB.replace(b"Subject: Undelivered", b"Subject: " + b"x" * 3000)
    assert deliver(huge_header, DROP, under=settings(DOMAINS, report_size_limit=2000)).verdict == outcome.verdict


def test_big_ordinary_message_keeps_nothing() -> None:
    """A message that claims no report is of any size, and is not kept."""
    assert (
        deliver(PLAIN + b"x" * 5000, DROP, peer=RELAY_HOST, under=settings(DOMAINS, report_size_limit=100)).verdict == Accept()
    )


def test_too_many_recipients() -> None:
    """A recipient above recipient_limit gets 452, for now; those before it stand."""
    it = session(settings(DOMAINS, recipient_limit=2))
    outcomes = play(it, [*hello(), *envelope([OPEN, OPEN, OPEN])])
    assert [type(outcome.verdict) for outcome in outcomes[3:]] == [Continue, Continue, Tempfail]
    assert logged(outcomes[-1])["response"]["code"] == 452


@pytest.mark.parametrize(
    "address", ["a\r\nb@open.example", "a\x00@open.example", "a\ufffd@open.example", "a" * 1100 + "@open.example"]
)
def test_unreadable_recipient(address: str) -> None:
    """An address that no address is, or that could not be decoded, is refused."""
    outcome = play(session(settings(DOMAINS)), [*hello(RELAY_HOST), *envelope([address])])[-1]
    assert isinstance(outcome.verdict, Reject)
    assert outcome.verdict.reply.code == 553
    assert len(encode(outcome.records[0])) < 4000


def test_wanted_headers_are_recorded() -> None:
    """The wanted headers are unfolded and decoded; a repeated one is a list, and its first spelling is the name."""
    message = (
        b"SUBJECT: a\r\n =?utf-8?q?f=C3=B6lded?=\r\nReceived: 1\r\nreceived: 2\r\nRECEIVED : 3\r\nX-Not: x\r\n\r\nhello\r\n"
    )
    outcome = deliver(message, OPEN, under=settings(DOMAINS, headers=("subject", "received")))
    assert logged(outcome)["headers"] == {"SUBJECT": "a f\u00f6lded", "Received": ["1", "2", "3"]}


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        (("x-*",), {"X-Job": "1", "x-list": "2"}),
        (("x-l*", "subject"), {"x-list": "2", "Subject": "s"}),
        (("*",), {"X-Job": "1", "x-list": "2", "Subject": "s", "XY": "3"}),
        (("z-*",), {}),
    ],
)
def test_headers_are_wanted_by_their_beginning_too(wanted: tuple[str, ...], expected: dict[str, str]) -> None:
    """A name that ends with `*` stands for all headers that begin so, in any case."""
    message = b"X-Job: 1\r\nx-list: 2\r\nSubject: s\r\nXY: 3\r\n\r\n"
    assert logged(deliver(message, OPEN, under=settings(DOMAINS, headers=wanted)))["headers"] == expected


def test_nothing_leaks_between_messages() -> None:
    """Several messages on one connection are each judged on their own: sender, identity, recipients and content."""
    it = session(settings(DOMAINS))
    first = play(it, [*hello(), *envelope(["x@else.example"], sender="d@auth.example", authz_id="daniel"), *content(PLAIN)])
    assert first[-1].verdict == Accept()
    assert logged(first[-1])["meta"]["authz_id"] == "daniel"
    second = play(it, envelope(["x@else.example"], sender="d@auth.example"))
    assert isinstance(second[-1].verdict, Reject)
    it.handle(Abort())
    third = play(it, [*envelope([DROP]), *content(OOB)])
    assert third[-1].verdict == Discard()
    assert logged(third[-1])["id"] != logged(first[-1])["id"]
    assert logged(third[-1])["session_id"] == logged(first[-1])["session_id"]
    fourth = play(it, [*envelope([DROP]), *content(PLAIN)])
    assert isinstance(fourth[-1].verdict, Reject)


def test_ehlo_gives_up_the_message() -> None:
    """EHLO in the middle of an envelope forgets it, and a new name is the one on record."""
    it = session(settings(DOMAINS))
    play(it, [*hello(), *envelope([OPEN]), Helo(name="other.example"), Abort()])
    outcome = play(it, [*envelope([OPEN]), *content(PLAIN)])[-1]
    assert logged(outcome)["peer_address"]["name"] == "other.example"


def test_report_in_any_pieces() -> None:
    """A report fed byte by byte is the same report."""
    it = session(settings(DOMAINS))
    head, _, body = OOB.partition(b"\r\n\r\n")
    events: list[Event] = [event for event in content(OOB) if isinstance(event, Header | EndOfHeaders)]
    pieces = [Body(chunk=body[index : index + 1]) for index in range(len(body))]
    outcome = play(it, [*hello(), *envelope([DROP]), next(content(OOB)), *events, *pieces, EndOfMessage()])[-1]
    assert head
    assert [record.recipient for record in outcome.records] == [DROP, "alias@example.net"]


def test_mapped_peer_is_told_as_ipv4() -> None:
    """The peer of a record is the address that was judged."""
    it = session(settings(DOMAINS))
    before = it.peer
    it.handle(Connect(peer=RELAY_HOST, listener=None))
    assert (before, it.peer) == ("", "127.0.0.1")


@pytest.mark.parametrize(
    ("message", "read_as", "derived"),
    [
        (OOB, ["rfc3464", "rfc3464"], [None, None]),
        (OOB.replace(b"Action: failed", b"Action: expired"), ["rfc3464", "rfc3464"], [None, ("type",)]),
        (OOB.replace(b"Status: 5.1.1\r\n", b""), ["rfc3464", "rfc3464"], [None, ("response.enhanced_code",)]),
        (ARF, ["rfc5965"], [("feedback_report.original_mail_from",)]),
        (ARF.replace(b"User-Agent", b"Original-Mail-From: <>\r\nUser-Agent"), ["rfc5965"], [None]),
    ],
)
def test_records_say_how_the_report_was_read(message: bytes, read_as: list[str], derived: list[object]) -> None:
    """They name what was worked out, each for itself: the Reception of a bounce report has nothing of it."""
    records = deliver(message, BOTH).records
    assert [record.meta["read_as"] for record in records] == read_as
    assert [record.meta.get("derived") for record in records] == derived
    compatible = deliver(message, BOTH, under=settings(DOMAINS, compat="kumomta")).records
    assert not any({"read_as", "derived"} & record.meta.keys() for record in compatible)


def test_only_the_recipient_that_logs_a_report_has_how_it_was_read() -> None:
    """The others get a message as any other."""
    records = deliver(OOB, DROP, OPEN).records
    assert [(record.type, record.recipient, record.meta.get("read_as")) for record in records] == [
        ("Reception", DROP, "rfc3464"),
        ("OOB", "alias@example.net", "rfc3464"),
        ("Reception", OPEN, None),
    ]
