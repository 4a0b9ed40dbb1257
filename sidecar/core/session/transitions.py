"""The one transition table of a session: which event may come when, who handles it, and what state follows.

A missing entry is the error.
"""

from enum import Enum, auto
from typing import NamedTuple

from sidecar.core.session.events import (
    Abort,
    Body,
    Close,
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
)


class State(Enum):
    """Where an SMTP connection stands."""

    NEW = auto()
    OPEN = auto()
    ENVELOPE = auto()
    HEADERS = auto()
    BODY = auto()
    REFUSED = auto()
    CLOSED = auto()

    # Enum hashes the name, in Python; a member is itself, and the table is asked for every event.
    __hash__ = object.__hash__


class Transition(NamedTuple):
    """What an event does in a state: who handles it, and the state that follows when it goes on, or ends with a verdict."""

    handler: str
    then: State
    ended: State


def _on_the_way(state: State) -> dict[tuple[State, type[Event]], Transition]:
    """Give the two events that may come at any time: the message is given up, or the connection ends."""
    after_abort = State.REFUSED if state is State.REFUSED else State.OPEN
    return {
        (state, Abort): Transition("_on_nothing", after_abort, after_abort),
        (state, Close): Transition("_on_nothing", State.CLOSED, State.CLOSED),
    }


# Where the MTAs are surprising, the line says so.
TRANSITIONS: dict[tuple[State, type[Event]], Transition] = {
    (State.NEW, Connect): Transition("_on_connect", State.OPEN, State.REFUSED),
    (State.NEW, Close): Transition("_on_nothing", State.CLOSED, State.CLOSED),
    (State.OPEN, Helo): Transition("_on_helo", State.OPEN, State.OPEN),
    (State.OPEN, Mail): Transition("_on_mail", State.ENVELOPE, State.ENVELOPE),
    # EHLO gives up the message in hand (RFC 5321 section 4.1.4); Postfix tells of it before the abort.
    (State.ENVELOPE, Helo): Transition("_on_helo", State.OPEN, State.OPEN),
    (State.ENVELOPE, Rcpt): Transition("_on_rcpt", State.ENVELOPE, State.ENVELOPE),
    (State.ENVELOPE, Data): Transition("_on_data", State.HEADERS, State.OPEN),
    (State.HEADERS, Header): Transition("_on_header", State.HEADERS, State.HEADERS),
    (State.HEADERS, Fields): Transition("_on_fields", State.HEADERS, State.HEADERS),
    (State.HEADERS, EndOfHeaders): Transition("_on_end_of_headers", State.BODY, State.OPEN),
    (State.BODY, Body): Transition("_on_body", State.BODY, State.OPEN),
    (State.BODY, EndOfMessage): Transition("_on_end_of_message", State.OPEN, State.OPEN),
    (State.REFUSED, Helo): Transition("_on_nothing", State.REFUSED, State.REFUSED),
    # MAIL is never answered, CONNECT not always (see daemon/milter/negotiation.py); the reply is repeated where it can be.
    (State.REFUSED, Mail): Transition("_on_nothing", State.REFUSED, State.REFUSED),
    (State.REFUSED, Rcpt): Transition("_on_rejected", State.REFUSED, State.REFUSED),
    **_on_the_way(State.OPEN),
    **_on_the_way(State.ENVELOPE),
    **_on_the_way(State.HEADERS),
    **_on_the_way(State.BODY),
    **_on_the_way(State.REFUSED),
}
