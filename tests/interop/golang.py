"""The milter client libraries of Go, each driven as the milter side of an MTA.

Owns building `clients/` and talking to it. Never knows what the sidecar should answer.
"""

import fcntl
import json
import shutil
import subprocess
from base64 import b64encode
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, Self, cast

import pytest

from sidecar.core.names import split_endpoint
from tests import ROOT
from tests.mta.client import Answer, Answers, Connection, Peer, Refused
from tests.mta.house import Pair

LIBRARIES = ("emersion", "d--j")
_SOURCES = Path(__file__).with_name("clients")
_PROGRAM = ROOT / ".venv" / "interop" / "clients"


def build() -> Path:
    """Return the program, built if its sources are newer. Skip the test, with the reason, where Go cannot build it."""
    if shutil.which("go") is None:
        pytest.skip("the clients of Go's milter libraries are not tested: Go is not installed")
    _PROGRAM.parent.mkdir(parents=True, exist_ok=True)
    with _PROGRAM.with_name("lock").open("w") as lock:  # the workers of pytest build it once
        fcntl.flock(lock, fcntl.LOCK_EX)
        newest = max(path.stat().st_mtime for path in _SOURCES.iterdir())
        if not _PROGRAM.exists() or _PROGRAM.stat().st_mtime < newest:
            done = subprocess.run(
                ["go", "build", "-o", _PROGRAM, "."], cwd=_SOURCES, capture_output=True, text=True, check=False
            )
            if done.returncode != 0:
                pytest.skip(f"the clients of Go's milter libraries are not tested: go build: {done.stderr.strip()[-300:]}")
    return _PROGRAM


class Library:
    """A context manager: a process with one library's client, for one SMTP connection after the other."""

    def __init__(self, name: str) -> None:
        self._command = [str(build()), name]

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        return self

    def __exit__(self, *_: object) -> None:
        cast("IO[str]", self._process.stdin).close()
        self._process.wait()
        cast("IO[str]", self._process.stdout).close()

    def ask(self, **question: Any) -> dict[str, Any]:
        """Ask one question, and return its answer. Raise RuntimeError if the library reports an error."""
        write, read = cast("IO[str]", self._process.stdin), cast("IO[str]", self._process.stdout)
        write.write(json.dumps(question) + "\n")
        write.flush()
        answer: dict[str, Any] = json.loads(read.readline())
        if answer["Error"]:
            raise RuntimeError(answer["Error"])
        return answer


class LibraryConnection(Connection):
    """A connection with the peer and the listener given, without SMTP. `offered` are the actions of the MTA."""

    def __init__(
        self, library: Library, socket: str, peer: Peer, *, offered: int | None = None, macros: Mapping[str, str] | None = None
    ) -> None:
        self.delivered: dict[str, bytes] = {}
        self._library = library
        self._peer = peer
        address, port = split_endpoint(peer.address)
        self._opening = {
            "Socket": socket,
            "Peer": str(address),
            "Port": port or 0,
            "Helo": peer.helo,
            "Macros": listener_macros(peer) if macros is None else macros,
            "Actions": offered,
        }

    def __enter__(self) -> Self:
        greeting = _answer(self._library.ask(Open=self._opening)["Connect"])
        if greeting.code != 250:
            self.close()
            raise Refused(greeting)
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def send(self, sender: str, recipients: Sequence[str], content: bytes, *, parameters: str = "", **more: Any) -> Answers:
        """Offer one message. `more` are further fields of clients/main.go's `message`."""
        message = {
            "Sender": sender,
            "Arguments": parameters.split(),
            "To": list(recipients),
            "Content": b64encode(content).decode(),
            "Macros": {} if self._peer.login is None else {"auth_authen": self._peer.login},
        }
        given = self._library.ask(Message=message | more)
        self.delivered |= dict.fromkeys(given["Delivered"] or (), content)
        return Answers(
            mail=Answer(code=250, text="ok"),
            recipients=tuple(map(_answer, given["Recipients"])),
            content=_answer(given["Content"]) if given["Content"] else None,
        )

    def close(self) -> None:
        """End the connection with the milter."""
        with suppress(RuntimeError):
            self._library.ask(Close=True)


class LibraryPair(Pair, frozen=True, kw_only=True):
    """An MTA that is a library, and its sidecar."""

    library: Library
    taken: dict[str, bytes]

    def connect(self, peer: Peer, **more: Any) -> "LibraryConnection":
        """Open a connection as `peer`."""
        connection = LibraryConnection(self.library, self.sidecar.socket.removeprefix("unix:"), peer, **more)
        connection.delivered = self.taken
        return connection

    def delivered(self) -> dict[str, bytes]:
        """Return what the MTA took since the last call: recipient -> message."""
        found = dict(self.taken)
        self.taken.clear()
        return found


def listener_macros(peer: Peer) -> dict[str, str]:
    """Return the macros that name the listener."""
    address, port = split_endpoint(peer.listener)
    return {"daemon_addr": str(address), "daemon_port": str(port)}


def _answer(reply: str) -> Answer:
    code, _, text = reply.partition(" ")
    return Answer(code=int(code), text=text)
