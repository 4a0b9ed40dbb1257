"""What a transcript of an SMTP session says: who the peer is at each message, and what each message was answered.

Owns the steps of a session and what their replies change. Never sends anything, and never judges a reply.
"""

from collections.abc import Sequence
from enum import Enum, auto

from msgspec import Struct, field
from msgspec.structs import replace

from tests.mta.client import Peer
from tests.mta.logins import plain


class Kind(Enum):
    """The kinds of steps."""

    EHLO = auto()
    XCLIENT = auto()
    STARTTLS = auto()
    AUTH = auto()
    MAIL = auto()
    RCPT = auto()
    DATA = auto()
    CONTENT = auto()
    CHUNK = auto()
    LAST_CHUNK = auto()
    RSET = auto()
    OTHER = auto()


_FORMS = {Kind.MAIL: ("MAIL FROM:<", ">"), Kind.RCPT: ("RCPT TO:<", ">")}

ALONE = {Kind.XCLIENT, Kind.STARTTLS, Kind.AUTH}
"""Steps that go out alone: what follows in the same write is not for the session that they begin."""


class Step(Struct, frozen=True, kw_only=True):
    """One command, or the content after DATA. `text` is its argument; `data` the bytes of a content or a chunk."""

    kind: Kind
    text: str = ""
    data: bytes = b""
    peer: Peer | None = None

    def written(self) -> bytes:
        """Return the bytes that are sent."""
        if self.kind is Kind.CONTENT:
            return self.data + b".\r\n"
        return f"{self._line()}\r\n".encode() + self.data

    def _line(self) -> str:
        match self.kind:
            case Kind.CHUNK | Kind.LAST_CHUNK:
                return f"BDAT {len(self.data)}{' LAST' if self.kind is Kind.LAST_CHUNK else ''}"
            case Kind.XCLIENT if self.peer is not None:
                return f"XCLIENT {self.peer.xclient()}"
            case Kind.OTHER:
                return self.text
            case Kind.AUTH:
                return f"AUTH PLAIN {plain(self.text)}"
            case _:
                before, after = _FORMS.get(self.kind, (f"{self.kind.name} ", ""))
                return f"{before}{self.text}{after}".rstrip()


class Message(Struct, kw_only=True):
    """One mail transaction. `recipients` have the code of their reply; `end` is the code of the reply to the content."""

    peer: Peer
    helo: str | None
    login: str | None
    sender: str
    recipients: list[tuple[str, int]] = field(default_factory=list)
    content: str = ""
    end: int | None = None


class Transcript:
    """What is known after each reply. `messages` are all transactions that were begun.

    `unjudged` are recipients of transactions whose sender a reply left open: after a failed DATA or BDAT the MTA decides
    whether the transaction continues.
    """

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self.unjudged: list[str] = []
        self.wrong: list[str] = []
        self.changes = 0
        self._peer = Peer()
        self._helo: str | None = None
        self._login: str | None = None
        self._open: Message | None = None
        self._unsure = False

    def note(self, step: Step, code: int) -> None:
        """Note the reply to a step."""
        self.changes += step.kind in ALONE and code in {220, 235} and bool(self.messages)
        match step.kind:
            case Kind.XCLIENT if code == 220:
                assert step.peer is not None
                self._peer, self._login, self._helo = step.peer, step.peer.login, None
                self._forget()
            case Kind.STARTTLS if code == 220:
                self._helo = None
                self._forget()
            case Kind.EHLO if code == 250:
                self._helo = step.text
                self._forget()
            case Kind.RSET if code == 250:
                self._forget()
            case Kind.AUTH if code == 235:
                self._login = step.text
            case Kind.MAIL if code == 250:
                self._begin(step.text)
            case Kind.RCPT:
                self._recipient(step.text, code)
            case Kind.DATA | Kind.CHUNK if code not in {250, 354}:
                self._unsure = True
            case Kind.CONTENT | Kind.LAST_CHUNK:
                self._end(step.text, code)
            case _:
                pass

    def _begin(self, sender: str) -> None:
        if self._open is not None and not self._unsure:
            self.wrong.append(f"MAIL within a transaction was accepted: {sender}")
        self._open = Message(peer=self._peer, helo=self._helo, login=self._login, sender=sender)
        self._unsure = False
        self.messages.append(self._open)

    def _recipient(self, address: str, code: int) -> None:
        if self._unsure:
            self.unjudged.append(address)
        elif self._open is not None:
            self._open.recipients.append((address, code))
        elif code == 250:
            self.wrong.append(f"RCPT without a transaction was accepted: {address}")

    def _end(self, content: str, code: int) -> None:
        if self._open is not None and not self._unsure:
            self._open.content, self._open.end = content, code
        # A message that failed may leave its transaction open, which one that was accepted does not.
        self._unsure = code != 250 and self._open is not None
        self._open = None

    def _forget(self) -> None:
        self._open, self._unsure = None, False


def with_login(peer: Peer, login: str | None) -> Peer:
    """Return the peer with another login."""
    return replace(peer, login=login)


def grouped(steps: Sequence[Step], cuts: Sequence[bool]) -> list[list[Step]]:
    """Return the steps in groups of one write each. A true cut ends a group; so does what must be answered first."""
    groups: list[list[Step]] = [[]]
    for step, cut in zip(steps, cuts, strict=True):
        if step.kind in ALONE and groups[-1]:
            groups.append([])
        groups[-1].append(step)
        if cut or step.kind in ALONE or step.kind is Kind.DATA:
            groups.append([])
    return [group for group in groups if group]
