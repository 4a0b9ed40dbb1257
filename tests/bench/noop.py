"""A milter on pymilter that does nothing: what Python itself costs.

    python -m tests.bench.noop SOCKET PROCESSES OUTCOME

It asks for the steps and macros that the sidecar asks for, and gives the outcome at the same step: accept at DATA,
reject-headers at the end of the headers, reject-rcpt at RCPT, discard and relay at the end of the message, mixed by
envelope and Content-Type. It has a `Milter.Base` for each connection, as pymilter's documentation recommends.
"""

import os
import signal
import sys
from typing import Any

import Milter
import milter

_STEPS = (
    *(milter.P_NOUNKNOWN, milter.P_HDR_LEADSPC),
    *(milter.P_NR_CONN, milter.P_NR_HELO, milter.P_NR_MAIL, milter.P_NR_HDR, milter.P_NR_BODY),
)
_MACROS = {
    milter.M_CONNECT: "{daemon_addr} {daemon_port} {if_addr}",
    milter.M_ENVFROM: "i {auth_authen}",
    milter.M_ENVRCPT: "i",
    milter.M_DATA: "i",
    milter.M_EOM: "i",
}


class Noop(Milter.Base):  # type: ignore[misc]  # pymilter has no annotations
    """One connection."""

    outcome = "accept"

    def negotiate(self, offer: list[int]) -> int:
        """Ask for the steps and macros."""
        offer[:] = [offer[0] & (milter.DELRCPT | milter.SETSYMLIST), offer[1] & sum(_STEPS), 0, 0]
        for stage, names in _MACROS.items():
            self._ctx.setsymlist(stage, names)
        self.relay_host = self.report = self.feedback = self.takes_reports = False
        return int(Milter.CONTINUE)

    def connect(self, _name: str, _family: int, _address: Any) -> int:
        """Continue."""
        return int(Milter.NOREPLY)

    def hello(self, _name: str) -> int:
        """Continue."""
        return int(Milter.NOREPLY)

    def envfrom(self, sender: str, *_parameters: str) -> int:
        """Note whether a relay host sends it: all mail of the benchmark is from one address."""
        self.relay_host = sender == "<news@send.example>"
        return int(Milter.NOREPLY)

    def envrcpt(self, recipient: str, *_parameters: str) -> int:
        """Reject if that is the outcome."""
        self.feedback = "@fbl." in recipient
        self.takes_reports = self.feedback or "@bounce." in recipient
        known = self.relay_host or self.takes_reports
        if self.outcome == "reject-rcpt" or (self.outcome == "mixed" and not known):
            return self.reject()
        return int(Milter.CONTINUE)

    def data(self) -> int:
        """Accept if that is the outcome."""
        accepted = self.outcome == "accept" or (self.outcome == "mixed" and self.relay_host and not self.takes_reports)
        return int(Milter.ACCEPT if accepted else Milter.CONTINUE)

    def header(self, name: str, value: str) -> int:
        """Note whether it is a report."""
        if name == "Content-Type" and "multipart/report" in value:
            self.report = True
        return int(Milter.NOREPLY)

    def eoh(self) -> int:
        """Reject if that is the outcome."""
        if self.outcome == "reject-headers" or (self.outcome == "mixed" and not self.report):
            return self.reject()
        return int(Milter.CONTINUE)

    def body(self, _chunk: bytes) -> int:
        """Continue."""
        return int(Milter.NOREPLY)

    def eom(self) -> int:
        """Accept or discard."""
        relayed = self.outcome == "relay" or (self.outcome == "mixed" and self.feedback)
        return int(Milter.ACCEPT if relayed else Milter.DISCARD)

    def abort(self) -> int:
        """Continue."""
        return int(Milter.CONTINUE)

    def close(self) -> int:
        """Continue."""
        return int(Milter.CONTINUE)

    def reject(self) -> int:
        """Answer 550."""
        self.setreply("550", "5.7.1", "relaying not permitted")
        return int(Milter.REJECT)


def main(socket: str, processes: int, outcome: str) -> None:
    """Serve from this number of processes on one socket, until SIGTERM."""
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
