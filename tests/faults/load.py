"""A steady load of mail through an MTA, and a ledger of what was answered.

Owns the senders and what they were told. Never judges an answer; the audit does.
"""

import itertools
import smtplib
import time
from collections.abc import Callable

from msgspec import Struct

from tests.faults.threads import Repeated
from tests.mta.client import Answers, Connection, Peer, Refused
from tests.mta.mails import ARF, OOB, ORDINARY

SETTINGS = 'unparsable_reports = "quarantine"\n'
DOMAINS = """\
["bounce.example"]
log_oob = "LogThenDrop"
["keep.example"]
log_oob = "LogThenRelay"
["fbl.example"]
log_arf = "LogThenDrop"
["relay.example"]
relay_to = true
"""

# Enough that workers always have something in hand, and little enough that two cores are mostly idle: with a machine at its
# limits every fault would look alike.
SENDERS = 4
PAUSE = 0.04
# A session of a few messages, so that faults hit sessions at their beginning, in the middle and at the end.
MESSAGES = 5


# A bounce report with a status part of which nothing can be read.
NEAR_MISS = OOB.replace(b"Action:", b"Auction:").replace(b"-Recipient:", b"-Someone:")


class Kind(Struct, frozen=True, kw_only=True):
    """A kind of message, and what the policy makes of it.

    Its recipients are in `domains`. Where it is `taken`, the records of `types` must be there; it is delivered to those of its
    recipients that are in `delivered_to`, and to nobody else. A `unparsable` is kept in the quarantine.
    """

    name: str
    domains: tuple[str, ...]
    content: bytes
    taken: bool = True
    types: tuple[str, ...] = ()
    delivered_to: tuple[str, ...] = ()
    unparsable: bool = False


KINDS = (
    Kind(name="dropped-oob", domains=("bounce.example",), content=OOB, types=("Reception", "OOB")),
    Kind(name="no-report", domains=("bounce.example",), content=ORDINARY, taken=False),
    Kind(name="kept-oob", domains=("keep.example",), content=OOB, types=("Reception", "OOB"), delivered_to=("keep.example",)),
    Kind(name="dropped-arf", domains=("fbl.example",), content=ARF, types=("Feedback",)),
    Kind(name="unparsable", domains=("bounce.example",), content=NEAR_MISS, types=("Reception",), unparsable=True),
    Kind(name="unlisted", domains=("elsewhere.example",), content=OOB, taken=False),
    Kind(name="mail", domains=("relay.example",), content=ORDINARY, types=("Reception",), delivered_to=("relay.example",)),
    Kind(
        name="half-dropped",
        domains=("bounce.example", "relay.example"),
        content=OOB,
        types=("Reception", "OOB"),
        delivered_to=("relay.example",),
    ),
)


class Entry(Struct, frozen=True, kw_only=True):
    """A message offered: its recipients, made for it alone, and the SMTP code that decided; None where no answer came."""

    kind: Kind
    recipients: tuple[str, ...]
    code: int | None


class Load(Repeated):
    """A context manager: within it, strangers send to the MTA on `port`. `entries` grows meanwhile."""

    def __init__(self, port: int) -> None:
        super().__init__(self._connect_and_send, threads=SENDERS)
        self.entries: list[Entry] = []
        self._port = port
        self._numbers = itertools.count()
        # Many of them: what one peer may do within a second has limits of its own.
        self._peers = itertools.cycle([Peer(address=f"203.0.113.{number}:4444") for number in range(1, 255)])

    def count(self, wanted: Callable[[Entry], bool], *, since: int = 0) -> int:
        """Count the entries that are wanted, of those from number `since` on."""
        return sum(map(wanted, self.entries[since:]))

    def _connect_and_send(self) -> None:
        try:
            with Connection(self._port, next(self._peers)) as connection:
                for _ in range(MESSAGES):
                    self._send(connection)
        except (OSError, smtplib.SMTPException, Refused):
            # Whatever broke, nothing was promised; the peer comes again.
            time.sleep(PAUSE)

    def _send(self, connection: Connection) -> None:
        number = next(self._numbers)
        kind = KINDS[number % len(KINDS)]
        recipients = tuple(f"{kind.name}-{number}@{domain}" for domain in kind.domains)
        code = None
        try:
            code = _code(connection.send("", recipients, kind.content))
        finally:
            self.entries.append(Entry(kind=kind, recipients=recipients, code=code))
        time.sleep(PAUSE)


def _code(answers: Answers) -> int:
    """Give the code that decided; a message whose recipients were not all accepted is none that was taken whole."""
    refused = [answer.code for answer in answers.recipients if answer.code != 250]
    return refused[0] if refused else answers.last.code


def is_taken(entry: Entry) -> bool:
    """Tell whether the peer was told that its message was taken."""
    return entry.code == 250


def is_deferred(entry: Entry) -> bool:
    """Tell whether the peer was told to try again."""
    return entry.code is not None and 400 <= entry.code < 500


def is_refused(entry: Entry) -> bool:
    """Tell whether the peer was told never to try again."""
    return entry.code is not None and entry.code >= 500
