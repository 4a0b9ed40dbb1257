"""Each bound through a session: its reply, its record that names the setting, and that others do not suffer from it."""

from typing import Any

import pytest

from sidecar.core.evaluate.evaluator import Evaluator
from sidecar.core.evaluate.explanation import Question
from sidecar.core.reports.reading import read
from sidecar.core.session import Quota
from sidecar.core.session.events import Abort, Body, Close, Data, EndOfHeaders, Event, Fields, Header
from sidecar.core.session.quota import BURST_SECONDS
from sidecar.core.session.replies import HEADER_FIELD_LIMIT
from sidecar.core.session.verdicts import Accept, Continue, Discard, Outcome, Reject, Tempfail
from sidecar.core.settings.settings import Settings
from sidecar.core.settings.values import LimitSettings
from tests.building import entry, settings
from tests.core.session.driving import (
    ARF,
    BROKEN,
    EXTERNAL,
    OOB,
    PLAIN,
    RELAY_HOST,
    content,
    envelope,
    headers_of,
    hello,
    play,
    session,
    world,
)

DROP, FBL, OPEN = "b@bounce.example.com", "f@fbl.example.com", "o@open.example"
DOMAINS = [
    entry("bounce.example.com", log_oob="LogThenDrop"),
    entry("fbl.example.com", log_arf="LogThenRelay"),
    entry("open.example", relay_to=True),
]
CLAIM = Header(name=b"Content-Type", value=b'multipart/report; boundary="cut"')


def under(**limits: Any) -> Settings:
    """Make settings with these limits."""
    return settings(DOMAINS, limits=LimitSettings(**limits))


def deliver(message: bytes, *recipients: str, its: Settings, peer: object = EXTERNAL, quota: Quota | None = None) -> Outcome:
    """Send one message through a session of its own, and hang up; give the outcome that ended the message."""
    it = session(its, quota=quota)
    outcome = play(it, [*hello(peer), *envelope(recipients), *content(message)])[-1]
    it.handle(Close())
    return outcome


def refused(outcome: Outcome) -> tuple[str, str]:
    """Return the reply and the reason on record, which must be one Rejection."""
    (record,) = outcome.records
    assert isinstance(outcome.verdict, Reject | Tempfail)
    assert (record.type, record.response.code) == ("Rejection", outcome.verdict.reply.code)
    why: str = record.meta["why"]
    assert outcome.decision is not None
    assert outcome.decision.why == why
    return str(outcome.verdict.reply), why


def with_headers(message: bytes, size: int) -> bytes:
    """Return the message with so many bytes more in its header section."""
    return b"X-More: " + b"x" * (size - 10) + b"\r\n" + message


# --- the header section


@pytest.mark.parametrize(
    "message", [with_headers(OOB, 3000), OOB.replace(b"\r\n\r\n", b"\r\nX: " + b"x" * 3000 + b"\r\n\r\n", 1)]
)
def test_the_header_section_of_a_report(message: bytes) -> None:
    """It is refused for good, before its body, wherever in it the claim stands."""
    reply, why = refused(deliver(message, DROP, its=under(header_size=2000)))
    assert reply == "552 5.3.4 the header section of a report may have 2000 bytes at most"
    assert "limits.header_size, 2000" in why


@pytest.mark.parametrize(
    ("message", "recipient", "peer", "verdict"),
    [
        (with_headers(PLAIN, 3000), OPEN, EXTERNAL, Accept),
        (with_headers(PLAIN, 3000), DROP, RELAY_HOST, Accept),
        (with_headers(OOB, 3000), OPEN, EXTERNAL, Accept),
        (OOB + b"x" * 3000, DROP, EXTERNAL, Discard),
    ],
)
def test_only_the_header_section_of_a_report_is_bounded(message: bytes, recipient: str, peer: object, verdict: type) -> None:
    """Neither for a message that claims nothing, nor without a recipient that accepts reports, nor for the body."""
    assert isinstance(deliver(message, recipient, peer=peer, its=under(header_size=2000)).verdict, verdict)


@pytest.mark.parametrize("claim_first", [True, False])
def test_the_fields_of_a_report(*, claim_first: bool) -> None:
    """One that claims to be a report may have so many header fields, wherever among them the claim is."""
    many = b"a: b\r\n" * HEADER_FIELD_LIMIT
    head, gap, rest = OOB.partition(b"\r\n\r\n")
    message = head + b"\r\n" + many + gap[2:] + rest if claim_first else many + OOB
    reply, why = refused(deliver(message, DROP, its=under()))
    assert reply == f"552 5.3.4 the header section of a report may have {HEADER_FIELD_LIMIT} fields at most"
    assert f"more than {HEADER_FIELD_LIMIT} fields" in why
    assert isinstance(deliver(b"a: b\r\n" * (HEADER_FIELD_LIMIT - 10) + OOB, DROP, its=under()).verdict, Discard)


def test_the_fields_of_other_mail() -> None:
    """What is no report may have any number of them, and its size counts them all."""
    message = b"a: b\r\n" * 3 * HEADER_FIELD_LIMIT + PLAIN
    assert isinstance(deliver(message, OPEN, its=under()).verdict, Accept)
    outcome = deliver(message, DROP, peer=RELAY_HOST, its=under())
    assert isinstance(outcome.verdict, Accept)


@pytest.mark.parametrize("at_once", [1, 7, 2 * HEADER_FIELD_LIMIT])
def test_recorded_headers_do_not_depend_on_packets(at_once: int) -> None:
    """Those among the first fields are recorded, however many fields arrive together."""
    it = session(settings(DOMAINS, headers=("subject",)))
    play(it, [*hello(), *envelope([OPEN]), Data(queue_id=None)])
    fields = [(b"Subject", b"hello"), *[(b"a", b"")] * (HEADER_FIELD_LIMIT - 1), (b"Subject", b"later")]
    for start in range(0, len(fields), at_once):
        it.handle(Fields(fields=fields[start : start + at_once], size=0))
    (record,) = it.handle(EndOfHeaders()).records
    assert headers_of(record) == {"Subject": "hello"}


@pytest.mark.parametrize(("first", "verdict"), [(b"text/plain", Reject), (b"multipart/report; boundary=cut", Discard)])
def test_only_the_first_content_type_counts(first: bytes, verdict: type) -> None:
    """For the claim as for the reader: a second one makes no report of a message, nor takes it back."""
    second = OOB.replace(b"multipart/report", b"text/plain", 1) if verdict is Discard else OOB
    its = settings(DOMAINS, text_bounces="reject")
    assert isinstance(deliver(b"Content-Type: " + first + b"\r\n" + second, DROP, its=its).verdict, verdict)


# --- how fast


def test_reports_of_one_peer() -> None:
    """Above its rate a peer is answered 451 at the end of the headers; another peer, and other mail, continues."""
    its = under(reports_per_second=1)
    quota = Quota(its.limits)
    for _ in range(BURST_SECONDS):
        assert isinstance(deliver(OOB, DROP, its=its, quota=quota).verdict, Discard)
    reply, why = refused(deliver(ARF, FBL, its=its, quota=quota))
    assert reply == "451 4.7.1 too many reports from you at once; try again later"
    assert "limits.reports_per_second" in why
    assert isinstance(deliver(OOB, DROP, its=its, quota=quota, peer="203.0.113.8").verdict, Discard)
    assert isinstance(deliver(PLAIN, OPEN, its=its, quota=quota).verdict, Accept)
    assert isinstance(deliver(OOB, OPEN, its=its, quota=quota).verdict, Accept)


def test_what_claims_to_be_a_report_counts_whatever_it_is() -> None:
    """Reading it is the work."""
    its = under(reports_per_second=1)
    quota = Quota(its.limits)
    outcomes = [deliver(BROKEN, DROP, its=its, quota=quota).verdict for _ in range(BURST_SECONDS + 1)]
    assert [type(verdict) for verdict in outcomes] == [Reject] * BURST_SECONDS + [Tempfail]


def test_relay_hosts_have_no_rate() -> None:
    """An operator's own machine may hand over a queue of reports at once."""
    its = under(reports_per_second=1)
    quota = Quota(its.limits)
    for _ in range(BURST_SECONDS + 5):
        assert isinstance(deliver(OOB, DROP, peer=RELAY_HOST, its=its, quota=quota).verdict, Discard)


def test_the_rate_lets_nobody_in() -> None:
    """Each message gets its own verdict: a peer whose report was accepted cannot send other mail."""
    its = under()
    quota = Quota(its.limits)
    assert isinstance(deliver(OOB, DROP, its=its, quota=quota).verdict, Discard)
    assert isinstance(deliver(PLAIN, DROP, its=its, quota=quota).verdict, Reject)


# --- memory


def in_hand(its: Settings, quota: Quota, *, size: int) -> tuple[list[Event], Any]:
    """Begin a report and send so much of its body; give the rest of its events, and its session."""
    it = session(its, quota=quota)
    events: list[Event] = [*hello(), *envelope([DROP]), Data(), CLAIM, EndOfHeaders(), Body(chunk=b"x" * size)]
    assert isinstance(play(it, events)[-1].verdict, Continue)
    return events, it


def test_memory() -> None:
    """When messages use all of the memory, the next report is answered 451, and small mail continues."""
    its = under(report_memory=20_000)
    quota = Quota(its.limits)
    _, it = in_hand(its, quota, size=19_000)
    reply, why = refused(deliver(OOB + b"x" * 1000, DROP, its=its, quota=quota))
    assert reply == "451 4.3.1 too many reports at the moment; try again later"
    assert "limits.report_memory allows, 20000" in why
    assert isinstance(deliver(PLAIN, OPEN, its=its, quota=quota).verdict, Accept)
    it.handle(Abort())
    assert isinstance(deliver(OOB + b"x" * 1000, DROP, its=its, quota=quota).verdict, Discard)


def test_memory_is_no_matter_for_what_is_no_report() -> None:
    """Also if it runs out in the header section, before the type is known."""
    its = under(report_memory=20_000)
    quota = Quota(its.limits)
    in_hand(its, quota, size=19_800)
    outcome = deliver(with_headers(PLAIN, 3000), DROP, OPEN, its=its, quota=quota)
    assert outcome.verdict == Accept(without=(f"<{DROP}>",))


@pytest.mark.parametrize("end", ["abort", "close", "give up", "too big", "the end"])
def test_memory_is_given_back(end: str) -> None:
    """Whatever becomes of a message, what was held for it is free again."""
    its = settings(DOMAINS, report_size_limit=30_000)
    quota = Quota(its.limits)
    _, it = in_hand(its, quota, size=19_000)
    assert quota._bytes > 19_000
    match end:
        case "abort":
            it.handle(Abort())
        case "close":
            it.handle(Close())
        case "give up":
            it.give_up()
        case "too big":
            it.handle(Body(chunk=b"x" * 19_000))
        case _:
            play(it, list(content(OOB))[-1:])
    assert quota._bytes == 0


# --- sessions


def test_sessions() -> None:
    """One connection too many is answered 451 at connect and from there on, and takes no place."""
    its = under(sessions=2)
    quota = Quota(its.limits)
    sessions = [session(its, quota=quota) for _ in range(4)]
    outcomes = [it.handle(next(hello())) for it in sessions]
    assert [type(outcome.verdict) for outcome in outcomes] == [Continue, Continue, Tempfail, Tempfail]
    reply, why = refused(outcomes[2])
    assert reply == "451 4.3.2 too many connections at the moment; try again later"
    assert why == "this worker has 2 sessions, as many as limits.sessions allows"
    assert outcomes[2].records[0].response.command == "CONNECT"
    assert isinstance(play(sessions[2], envelope([DROP]))[-1].verdict, Tempfail)
    sessions[2].handle(Close())
    assert isinstance(session(its, quota=quota).handle(next(hello())).verdict, Tempfail)
    sessions[0].handle(Close())
    assert isinstance(session(its, quota=quota).handle(next(hello())).verdict, Continue)


# --- unparsable reports

QUARANTINING = settings(DOMAINS, unparsable_reports="quarantine")


def test_a_unparsable_is_kept() -> None:
    """What claims to be a report and cannot be read is dropped with a 250, once it is kept whole, with its reason."""
    outcome = deliver(BROKEN, DROP, its=QUARANTINING)
    unparsable = outcome.unparsable
    assert unparsable is not None
    assert (outcome.verdict, outcome.durable) == (Discard(), True)
    assert read(unparsable.content) == read(BROKEN)
    (record,) = outcome.records
    assert (record.type, record.recipient, record.size) == ("Reception", DROP, len(BROKEN))
    assert record.meta["quarantine"] == f"{unparsable.name}.eml" == f"20260921-141320-{record.id}-cb007109.eml"
    assert record.meta["why"] == (f"{read(BROKEN).why}; it claims to be a report, so it is quarantined and not delivered")


def test_a_unparsable_that_finds_no_room() -> None:
    """The outcome brings another one along, for a quarantine that is full: 451, and nothing is lost."""
    outcome = deliver(BROKEN, DROP, its=QUARANTINING)
    assert outcome.unparsable is not None
    reply, why = refused(outcome.unparsable.full)
    assert reply == "451 4.3.1 no room at the moment to keep this report; try again later"
    assert "limits.quarantine_size allows" in why


@pytest.mark.parametrize(
    ("message", "recipients", "peer", "verdict"),
    [
        (PLAIN, [DROP], EXTERNAL, Reject),
        (OOB, [DROP], EXTERNAL, Discard),
        (OOB, [FBL], EXTERNAL, Reject),
        (ARF, [DROP], EXTERNAL, Reject),
        (BROKEN, [OPEN], EXTERNAL, Accept),
        (BROKEN, [DROP, OPEN], EXTERNAL, Accept),
        (BROKEN, [DROP], RELAY_HOST, Accept),
    ],
)
def test_what_is_no_unparsable(message: bytes, recipients: list[str], peer: object, verdict: type) -> None:
    """Neither what claims nothing, nor a report of a kind that the domain does not accept, nor mail that is relayed anyway."""
    outcome = deliver(message, *recipients, peer=peer, its=QUARANTINING)
    assert isinstance(outcome.verdict, verdict)
    assert outcome.unparsable is None
    assert all("quarantine" not in record.meta for record in outcome.records)


def test_explain_tells_of_the_quarantine() -> None:
    """It would be dropped, for which recipient, and with which record."""
    question = Question(peer=str(EXTERNAL), sender="", to=[DROP])
    answer = Evaluator(QUARANTINING).explain(question, BROKEN, clock=world().clock, new_id=world().new_id)
    assert (answer.message.action, answer.message.report, answer.message.dropped) == ("discard", None, [DROP])
    assert answer.message.records[0].meta["quarantine"].endswith(".eml")


def test_reading_a_large_report_needs_memory() -> None:
    """ReportReading and recording it takes more of report_memory, and gives that back once the records are written."""
    large = OOB + b"x" * 1_000_000
    its = under(report_memory=10_000_000)
    quota = Quota(its.limits)
    it = session(its, quota=quota)
    outcome = play(it, [*hello(), *envelope([DROP]), *content(large)])[-1]
    assert isinstance(outcome.verdict, Discard)
    second = session(its, quota=quota)
    assert isinstance(play(second, [*hello(), *envelope([DROP]), *content(large)])[-1].verdict, Discard)
    reply, why = refused(deliver(large, DROP, its=its, quota=quota))
    assert reply.startswith("451 4.3.1")
    assert "limits.report_memory" in why
    it.written()
    assert isinstance(deliver(large, DROP, its=its, quota=quota).verdict, Discard)
    second.handle(Close())
    assert quota.hold(10_000_000), "all of it was given back"


def test_the_only_large_report_is_read_whatever_is_left() -> None:
    """One that fits into report_memory by its size alone must not be tempfailed until its sender gives up."""
    large = OOB + b"x" * 1_000_000
    its = under(report_memory=len(large) + 1000)
    assert isinstance(deliver(large, DROP, its=its).verdict, Discard)
