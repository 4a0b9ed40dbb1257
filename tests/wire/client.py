"""A small MTA's side of the milter protocol (versions 2 to 6), packet by packet, as Sendmail and Postfix speak it.

Owns the wire format. Never retries, and waits for an answer for `TIMEOUT` seconds at most.
"""

import socket
import struct
from typing import NamedTuple, Self

# Longer than any answer takes on a machine with a load of 10.
TIMEOUT = 60.0

# What Postfix 3.7 offers.
ACTIONS = 0x1FF
STEPS = 0x1FFFFF

ADDHDRS, ADDRCPT, DELRCPT, CHGFROM, SETSYMLIST = 0x01, 0x04, 0x08, 0x40, 0x100
NO_DATA, NO_UNKNOWN, SKIP, LEADING_SPACE = 0x200, 0x100, 0x400, 0x100000
# The bit that says "no reply" for each command.
NO_REPLY = {b"C": 0x1000, b"H": 0x2000, b"M": 0x4000, b"R": 0x8000, b"T": 0x10000, b"L": 0x80, b"N": 0x40000, b"B": 0x80000}
VERSION = 6


class Reply(NamedTuple):
    """An answer: libmilter's letter (`c` continue, `a` accept, `d` discard, `s` skip, `y` reply code...) and its text."""

    code: str
    text: str = ""


class Terms(NamedTuple):
    """The milter's answer to the MTA's offer."""

    version: int
    actions: int
    steps: int
    macros: dict[int, str]


CONTINUE, ACCEPT, DISCARD = Reply("c"), Reply("a"), Reply("d")
TROUBLE = Reply("y", "451 4.3.0 the policy service has trouble; try again later")
INCAPABLE = Reply("y", "451 4.3.5 the mail server here lacks what this message needs; try again later")
NONE = Reply("")
GOING_ON = {CONTINUE, NONE}


class Mta:
    """One connection to a milter. `address` is a path or a (host, port)."""

    def __init__(self, address: str | tuple[str, int]) -> None:
        self.socket = socket.socket(socket.AF_UNIX if isinstance(address, str) else socket.AF_INET)
        self.socket.settimeout(TIMEOUT)
        try:
            self.socket.connect(address)
            if not isinstance(address, str):
                self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except OSError:
            self.socket.close()
            raise
        self.steps = 0
        # Of the last message: header fields with their index and value, and envelope senders, as the milter sent them.
        self.inserted: list[tuple[int, bytes, bytes]] = []
        self.senders: list[bytes] = []
        self.offered = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Hang up without a word."""
        self.socket.close()

    # --- packets

    def send(self, command: bytes, payload: bytes = b"") -> None:
        """Send one packet."""
        self.socket.sendall(struct.pack("!I", len(payload) + 1) + command + payload)

    def receive(self) -> tuple[str, bytes]:
        """Receive one packet. Raises EOFError when the milter hung up."""
        (length,) = struct.unpack("!I", self._exactly(4))
        packet = self._exactly(length)
        return packet[:1].decode("ascii"), packet[1:]

    def _exactly(self, length: int) -> bytes:
        got = b""
        while len(got) < length:
            piece = self.socket.recv(length - len(got))
            if not piece:
                raise EOFError("the milter hung up")
            got += piece
        return got

    def ask(self, command: bytes, payload: bytes = b"") -> Reply:
        """Send a command, and take the answer if one was agreed on."""
        self.send(command, payload)
        if self.steps & self.offered & NO_REPLY.get(command, 0):
            return NONE
        return self.reply()

    def reply(self) -> Reply:
        """Take one answer."""
        return _reply(*self.receive())

    # --- the protocol's steps

    def negotiate(self, *, version: int = VERSION, actions: int = ACTIONS, steps: int = STEPS) -> Terms:
        """Offer, and take the milter's answer."""
        self.send(b"O", struct.pack("!III", version, actions, steps))
        code, payload = self.receive()
        assert code == "O"
        spoken, allowed, self.steps = struct.unpack("!III", payload[:12])
        self.offered = steps
        return Terms(spoken, allowed, self.steps, _symlists(payload[12:]))

    def macros(self, command: bytes, **values: str) -> None:
        """Send the macros for the command to come; `_name` stands for `{name}`."""
        pairs = [(f"{{{name[1:]}}}" if name.startswith("_") else name, value) for name, value in values.items()]
        self.send(b"D", command + b"".join(f"{name}\0{value}\0".encode() for name, value in pairs))

    def connect(
        self, peer: str = "203.0.113.9", port: int = 4444, listener: str | None = "10.1.1.1:25", family: bytes = b""
    ) -> Reply:
        """Send the peer, and the listener that it connected to."""
        if listener is not None:
            host, _, number = listener.rpartition(":")
            self.macros(b"C", _daemon_addr=host, _daemon_port=number)
        family = family or (b"6" if ":" in peer else b"4")
        end = b"" if family == b"U" else struct.pack("!H", port) + peer.encode() + b"\0"
        return self.ask(b"C", b"peer.example\0" + family + end)

    def helo(self, name: bytes = b"peer.example") -> Reply:
        """Send HELO."""
        return self.ask(b"H", name + b"\0")

    def mail(self, sender: bytes = b"<>", *parameters: bytes, **macros: str) -> Reply:
        """Send MAIL FROM."""
        if macros:
            self.macros(b"M", **macros)
        return self.ask(b"M", b"".join(word + b"\0" for word in (sender, *parameters)))

    def rcpt(self, recipient: bytes, *parameters: bytes) -> Reply:
        """Send RCPT TO."""
        return self.ask(b"R", b"".join(word + b"\0" for word in (recipient, *parameters)))

    def data(self, queue_id: str = "") -> Reply:
        """Send DATA."""
        if queue_id:
            self.macros(b"T", i=queue_id)
        return self.ask(b"T")

    def header(self, name: bytes, value: bytes) -> Reply:
        """Send one header field."""
        return self.ask(b"L", name + b"\0" + value + b"\0")

    def end_of_headers(self) -> Reply:
        """Send the end of the headers."""
        return self.ask(b"N")

    def body(self, chunk: bytes) -> Reply:
        """Send a piece of the body."""
        return self.ask(b"B", chunk)

    def end_of_message(self) -> tuple[Reply, list[str]]:
        """Ask for the verdict; give it, and the recipients that were taken off."""
        self.send(b"E")
        gone: list[str] = []
        self.inserted, self.senders = [], []
        while True:
            letter, payload = self.receive()
            words = payload.split(b"\0")
            if letter == "-":
                gone.append(words[0].decode())
            elif letter == "e":
                self.senders.append(words[0])
            elif letter == "i":
                name, value, _ = payload[4:].split(b"\0")
                self.inserted.append((int.from_bytes(payload[:4]), name, value))
            else:
                return _reply(letter, payload), gone

    def abort(self) -> None:
        """Abort the message."""
        self.send(b"A")

    def quit(self) -> None:
        """Send the end of the connection, and wait for the milter to disconnect."""
        self.send(b"Q")
        assert self.socket.recv(1) == b""
        self.close()

    # --- whole stretches of it

    def begin(self, **connect: str | int | None) -> Reply:
        """Negotiate and connect; give the answer to the connect."""
        self.negotiate()
        reply = self.connect(**connect)  # type: ignore[arg-type]  # passed through as it came
        self.helo()
        return reply

    def envelope(self, sender: bytes, *recipients: bytes) -> list[Reply]:
        """MAIL and RCPTs; give the answers to the RCPTs."""
        self.mail(sender)
        return [self.rcpt(recipient) for recipient in recipients]

    def content(self, message: bytes, *, data: bool = True) -> tuple[Reply, list[str]]:
        """Send a message until the milter decides, DATA first if `data`. Return its verdict and the removed recipients."""
        head, _, body = message.partition(b"\r\n\r\n")
        if data and (reply := self.data("4QUEUEID")) not in GOING_ON:
            return reply, []
        for line in head.replace(b"\r\n\t", b"\n\t").replace(b"\r\n ", b"\n ").split(b"\r\n"):
            name, _, value = line.partition(b":")
            self.header(name, value)
        if (reply := self.end_of_headers()) not in GOING_ON:
            return reply, []
        for start in range(0, len(body), 65535):
            reply = self.body(body[start : start + 65535])
            if reply not in GOING_ON:
                return reply, []
        return self.end_of_message()


def _reply(code: str, payload: bytes) -> Reply:
    return Reply(code, payload.rstrip(b"\0").decode("ascii"))


def _symlists(packed: bytes) -> dict[int, str]:
    """Read the macros that the milter asked for: a number and a string for each stage."""
    found = {}
    while packed:
        (stage,) = struct.unpack("!I", packed[:4])
        names, _, packed = packed[4:].partition(b"\0")
        found[stage] = names.decode("ascii")
    return found
