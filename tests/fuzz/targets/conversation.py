"""The milter protocol without libmilter: any bytes of an MTA, in any pieces, down to the session and back.

Owns the facts that hold for all answers. Never looks at the events.
"""

import struct
from collections.abc import Callable, Iterable, Iterator, Sequence

from sidecar import log
from sidecar.core.records import Record
from sidecar.core.session.verdicts import Outcome
from sidecar.core.settings.values import LimitSettings
from sidecar.daemon.milter import Adapter
from sidecar.daemon.milter.conversation import Conversation, Finish, Steps
from sidecar.daemon.milter.packets import TRANSLATIONS, MalformedError
from sidecar.journal.write import Recorder
from sidecar.journal.write.routes import Batch
from tests.core.session.driving import session
from tests.faults.flood import SCRIPTS
from tests.fuzz.contract import fuzzed_settings

_SETTINGS = fuzzed_settings()

# Bytes that are no packet are a line in the log, each time.
log.configure(level="critical")


class Kept:
    """A journal, and a quarantine. `accepted` counts the records of messages that were accepted."""

    def __init__(self) -> None:
        self.accepted = 0

    def encode(self, records: Sequence[Record]) -> Batch:
        """Count the records of messages that were accepted."""
        self.accepted += sum(record.type != "Rejection" for record in records)
        return Batch(lines=(), size=0)

    def write(self, batch: Batch, *, durable: bool) -> None:
        """Keep records."""
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


class AtOnce(Recorder):
    """A recorder whose slow work is done at once, and answered later."""

    def run_slowly(self, work: Callable[[], Outcome], done: Callable[[Outcome | Exception], object]) -> None:
        """Do it in this thread."""
        try:
            result: Outcome | Exception = work()
        except Exception as error:  # noqa: BLE001 - raised again by `done`, as with threads
            result = error
        done(result)


def seeds() -> Iterator[bytes]:
    """Yield whole sessions, as they come from an MTA, and two on one connection: the second without its offer of 17 bytes."""
    for text in (*(script.text for script in SCRIPTS), SCRIPTS[0].text[:-5] + b"\0\0\0\1K" + SCRIPTS[3].text[17:]):
        yield text.replace(b"203.0.113.000", b"203.0.113.129").replace(b"a@relay.example", b"aa@open.example")


def check(data: bytes) -> None:
    """Play it at once and byte by byte: the answers are the same, and whole, and no message is accepted without a record."""
    assert hold(data[at : at + 1] for at in range(len(data))) == hold([data])


def hold(pieces: Iterable[bytes]) -> str:
    """Return the letters of all answers. Each accepted message has a record."""
    kept, later = Kept(), list[Finish]()
    adapter = Adapter(
        translations=TRANSLATIONS,
        new_session=lambda: session(_SETTINGS),
        recorder=AtOnce(journal=kept, quarantine=kept, limits=LimitSettings(rejection_records_per_second=1_000_000)),
        answers_connect=True,
        answers_data=True,
        waits=True,
    )
    conversation = Conversation(Steps(adapter.callbacks, adapter.negotiate), later.append)
    try:
        for piece in pieces:
            conversation.receive(piece)
            while (conversation.more or later) and not conversation.over:
                if later:
                    conversation.resume(later.pop()())
                else:
                    conversation.receive(b"")
            if conversation.over:
                break
    except MalformedError:
        pass  # the answers before it are sent
    conversation.close()
    letters = _letters(b"".join(conversation.output))
    assert set(letters) <= set("Ocadyrt-")
    assert kept.accepted >= letters.count("a") + letters.count("d")
    return letters


def _letters(answers: bytes) -> str:
    letters = ""
    while answers:
        (length,) = struct.unpack_from("!I", answers)
        assert len(answers) >= 4 + length
        letters += chr(answers[4])
        answers = answers[4 + length :]
    return letters
