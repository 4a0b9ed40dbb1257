"""The milter protocol without libmilter: any bytes of an MTA, in any pieces, down to the session and back.

Owns what is true of the answers. Never looks at the events.
"""

import struct
from collections.abc import Iterable, Iterator, Sequence

from sidecar import log
from sidecar.core.records import Record
from sidecar.core.settings.values import LimitSettings
from sidecar.daemon.milter import Adapter
from sidecar.daemon.milter.conversation import Conversation, Steps
from sidecar.daemon.milter.packets import TRANSLATIONS, MalformedError
from sidecar.journal.write import Recorder
from sidecar.journal.write.routes import Batch
from tests.core.session.driving import session
from tests.faults.flood import SCRIPTS
from tests.fuzz.contract import fuzzed_settings

_SETTINGS = fuzzed_settings()

# What is no packet is a line in the log, each time.
log.configure(level="critical")


class Kept:
    """A journal, and a quarantine. `taken` counts the records of messages that were taken."""

    def __init__(self) -> None:
        self.taken = 0

    def encode(self, records: Sequence[Record]) -> Batch:
        """Count the records of messages that were accepted."""
        self.taken += sum(record.type != "Rejection" for record in records)
        return Batch(lines=(), size=0)

    def write(self, batch: Batch, *, durable: bool) -> None:
        """Keep records; all of them are as durable as they will ever be."""
        assert durable in {True, False}
        assert batch.size == 0

    def keep(self, name: str, *, message: bytes, record: bytes) -> None:
        """Keep a message."""
        assert name
        assert message
        assert record

    def submit(self, batch: Batch, *, durable: bool, done: object) -> bool:  # noqa: ARG002 - nothing waits here
        """Write at once."""
        self.write(batch, durable=durable)
        return True

    def roll(self) -> None:
        """Do nothing."""

    def sweep(self) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Do nothing."""


def seeds() -> Iterator[bytes]:
    """Give whole sessions, as they come from an MTA, and two on one connection: the second without its offer of 17 bytes."""
    for text in (*(script.text for script in SCRIPTS), SCRIPTS[0].text[:-5] + b"\0\0\0\1K" + SCRIPTS[3].text[17:]):
        yield text.replace(b"203.0.113.000", b"203.0.113.129").replace(b"a@relay.example", b"aa@open.example")


def check(data: bytes) -> None:
    """Hold it at once and byte by byte: the answers are the same, and whole, and no message is taken without a record."""
    answers, taken = _hold([data])
    assert _hold(data[at : at + 1] for at in range(len(data))) == (answers, taken)
    letters = _letters(answers)
    assert set(letters) <= set("Ocadyrt-")
    assert taken >= letters.count("a") + letters.count("d")


def _hold(pieces: Iterable[bytes]) -> tuple[bytes, int]:
    """Give all that is answered, and how many records of messages taken there are then."""
    kept = Kept()
    adapter = Adapter(
        translations=TRANSLATIONS,
        new_session=lambda: session(_SETTINGS),
        recorder=Recorder(journal=kept, quarantine=kept, limits=LimitSettings(rejection_records_per_second=1_000_000)),
        answers_connect=True,
        answers_data=True,
    )
    conversation = Conversation(Steps(adapter.callbacks, adapter.negotiate), _never)
    try:
        for piece in pieces:
            conversation.receive(piece)
            while conversation.more and not conversation.over:
                conversation.receive(b"")
            if conversation.over:
                break
    except MalformedError:
        pass  # what was answered until then stays as it is
    conversation.close()
    return b"".join(conversation.output), kept.taken


def _never(_finish: object) -> None:
    raise AssertionError("without waits, each callback returns its answer")


def _letters(answers: bytes) -> str:
    letters = ""
    while answers:
        (length,) = struct.unpack_from("!I", answers)
        assert len(answers) >= 4 + length
        letters += chr(answers[4])
        answers = answers[4 + length :]
    return letters
