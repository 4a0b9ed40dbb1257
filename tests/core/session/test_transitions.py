"""The transition table, walked pair by pair."""

from itertools import product
from typing import get_args

import pytest

from sidecar.core.session import ProtocolError, Session
from sidecar.core.session.events import (
    Body,
    Connect,
    Data,
    EndOfHeaders,
    EndOfMessage,
    Event,
    Fields,
    Header,
    Helo,
    Mail,
    Rcpt,
    State,
)
from tests.building import entry, settings
from tests.core.session.driving import ARF, EXTERNAL, OOB, PLAIN, RELAY_HOST, content, envelope, hello, play, session

EVENTS = get_args(Event)
SAMPLES: dict[type, Event] = {
    Connect: next(hello(RELAY_HOST)),
    Helo: Helo(name="x"),
    Mail: Mail(sender=""),
    Rcpt: Rcpt(address="b@bounce.example.com", mta_spelling="<b@bounce.example.com>"),
    Data: Data(),
    Header: Header(name=b"X", value=b"y"),
    Fields: Fields(fields=[(b"X", b"y")], size=6),
    Body: Body(chunk=b"z"),
    EndOfMessage: EndOfMessage(),
}
ENVELOPE = list(envelope(["b@bounce.example.com"]))
CONTENT = list(content(OOB))
WAYS = {
    State.NEW: [],
    State.OPEN: [*hello()],
    State.ENVELOPE: [*hello(), *ENVELOPE],
    State.HEADERS: [*hello(), *ENVELOPE, CONTENT[0]],
    State.BODY: [*hello(), *ENVELOPE, *CONTENT[:6]],
}


def _in(state: State) -> Session:
    if state in {State.REJECTED, State.CLOSED}:
        it = session(settings())
        it.handle(next(hello()))
        if state is State.CLOSED:
            it.handle(next(event() for event in EVENTS if event.__name__ == "Close"))
    else:
        it = session(settings([entry("bounce.example.com", log_oob="LogThenDrop")]))
        play(it, WAYS[state])
    assert it.state is state
    return it


@pytest.mark.parametrize(("state", "kind"), list(product(State, EVENTS)))
def test_pair(state: State, kind: type) -> None:
    """Every pair of state and event either has its step, or is an error that changes nothing."""
    it = _in(state)
    event = SAMPLES.get(kind) or kind()
    step = Session.TRANSITIONS.get((state, kind))
    if step is None:
        with pytest.raises(ProtocolError):
            it.handle(event)
        assert it.state is state
    else:
        it.handle(event)
        assert it.state in {step.then, step.ended}


def test_every_handler_is_in_the_table() -> None:
    """The session has no handler that the table does not use, and the table uses only handlers."""
    handlers = {value for name, value in vars(Session).items() if name.startswith("_on_")}
    assert {step.handler for step in Session.TRANSITIONS.values()} == handlers


def test_data_without_recipients_is_an_error() -> None:
    """A message without recipients is not allowed, and is not accepted."""
    it = session(settings([entry("bounce.example.com", log_oob="LogThenDrop")]))
    play(it, [*hello(), Mail(sender="")])
    for event in (Data(), SAMPLES[Header], SAMPLES[Fields], EndOfHeaders()):
        with pytest.raises(ProtocolError):
            it.handle(event)


@pytest.mark.parametrize("peer", [EXTERNAL, RELAY_HOST])
@pytest.mark.parametrize("message", [PLAIN, OOB, ARF, b"\r\n"])
def test_content_without_data(message: bytes, peer: object) -> None:
    """Some MTAs never report DATA: the first header field or the end of the headers implies it, and nothing else changes."""
    domains = [entry("bounce.example.com", log_oob="LogThenDrop"), entry("fbl.example.com", log_arf="LogThenRelay")]
    begin = [*hello(peer), *envelope(["b@bounce.example.com", "fbl@fbl.example.com"])]
    outcomes = []
    for events in ([*begin, *content(message)], [*begin, *list(content(message))[1:]]):
        it = session(settings(domains))
        outcomes.append(play(it, events)[-1])
        assert it.state is State.OPEN
    assert outcomes[0].verdict == outcomes[1].verdict
    assert outcomes[0].records == outcomes[1].records
    assert outcomes[0].records
