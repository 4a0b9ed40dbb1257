"""An MTA with a sidecar at its side: what a peer offers, and everything that comes of it.

Owns bringing the two together. Never judges what came of it.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from msgspec import Struct

from tests.mta.client import EXTERNAL, Answer, Answers, Connection, Peer, Refused
from tests.mta.places import private_directory
from tests.mta.postfix import Postfix
from tests.mta.processes import wait_until
from tests.mta.sidecar import Record, Sidecar


class Outcome(Struct, frozen=True, kw_only=True):
    """What came of a message: the answers, the records on disk, and what was delivered (recipient -> message).

    `refused` is the answer to the connection where that was refused; `answers` is None then.
    """

    answers: Answers | None
    refused: Answer | None
    records: list[Record]
    delivered: dict[str, bytes]

    @property
    def last(self) -> Answer:
        """The answer that decided."""
        answer = self.refused if self.answers is None else self.answers.last
        assert answer is not None
        return answer

    def written(self) -> list[tuple[str, int, str | list[str]]]:
        """Give type, code and recipient of each record."""
        return [(record["type"], record["response"]["code"], record["recipient"]) for record in self.records]


class Pair(Struct, frozen=True, kw_only=True):
    """An MTA and its sidecar. Which MTA it is, each kind says for itself."""

    sidecar: Sidecar

    def connect(self, peer: Peer) -> Connection:
        """Open a connection as `peer`."""
        raise NotImplementedError

    def delivered(self) -> dict[str, bytes]:
        """Give what the MTA took since the last call: recipient -> message."""
        raise NotImplementedError

    def offer(
        self, sender: str, recipients: Sequence[str], content: bytes, *, peer: Peer = EXTERNAL, parameters: str = ""
    ) -> Outcome:
        """Offer one message on a connection of its own, and give what came of it."""
        try:
            with self.connect(peer) as connection:
                answers = connection.send(sender, recipients, content, parameters=parameters)
        except Refused as refused:
            return self.outcome(None, refused.answer)
        return self.outcome(answers)

    def arrival(self, records: int) -> Outcome:
        """Wait until so many records more are on disk, and give what happened."""
        found: list[Record] = []

        def enough() -> bool:
            found.extend(self.sidecar.records())
            return len(found) >= records

        wait_until(enough, f"{records} more records are in the journal")
        return Outcome(answers=None, refused=None, records=found, delivered=self.delivered())

    def outcome(self, answers: Answers | None = None, refused: Answer | None = None) -> Outcome:
        """Give what happened since the last outcome."""
        return Outcome(answers=answers, refused=refused, records=self.sidecar.records(), delivered=self.delivered())


class House(Pair, frozen=True, kw_only=True):
    """A Postfix and its sidecar."""

    postfix: Postfix

    def connect(self, peer: Peer) -> Connection:
        """Open a connection as `peer`."""
        return Connection(self.postfix.port, peer)

    def delivered(self) -> dict[str, bytes]:
        """Give what was delivered since the last call: recipient -> message."""
        return self.postfix.delivered()


@contextmanager
def house(
    *,
    domains: str,
    relay_hosts: Sequence[str] = ("127.0.0.1",),
    settings: str = "",
    engine: str = "direct",
    postfix: Mapping[str, str] | None = None,
    services: Sequence[str] = (),
) -> Iterator[House]:
    """Start a sidecar and a Postfix in front of it; end both, whatever happens. Arguments as those two have them."""
    with (
        private_directory() as directory,
        Sidecar(directory / "sidecar", domains=domains, relay_hosts=relay_hosts, settings=settings, engine=engine) as sidecar,
        Postfix(directory / "postfix", milter=sidecar.socket, settings=postfix, services=services) as mta,
    ):
        yield House(postfix=mta, sidecar=sidecar)
