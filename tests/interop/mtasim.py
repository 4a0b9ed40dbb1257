"""GNU mailfromd's mtasim: an MTA without a queue, which speaks SMTP on its standard input and output.

Owns starting one for each connection, and what its trace says of the content. Never judges a reply.
"""

import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Self, cast

from sidecar.core.names import split_endpoint
from tests import ROOT
from tests.mta.client import Answer, Connection, Peer
from tests.mta.house import Pair
from tests.mta.places import unpack

UNPACKED = ROOT / ".venv" / "mtasim"
_LIBRARIES = {"LD_LIBRARY_PATH": f"{UNPACKED}/usr/lib/x86_64-linux-gnu"}
# It offers to go without replies, and waits for them all the same: so it may offer only the steps of version 2, and may ask for
# macros and remove recipients.
OFFER = ("--milter-proto=127", "--milter-actions=511")
_REMOVED, _DISCARDED = "action=default, response=-", "action=default, discard"


class Mtasim(Connection):
    """A connection of the peer given. `offer` are the options of what this MTA can do."""

    def __init__(self, socket: str, peer: Peer, offer: Sequence[str], trace: Path) -> None:
        self._peer = peer
        self._trace = trace
        address, port = split_endpoint(peer.address)
        family = "inet6" if address.version == 6 else "inet"
        login = [] if peer.login is None else [f"-D{{auth_authen}}={peer.login}"]
        self._command = [
            str(UNPACKED / "usr/bin/mtasim"), "-bs", "--verbose", "-X", socket, *offer, *login,
            f"--sender-sockaddr={family},{peer.helo},{address},{port}", "-Di=4ABC",
        ]  # fmt: skip

    def __enter__(self) -> Self:
        with self._trace.open("wb") as trace:
            self._process = subprocess.Popen(
                self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=trace, env=_LIBRARIES
            )
        assert self.reply().code == 220
        assert self.say(f"EHLO {self._peer.helo}").code == 250
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def write(self, data: bytes) -> None:
        """Send bytes as they are."""
        to = cast("IO[bytes]", self._process.stdin)
        to.write(data)
        to.flush()

    def reply(self) -> Answer:
        """Wait for the next reply."""
        lines = []
        for line in cast("IO[bytes]", self._process.stdout):
            lines.append(line.decode().rstrip("\r\n"))
            if lines[-1][3:4] != "-":
                return Answer(code=int(lines[-1][:3]), text="\n".join(one[4:] for one in lines))
        raise EOFError("mtasim ended")

    def say(self, line: str) -> Answer:
        """Send one command and give its reply. RSET takes back HELO too, so that is said again."""
        answer = super().say(line)
        return super().say(f"EHLO {self._peer.helo}") if line == "RSET" else answer

    def close(self) -> None:
        """End it."""
        cast("IO[bytes]", self._process.stdin).close()
        cast("IO[bytes]", self._process.stdout).close()
        self._process.wait()

    def removed(self) -> int:
        """Return how many recipients the milter has removed on this connection."""
        return self._trace.read_text(errors="replace").count(_REMOVED)

    def discarded(self) -> int:
        """Return how many messages the milter has discarded on this connection."""
        return self._trace.read_text(errors="replace").count(_DISCARDED)


class MtasimPair(Pair, frozen=True, kw_only=True):
    """A mtasim for each connection, and their sidecar."""

    folder: Path

    def connect(self, peer: Peer, offer: Sequence[str] = OFFER) -> Mtasim:
        """Open a connection as `peer`."""
        return Mtasim(self.sidecar.socket, peer, offer, self.folder / "trace")

    def delivered(self) -> dict[str, bytes]:
        """Return nothing: mtasim keeps no message."""
        return {}


def get_mtasim() -> None:
    """Unpack mtasim and its library, unless that was done before."""
    unpack(UNPACKED, "mailfromd", "libmailutils9")
