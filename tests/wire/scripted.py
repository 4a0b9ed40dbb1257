"""The real adapter, on the real libmilter or our own engine, over sessions that do as the envelope sender says.

`MAIL FROM:<Rcpt=raise>` makes the session raise at RCPT; `<EndOfMessage=Discard>` gives that verdict there, whether it fits or
not. Run as a program: `python -m tests.wire.scripted SOCKET [direct] [silent] [signing] [negotiation] [beginning]`. It serves
until it is killed. With `signing` it asks for what signing needs. With `negotiation` each negotiation raises, with `beginning`
each session raises when it begins.
"""

import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn, cast

from sidecar import log
from sidecar.core.disposition import Disposition
from sidecar.core.records import Facts, ForRecipient, Record, rejection
from sidecar.core.records.record import Response
from sidecar.core.session import ProtocolError, Session
from sidecar.core.session.events import Connect, Data, EndOfHeaders, EndOfMessage, Event, Fields, Header, Mail, Rcpt, State
from sidecar.core.session.verdicts import Accept, Continue, Discard, Outcome, Reject, Reply, Tempfail, Verdict
from sidecar.core.settings.values import LimitSettings, MilterSettings
from sidecar.daemon.milter import ENGINES, Adapter, listen
from sidecar.daemon.milter import adapter as adapter_module
from sidecar.daemon.milter.negotiation import ADDHDRS, CHGFROM
from sidecar.journal import JournalError
from sidecar.journal.write import Recorder
from sidecar.journal.write.disk_thread import Done
from sidecar.journal.write.routes import Batch

RAISING_PEER = "203.0.113.66"
REPLY = Reply(code=550, enhanced="5.7.1", text="100% no\r\nway \N{SNOWMAN}" + "x" * 600)
FIELDS = (("X-Sidecar-Trace", "first.value"), ("CFBL-Address", "fbl@b.example; report=arf"))
NOW = 1_700_000_000.0


class ScriptedSession:
    """Continues everywhere and accepts at the end, except where the script has another verdict."""

    report_size = 0
    session_id = "5e551017-0000-4000-8000-000000000000"
    peer = "203.0.113.9"

    def __init__(self) -> None:
        self.state = State.NEW
        self.listener: str | None = None
        self.script: dict[str, str] = {}
        self.mta_spellings: list[str] = []
        self.authz_id: str | None = None

    @property
    def has_message(self) -> bool:
        """Whether a message has begun."""
        return self.state in {State.ENVELOPE, State.HEADERS, State.BODY}

    def handle(self, event: Event) -> Outcome:
        """Do as the script says, in the order of a real session."""
        step = Session.TRANSITIONS.get((self.state, type(event)))
        if step is None:
            raise ProtocolError(f"{type(event).__name__} is not allowed in state {self.state.name}")
        outcome = self._play(event)
        self.state = step.then if isinstance(outcome.verdict, Continue) else step.ended
        return outcome

    def _play(self, event: Event) -> Outcome:
        if isinstance(event, Connect):
            self.listener = event.listener
        if isinstance(event, Connect) and str(event.peer) == RAISING_PEER:
            raise RuntimeError("the script says so")
        if self.state is State.ENVELOPE and isinstance(event, Data | Fields | Header | EndOfHeaders) and not self.mta_spellings:
            raise ProtocolError("there is no recipient")
        if isinstance(event, Mail):
            self.script = dict([event.sender.split("=", 1)]) if "=" in event.sender else {}
            self.mta_spellings = []
            self.authz_id = event.authz_id
        if isinstance(event, Rcpt):
            self.mta_spellings.append(event.mta_spelling)
        default = "Accept" if isinstance(event, EndOfMessage) else "Continue"
        name = "Header" if isinstance(event, Fields) else type(event).__name__
        return self._outcome(self.script.get(name, default))

    def may_wait(self, _event: Event) -> bool:
        """Wait for no list."""
        return False

    def give_up(self) -> None:
        """Hold nothing."""

    def written(self) -> None:
        """Need nothing."""

    def _outcome(self, word: str) -> Outcome:
        if word == "raise":
            raise RuntimeError("the script says so")
        if word == "unwritten":
            return Outcome(verdict=Discard(), records=(rejection(FACTS, NO_RECIPIENT, response=Response(code=550)),))
        verdicts: dict[str, Callable[[], Verdict]] = {
            "Continue": Continue,
            "Accept": Accept,
            "Without": lambda: Accept(without=tuple(self.mta_spellings)),
            "Sign": lambda: Accept(without=(self.mta_spellings[0],), fields=FIELDS, sender="b+token@b.example"),
            "Reject": lambda: Reject(reply=REPLY),
            "Known": lambda: Continue() if self.authz_id else Reject(reply=REPLY),
            "Tempfail": lambda: Tempfail(reply=Reply(code=452, enhanced="4.5.3", text="later")),
            "Discard": Discard,
        }
        return Outcome(verdict=verdicts[word]())


FACTS = Facts(
    node_id="",
    session_id="",
    message_id="",
    now=NOW,
    created=NOW,
    peer="203.0.113.9",
    helo="",
    sender="",
    listener=None,
    authz_id=None,
    queue_id=None,
    headers={},
)
NO_RECIPIENT = ForRecipient(id="", address="", disposition=Disposition.REJECTED_AT_CONNECT, why="")


def begin() -> Session:
    """Begin a session, or raise if the arguments say so."""
    if "beginning" in sys.argv:
        raise RuntimeError("the script says so")
    return cast("Session", ScriptedSession())


def no_agreement(*_: object) -> NoReturn:
    """Raise in the middle of a negotiation."""
    raise RuntimeError("the script says so")


class FullJournal:
    """A journal, and a quarantine, on a full disk."""

    def encode(self, records: Sequence[Record]) -> Batch:
        """Encode nothing."""
        return Batch(lines=(), size=len(records))

    def write(self, batch: Batch, *, durable: bool) -> None:
        """Fail."""
        raise JournalError(f"cannot write {batch.size} records, durable={durable}: the disk is full")

    def submit(self, batch: Batch, *, durable: bool, done: Done) -> bool:
        """Fail at once, or later if the disk is waited for."""
        if not durable:
            self.write(batch, durable=durable)
        done(JournalError(f"cannot write {batch.size} records, durable={durable}: the disk is full"))
        return False

    def roll(self) -> None:
        """Do nothing."""

    def keep(self, name: str, *, message: bytes, record: bytes) -> None:
        """Fail."""
        raise JournalError(f"cannot keep {len(message) + len(record)} bytes as {name}: the disk is full")

    def sweep(self) -> None:
        """Find nothing."""

    def close(self) -> None:
        """Do nothing."""


def main() -> None:
    """Serve until killed."""
    log.configure(level="info", format="json")
    journal = FullJournal()
    recorder = Recorder(journal=journal, quarantine=journal, limits=LimitSettings())
    answers = "silent" not in sys.argv
    if "negotiation" in sys.argv:
        vars(adapter_module)["agree"] = no_agreement
    engine = ENGINES["direct" if "direct" in sys.argv else "libmilter"]
    adapter = Adapter(
        translations=engine.translations,
        new_session=begin,
        recorder=recorder,
        answers_connect=answers,
        answers_data=answers,
        signing=ADDHDRS | CHGFROM if "signing" in sys.argv else 0,
        waits=engine.waits,
    )
    listener = listen(MilterSettings(socket=sys.argv[1]))
    engine.serve(adapter, listener, Path(sys.argv[1].removeprefix("unix:")).parent, lambda: None)
    signal.pause()


if __name__ == "__main__":
    main()
