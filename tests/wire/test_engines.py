"""Both engines side by side: whatever an MTA says, in whatever order, both answer alike."""

import random
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from tests.mta.places import private_directory
from tests.wire.client import DELRCPT, GOING_ON, NO_REPLY, NONE, STEPS, Mta, Reply
from tests.wire.program import scripted
from tests.wire.scripted import RAISING_PEER

SEED, CONVERSATIONS, LENGTH = 20261128, 300, 14
# What the sessions behind both do is in the sender (see scripted.py).
SENDERS = [
    b"<a@b>",
    *(f"Rcpt={word}".encode() for word in ("Reject", "Tempfail", "raise")),
    *(f"Data={word}".encode() for word in ("Accept", "raise")),
    *(f"EndOfHeaders={word}".encode() for word in ("Accept", "Discard", "Reject")),
    *(f"EndOfMessage={word}".encode() for word in ("Tempfail", "Without", "Discard", "raise")),
    b"Abort=raise",
]
OFFERS = [
    {},
    {"steps": STEPS & ~NO_REPLY[b"H"]},
    {"version": 4, "steps": 0x3FF},
    {"version": 2, "steps": 0x7F},
    {"actions": 0x1FF & ~DELRCPT},
]
# Most peers have an address; Sendmail reports none for mail from its own standard input.
PEERS: list[dict[str, Any]] = [{}, {}, {}, {"peer": "2001:db8::9"}, {"peer": RAISING_PEER}, {"family": b"U"}]


@pytest.fixture(scope="module")
def sockets() -> Iterator[list[str]]:
    with private_directory() as directory, ExitStack() as stack:
        for engine in ("libmilter", "direct"):
            stack.enter_context(scripted(directory, engine, engine))
        yield [f"{directory}/libmilter", f"{directory}/direct"]


class Talk:
    """One MTA's conversation, by its own dice: what it sends depends on the answers, not on the engine."""

    def __init__(self, mta: Mta, seed: int) -> None:
        self.mta = mta
        self.dice = random.Random(seed)  # noqa: S311 - dice
        self.answers: list[object] = []

    def hold(self) -> list[object]:
        """Play all of it, and return every answer."""
        self.answers.append(self.mta.negotiate(**self.dice.choice(OFFERS)))
        self.answers.append(self.mta.connect(**self.dice.choice(PEERS)))
        stretches = [self.helo, self.message, self.message, self.given_up, self.rejected, self.cut, self.nothing]
        for _ in range(LENGTH):
            self.answers.append(self.dice.choice(stretches)())
        return self.answers

    def helo(self) -> Reply:
        """Send HELO."""
        return self.mta.helo(b"peer.example")

    def envelope(self) -> list[Reply]:
        """Send MAIL, and some RCPT."""
        recipients = [b"<%d@c.example>" % number for number in range(self.dice.randint(1, 3))]
        # An MTA without macros sends an empty list, or none.
        if (choice := self.dice.randrange(3)) == 0:
            self.mta.macros(b"M", i="4Q", _auth_authen="daniel")
        elif choice == 1:
            self.mta.macros(b"M")
        return [self.mta.mail(self.dice.choice(SENDERS), b"SIZE=100"), *(self.mta.rcpt(one) for one in recipients)]

    def message(self) -> object:
        """Send a whole message, in pieces of some size."""
        answers = self.envelope()
        body = b"x" * self.dice.choice([0, 1, 1000, 65535, 70000])
        answer = self.mta.content(b"Subject: hello\r\n" * self.dice.randint(1, 5) + b"\r\n" + body)
        if self.dice.random() < 0.2:
            self.mta.abort()  # whatever became of it, as Postfix does at times
        return answers, answer

    def given_up(self) -> list[Reply]:
        """Begin a message, and abort it."""
        answers = self.envelope()
        if self.dice.random() < 0.5:
            answers.append(self.mta.data())
        self.mta.abort()
        return answers

    def rejected(self) -> list[Reply]:
        """Begin a message, and begin another without a word, as Sendmail does after RSET."""
        return self.envelope()

    def cut(self) -> list[Reply]:
        """Stop within a message, without a word."""
        answers = [*self.envelope(), self.mta.data()]
        if answers[-1] in GOING_ON:
            answers.append(self.mta.header(b"Subject", b" hello"))
        return answers

    def nothing(self) -> None:
        """Abort without a message."""
        self.mta.abort()


def test_both_engines_answer_alike(sockets: list[str]) -> None:
    """300 conversations of 14 stretches each, with verdicts and faults at every step, and offers and peers of many kinds."""
    answered = set()
    for number in range(CONVERSATIONS):
        held = []
        for path in sockets:
            with Mta(path) as mta:
                held.append(Talk(mta, SEED + number).hold())
        assert held[0] == held[1], f"conversation {number}"
        answered |= {str(answer) for answer in held[0]}
    # They do not agree by saying nothing.
    assert len(answered) > CONVERSATIONS / 4
    assert str(NONE) in answered
