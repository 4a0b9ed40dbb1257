"""A milter on pymilter that does nothing: the rival that shows what Python itself costs.

    python -m tests.bench.noop SOCKET PROCESSES OUTCOME

It agrees on the very steps the sidecar agrees on, and gives the outcome at the step at which the sidecar gives it: accept at
DATA, refuse-headers at the end of the headers, refuse-rcpt at RCPT, discard and relay at the end of the message, mixed by
peer, recipient and Content-Type. Written as pymilter's users write one, with a `Milter.Base` for each connection.
"""

import os
import signal
import sys
from typing import Any

import Milter
import milter

from sidecar.daemon.milter import negotiation

OUTCOMES = ("accept", "refuse-rcpt", "discard", "relay", "refuse-headers", "mixed")


class Noop(Milter.Base):  # type: ignore[misc]  # pymilter has no annotations
    """One connection."""

    outcome = "accept"

    def negotiate(self, offer: list[int]) -> int:
        """Ask for what the sidecar asks for."""
        negotiation.agree(self._ctx, offer, negotiation.unanswered(answers_connect=False, answers_data=True))
        self.relay_host = self.report = self.feedback = self.takes_reports = False
        return int(Milter.CONTINUE)

    def connect(self, _name: str, _family: int, address: Any) -> int:
        """Note who comes."""
        self.relay_host = address[0] == "127.0.0.1"
        return int(Milter.NOREPLY)

    def hello(self, _name: str) -> int:
        """Nothing."""
        return int(Milter.NOREPLY)

    def envfrom(self, _sender: str, *_parameters: str) -> int:
        """Nothing."""
        return int(Milter.NOREPLY)

    def envrcpt(self, recipient: str, *_parameters: str) -> int:
        """Refuse where that is the outcome."""
        self.feedback = "@fbl." in recipient
        self.takes_reports = self.feedback or "@bounce." in recipient
        known = self.relay_host or self.takes_reports
        if self.outcome == "refuse-rcpt" or (self.outcome == "mixed" and not known):
            return self.refuse()
        return int(Milter.CONTINUE)

    def data(self) -> int:
        """Give the outcome that needs no content."""
        accepted = self.outcome == "accept" or (self.outcome == "mixed" and self.relay_host and not self.takes_reports)
        return int(Milter.ACCEPT if accepted else Milter.CONTINUE)

    def header(self, name: str, value: str) -> int:
        """Note whether it is a report."""
        if name == "Content-Type" and "multipart/report" in value:
            self.report = True
        return int(Milter.NOREPLY)

    def eoh(self) -> int:
        """Give the outcomes that need no body."""
        if self.outcome == "refuse-headers" or (self.outcome == "mixed" and not self.report):
            return self.refuse()
        return int(Milter.CONTINUE)

    def body(self, _chunk: bytes) -> int:
        """Nothing."""
        return int(Milter.NOREPLY)

    def eom(self) -> int:
        """Give the outcomes that need the body."""
        relayed = self.outcome == "relay" or (self.outcome == "mixed" and self.feedback)
        return int(Milter.ACCEPT if relayed else Milter.DISCARD)

    def abort(self) -> int:
        """Nothing."""
        return int(Milter.CONTINUE)

    def close(self) -> int:
        """Nothing."""
        return int(Milter.CONTINUE)

    def refuse(self) -> int:
        """Answer 550."""
        self.setreply("550", "5.7.1", "relaying not permitted")
        return int(Milter.REJECT)


def main(socket: str, processes: int, outcome: str) -> None:
    """Serve from as many processes behind one socket, until SIGTERM."""
    Noop.outcome = outcome
    Milter.factory = Noop
    Milter.set_flags(Milter.DELRCPT)
    milter.register("noop", data=lambda context: context.getpriv().data(), unknown=None, negotiate=Milter.negotiate_callback)
    milter.setconn(socket)
    milter.opensocket(1)
    children = [pid for _ in range(processes) if (pid := os.fork())]
    if len(children) < processes:
        Milter.runmilter("noop", socket, 240)
        os._exit(0)
    signal.sigwait({signal.SIGTERM, signal.SIGINT})
    for child in children:
        os.kill(child, signal.SIGTERM)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3])
