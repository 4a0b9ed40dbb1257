"""What must stay true of a session whatever comes, in whatever order."""

from collections.abc import Sequence
from ipaddress import ip_address
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import settings as tries
from hypothesis import strategies as st

from sidecar.core.session import ProtocolError, Quota
from sidecar.core.session.events import (
    Abort,
    Body,
    Close,
    Connect,
    Data,
    EndOfHeaders,
    EndOfMessage,
    Event,
    Header,
    Helo,
    Mail,
    Rcpt,
    State,
    content_events,
)
from sidecar.core.session.verdicts import Accept, Continue, Discard, Outcome, Reject, Tempfail
from sidecar.core.settings.settings import Settings
from sidecar.core.settings.values import LimitSettings
from tests.building import entry, settings
from tests.core.session.driving import ARF, BROKEN, EXTERNAL, LISTENER, OOB, PLAIN, RELAY_HOST, session

DOMAINS = [
    entry("bounce.example.com", log_oob="LogThenDrop"),
    entry("fbl.example.com", log_arf="LogThenDrop"),
    entry("auth.example.com", relay_from_authz=["daniel"]),
]
PLAINLY = settings(DOMAINS)
QUARANTINING = settings(DOMAINS, unparsable_reports="quarantine")
RECIPIENTS = st.sampled_from(
    ["b@bounce.example.com", "f@fbl.example.com", "x@gmail.com", "", "x@[192.0.2.1]", "@a:b@gmail.com"]
)
SENDERS = st.sampled_from(["", "a@auth.example.com", "a@bounce.example.com", "a@gmail.com"])

CONNECT = st.sampled_from([Connect(peer=EXTERNAL, port=4444, listener=LISTENER)])
ENVELOPE = st.one_of(
    st.builds(Helo, name=st.text(max_size=9)),
    st.builds(Mail, sender=SENDERS),
    st.builds(lambda address: Rcpt(address=address, mta_spelling=f"<{address}>"), RECIPIENTS),
    st.just(Data()),
)
CONTENT = st.one_of(
    st.builds(Header, name=st.sampled_from([b"Content-Type", b"Subject"]), value=st.binary(max_size=40)),
    st.just(EndOfHeaders()),
    st.builds(Body, chunk=st.binary(max_size=40)),
    st.just(EndOfMessage()),
)
ANY_EVENT = st.one_of(CONNECT, ENVELOPE, CONTENT, st.sampled_from([Abort(), Close()]))
SCRIPTS = st.lists(
    ANY_EVENT | st.sampled_from([PLAIN, BROKEN]).map(content_events).flatmap(lambda it: st.sampled_from(list(it)))
)


def _play_on(events: list[Event], peer: object, *, under: Settings = PLAINLY) -> list[tuple[Event, Outcome]]:
    """Feed every event, whatever was said to the ones before; what cannot come is left out, as the milter's guard would."""
    it = session(under)
    outcomes = []
    for event in [Connect(peer=ip_address(str(peer)), port=4444, listener=LISTENER), *events]:
        try:
            outcomes.append((event, it.handle(event)))
        except ProtocolError:
            continue
    return outcomes


@given(SCRIPTS)
@tries(max_examples=400)
def test_a_strangers_non_report_is_never_accepted(events: list[Event]) -> None:
    """In any order of events, an external host's message that is no report is never accepted and never dropped with a 250."""
    for _, outcome in _play_on(events, EXTERNAL):
        assert not isinstance(outcome.verdict, Accept | Discard)


def _whole(*messages: bytes, identities: Sequence[str | None]) -> st.SearchStrategy[list[Event]]:
    """Return the events of one of these messages in order, from MAIL to an abort."""
    return st.builds(
        lambda sender, authz_id, recipients, message: [
            Mail(sender=sender, authz_id=authz_id),
            *(Rcpt(address=address, mta_spelling=f"<{address}>") for address in recipients),
            Data(),
            *content_events(message),
            Abort(),
        ],
        SENDERS,
        st.sampled_from(identities),
        st.lists(RECIPIENTS, max_size=4),
        st.sampled_from(messages),
    )


WHOLE = _whole(PLAIN, BROKEN, OOB, ARF, identities=[None, "daniel", "other"])


@given(SCRIPTS | _whole(PLAIN, BROKEN, identities=[None, "other"]))
@tries(max_examples=400)
def test_a_strangers_unparsable_goes_no_further_than_the_quarantine(events: list[Event]) -> None:
    """In any order of events, with the quarantine on, what is no report is never accepted, and dropped only if it is kept."""
    for _, outcome in _play_on(events, EXTERNAL, under=QUARANTINING):
        assert not isinstance(outcome.verdict, Accept)
        assert isinstance(outcome.verdict, Discard) == (outcome.unparsable is not None)
        if outcome.unparsable is not None:
            assert outcome.durable
            assert b"multipart/report" in outcome.unparsable.content.lower()


@given(st.lists(WHOLE, max_size=3), st.sampled_from([EXTERNAL, RELAY_HOST]), st.sampled_from([PLAINLY, QUARANTINING]))
def test_records_match_verdicts(messages: list[list[Event]], peer: object, under: Settings) -> None:
    """Whatever is refused leaves one Rejection with the reply's code; what is taken has a Reception or Feedback first."""
    for event, outcome in _play_on([event for message in messages for event in message], peer, under=under):
        kinds = [record.type for record in outcome.records]
        match outcome.verdict:
            case Reject(reply=reply) | Tempfail(reply=reply):
                assert kinds == ["Rejection"]
                assert outcome.records[0].response.code == reply.code
            case Accept() | Discard():
                assert kinds[0] in {"Reception", "Feedback"}
                assert set(kinds) <= {"Reception", "Feedback", "OOB"}
                assert len({record.meta["message_id"] for record in outcome.records}) == 1
                # The OOB records of a recipient follow its Reception, and have its id, which no other recipient has.
                assert all((one.id == before.id) == (one.type == "OOB") for before, one in pairwise(outcome.records))
            case Continue():
                assert not kinds, event
        if isinstance(outcome.verdict, Discard):
            assert outcome.durable


@given(SCRIPTS | st.builds(lambda events, count: events[:count], WHOLE, st.integers(0, 20)), st.booleans())
def test_nothing_of_the_quota_stays_behind(events: list[Event], closed: bool) -> None:
    """However a connection goes and ends, in order or not, it gives back all that it took."""
    quota = Quota(LimitSettings())
    it = session(PLAINLY, quota=quota)
    try:
        for event in [Connect(peer=EXTERNAL, port=4444, listener=LISTENER), *events]:
            it.handle(event)
    except ProtocolError:
        closed = False  # the milter's guard hands it no event any more
    if not closed:
        it.give_up()
    elif it.state is not State.CLOSED:
        it.handle(Close())
    assert (quota._sessions, quota._bytes) == (0, 0)


@given(WHOLE, WHOLE)
def test_a_verdict_never_depends_on_another_message(first: list[Event], second: list[Event]) -> None:
    """A message ends the same alone and after another one on the same connection."""
    alone = [outcome.verdict for _, outcome in _play_on(second, EXTERNAL)][1:]
    after = [outcome.verdict for _, outcome in _play_on(first + second, EXTERNAL)]
    assert after[len(after) - len(alone) :] == alone


@pytest.mark.parametrize("line", [b" : x", b"\t:", b"no field", b": x", b"\x80: x"])
def test_a_line_that_is_no_field_ends_the_header_section(line: bytes) -> None:
    """It belongs to the body, as in Postfix."""
    for before in ([], [Header(name=b"A", value=b"1")]):
        fields = b"".join(b"%b: %b\r\n" % (field.name, field.value) for field in before)
        rest = line if not before or line[:1] not in {b" ", b"\t"} else b"\r\n" + line
        events = list(content_events(fields + rest + b"\r\n"))
        assert events == [*before, EndOfHeaders(), Body(chunk=line + b"\r\n"), EndOfMessage()]
