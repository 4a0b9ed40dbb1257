"""The catalogue sent through a running MTA, shape by shape, and what came of each.

Owns the order of things: send, look into the journal, compare. Never prints.
"""

import time
from collections.abc import Sequence
from contextlib import suppress

from msgspec import Struct
from msgspec.structs import replace

from sidecar.commands.simulate.client import Dialogue, Target, deliver
from sidecar.commands.simulate.expectation import Assessment, Expectations, Expected, compare
from sidecar.commands.simulate.shapes import MessageShape
from sidecar.commands.simulate.witness import Witness
from sidecar.core.evaluate.explanation import Question
from sidecar.core.names import endpoint, normal_listener, plain_address, split_endpoint
from sidecar.core.records import Logged


class Result(Struct, frozen=True, kw_only=True):
    """A shape, how it was sent, and what came of it.

    `expected` and `judged` are None without an oracle, `records` without a journal that can be read.
    """

    shape: MessageShape
    helo: str
    sender: str
    dialogue: Dialogue
    expected: Expected | None = None
    records: tuple[Logged, ...] | None = None
    judged: Assessment | None = None

    @property
    def was_sent(self) -> bool:
        """Tell whether the message was offered to the MTA at all."""
        return self.dialogue.last is not None

    @property
    def is_fine(self) -> bool:
        """Tell whether nothing came otherwise than it must, as far as that is known."""
        return self.judged is None or self.judged.agrees


class Simulation(Struct, frozen=True, kw_only=True):
    """Who sends to whom, through which MTA, and who knows what must come of it.

    `token` marks all messages of this run; `sender` is the envelope sender of what has not the null sender. Without a `helo`
    each message has a name of its own, by which its records are found.
    """

    target: Target
    recipients: tuple[str, ...]
    sender: str
    token: str
    helo: str | None = None
    oracle: Expectations | None = None
    witness: Witness | None = None

    def send(self, shape: MessageShape) -> Result:
        """Send a shape once, and see what came of it. Raises UnreachableError and JournalError, where either fails."""
        mark = f"{self.token}-{shape.name}"
        helo = self.helo or f"{mark}.simulate.example"
        sender = "" if shape.from_null else self.sender
        content = shape.filled(to=self.recipients[0], mark=mark, now=time.time())
        dialogue = deliver(self.target, helo=helo, sender=sender, recipients=self.recipients, content=content)
        sent = Result(shape=shape, helo=helo, sender=sender, dialogue=dialogue)
        records = None
        if self.witness is not None:
            records = self.witness.look(helo=helo, peer=str(split_endpoint(dialogue.peer)[0]))
        if self.oracle is None:
            return replace(sent, records=records)
        peer, listener = _seen_as(dialogue, records or ())
        question = Question(peer=peer, listener=listener, helo=helo, sender=sender, to=list(self.recipients))
        expected = self.oracle.expect(question, content)
        return replace(sent, records=records, expected=expected, judged=compare(expected, dialogue, records))


def _seen_as(dialogue: Dialogue, records: Sequence[Logged]) -> tuple[str, str]:
    """Give peer and listener as the sidecar saw them: between here and there may be a NAT, a proxy or a container."""
    peer, listener = dialogue.peer, dialogue.listener
    for record in records:
        with suppress(ValueError):  # a peer on a UNIX socket has no address
            seen = plain_address(record.peer_address.addr if record.peer_address else "")
            peer = peer if seen == split_endpoint(peer)[0] else endpoint(seen, None)
            listener = normal_listener(str(record.meta.get("listener")))
    return peer, listener
