"""Many short sessions at the milter protocol, of every kind, as fast as they go, and what they leave behind in a worker.

Owns the sessions' bytes and what must come back. Never waits between a question and its answer: a session is sent whole.
"""

import itertools
import re
import socket
import struct
import time
from pathlib import Path

from msgspec import Struct

from tests.faults.threads import Repeated
from tests.mta.mails import ARF, OOB, ORDINARY
from tests.mta.processes import wait_until
from tests.wire.client import ACTIONS, STEPS, TIMEOUT, VERSION
from tests.wire.program import Program

_THREADS = 4

DOMAINS = """\
["bounce.example"]
log_oob = "LogThenDrop"
["fbl.example"]
log_arf = "LogThenDrop"
["relay.example"]
relay_to = true
"""


class Scripted(Struct, frozen=True, kw_only=True):
    """A session: its bytes, with `_PEER` for the peer, and the letters of the answers; None where we hang up on the milter.

    `directly` has the answers of our own engine where they differ.
    """

    name: str
    text: bytes
    answers: str | None
    directly: str | None = None


_PEER = b"203.0.113.000"


def _packet(command: bytes, data: bytes = b"") -> bytes:
    return struct.pack("!I", len(data) + 1) + command + data


def _greeting(helo: bytes = b"peer.example") -> bytes:
    offer = _packet(b"O", struct.pack("!III", VERSION, ACTIONS, STEPS))
    macros = _packet(b"D", b"C{daemon_addr}\x0010.1.1.1\0{daemon_port}\x0025\0")
    connect = _packet(b"C", b"peer.example\x004" + struct.pack("!H", 4444) + _PEER + b"\0")
    return offer + macros + connect + _packet(b"H", helo + b"\0")


def _envelope(recipient: bytes, sender: bytes = b"<>") -> bytes:
    return _packet(b"M", sender + b"\0") + _packet(b"R", recipient + b"\0")


def _headers(message: bytes) -> bytes:
    head, _, _ = message.partition(b"\n\n")
    fields = (line.partition(b":") for line in head.replace(b"\n\t", b" ").split(b"\n"))
    sent = b"".join(_packet(b"L", name + b"\0" + value + b"\0") for name, _, value in fields)
    return _packet(b"T") + sent + _packet(b"N")


def _message(message: bytes) -> bytes:
    _, _, body = message.partition(b"\n\n")
    return _headers(message) + _packet(b"B", body.replace(b"\n", b"\r\n")) + _packet(b"E")


_QUIT = _packet(b"Q")
# A message with a sender is rejected at the end of its header section, unless that section claims a report.
_ORDINARY_TO_BOUNCE = _envelope(b"<a@bounce.example>", b"<news@b.example>")
_TO_BOUNCE, _TO_FBL, _TO_RELAY = (
    _envelope(b"<a@bounce.example>"),
    _envelope(b"<a@fbl.example>"),
    _envelope(b"<a@relay.example>"),
)

SCRIPTS = (
    Scripted(name="a bounce report, dropped", text=_greeting() + _TO_BOUNCE + _message(OOB) + _QUIT, answers="Occcd"),
    Scripted(name="a feedback report, dropped", text=_greeting() + _TO_FBL + _message(ARF) + _QUIT, answers="Occcd"),
    Scripted(name="no report", text=_greeting() + _ORDINARY_TO_BOUNCE + _headers(ORDINARY) + _QUIT, answers="Occy"),
    Scripted(name="mail to relay", text=_greeting() + _TO_RELAY + _headers(ORDINARY) + _QUIT, answers="Occa"),
    Scripted(name="a refused recipient", text=_greeting() + _envelope(b"<a@b.example>") + _packet(b"A") + _QUIT, answers="Oy"),
    Scripted(name="an address that is no text", text=_greeting() + _envelope(b"<\xff@relay.example>") + _QUIT, answers="Oy"),
    Scripted(name="a HELO name that is no text", text=_greeting(b"\xff\xfe") + _TO_RELAY + _QUIT, answers="Oc"),
    Scripted(
        name="an MTA without MAIL: libmilter ignores its RCPT, and the direct engine ends the connection",
        text=_greeting() + _packet(b"R", b"<a@b.example>\0") + _QUIT,
        answers="O",
    ),
    Scripted(
        name="an MTA that continues without a recipient: the direct engine ends the connection",
        text=_greeting() + _envelope(b"<a@b.example>") + _packet(b"T") + _QUIT,
        answers="Oyy",
        directly="Oy",
    ),
    Scripted(
        name="three messages",
        text=_greeting()
        + _TO_BOUNCE
        + _packet(b"A")
        + _TO_RELAY
        + _headers(ORDINARY)
        + _ORDINARY_TO_BOUNCE
        + _headers(ORDINARY)
        + _QUIT,
        answers="Occcaccy",
    ),
    Scripted(name="a session that is lost in a body", text=_greeting() + _TO_BOUNCE + _message(OOB)[:-200], answers=None),
    Scripted(name="a session that is lost after HELO", text=_greeting(), answers=None),
    Scripted(name="a connection that says nothing", text=b"", answers=None),
)


class Flood(Repeated):
    """A context manager: within it, sessions of every kind come to the program. `done` counts them."""

    def __init__(self, program: Program) -> None:
        super().__init__(self._one, threads=_THREADS)
        assert isinstance(program.address, str)
        self._path, self._direct = program.address, program.engine == "direct"
        self._numbers = itertools.count()
        self.done = 0

    def _one(self) -> None:
        number = next(self._numbers)
        script = SCRIPTS[number % len(SCRIPTS)]
        answers = script.directly if self._direct and script.directly is not None else script.answers
        with socket.socket(socket.AF_UNIX) as milter:
            milter.settimeout(TIMEOUT)
            milter.connect(self._path)
            milter.sendall(script.text.replace(_PEER, b"203.0.113.%03d" % (number % 100 + 100)))
            if answers is not None:
                assert (heard := _letters(milter)) == answers, f"{script.name}: {heard}"
        self.done = number


def _letters(milter: socket.socket) -> str:
    """Read answers to the end; give the letter of each."""
    data = b"".join(iter(lambda: milter.recv(65536), b""))
    letters = ""
    while data:
        (length,) = struct.unpack("!I", data[:4])
        letters += chr(data[4])
        data = data[4 + length :]
    return letters


class Footprint(Struct, frozen=True, kw_only=True):
    """What a process holds: resident memory in bytes, threads, and descriptors."""

    memory: int
    threads: int
    descriptors: int


def footprint(pid: int) -> Footprint:
    """Look at a process (proc_pid_status(5))."""
    status = dict(re.findall(r"(\w+):\s+(\d+)", Path(f"/proc/{pid}/status").read_text()))
    descriptors = len(list(Path(f"/proc/{pid}/fd").iterdir()))
    return Footprint(memory=int(status["VmRSS"]) * 1024, threads=int(status["Threads"]), descriptors=descriptors)


def cpu_time(pid: int) -> float:
    """Return the CPU time of a process with all its threads, in seconds (clock_getcpuclockid(3))."""
    return time.clock_gettime((~pid << 3) | 2)


def footprints(*sessions: int, engine: str) -> list[Footprint]:
    """Give what one worker holds after so many sessions, and after so many more, each time with none open."""
    found = []
    with Program(domains=DOMAINS, engine=engine, milter="workers = 1") as program:
        (pid,) = program.workers()
        at_rest = footprint(pid).descriptors
        for number in sessions:
            with Flood(program) as flood:
                wait_until(lambda: flood.done >= number, f"{number} sessions are over", seconds=600, give_up=flood.failed)  # noqa: B023 - called here
            # The segment that is written to, and nothing else, is open beyond what was at the start.
            wait_until(lambda: footprint(pid).descriptors <= at_rest + 1, "all connections are closed")
            found.append(footprint(pid))
        assert program.workers() == {pid}, "it is still the same process"
        assert program.stop() == 0
    return found
