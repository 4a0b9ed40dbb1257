"""Stored messages, judged and counted: the work of a worker process.

Owns the shape of `replay --json`, which scripts read: it is permanent. No message ends the run.
"""

import time
from collections.abc import Iterator
from typing import Literal
from uuid import uuid4

import msgspec
from msgspec import Struct

from sidecar.commands.replay.envelope import read_envelope
from sidecar.commands.replay.stores import Piece, Stored, Task, messages
from sidecar.commands.replay.tally import ReplayTally
from sidecar.core.disposition import Disposition
from sidecar.core.evaluate.evaluator import Evaluator
from sidecar.core.evaluate.explanation import ConnectPart, Explanation, MessagePart, Question, RecipientPart
from sidecar.core.policy import Because
from sidecar.core.text import printable_json

# In bytes: a task makes 1 or 2 MB of lines, but a single hostile report can make 60 MB.
_LINES_LIMIT = 8 * 1024 * 1024
_ENCODER = msgspec.json.Encoder()


class Judged(Struct, frozen=True, kw_only=True, rename={"sender": "from"}):
    """A message with its disposition, the reason for it, and the complete explanation; or the reason why it is not judged.

    `offset` is the place of the message in its mbox, `size` its size there, in bytes. `partly`: not all recipients get it.
    """

    file: str
    offset: int | None
    size: int
    sender: str | None = None
    to: tuple[str, ...] = ()
    guessed: bool = False
    disposition: Disposition | None = None
    partly: bool = False
    not_judged: Literal["no_envelope", "unreadable"] | None = None
    reason: Because
    connect: ConnectPart | None = None
    recipients: list[RecipientPart] | None = None
    message: MessagePart | None = None


class JudgedBatch(Struct, frozen=True, kw_only=True):
    """Consecutive messages: their JSON lines, if wanted, and their counts. `rest` is what remains of the task."""

    lines: bytes
    tally: ReplayTally
    rest: Task = ()


class Replayer(Struct, frozen=True, kw_only=True):
    """The peer that sends all messages. `sender` and `recipients` are read from each message if they are not set here."""

    evaluator: Evaluator
    peer: str
    listener: str | None = None
    auth: str | None = None
    sender: str | None = None
    recipients: tuple[str, ...] = ()
    with_lines: bool = False

    @property
    def limit(self) -> int:
        """The number of bytes of a message that are enough to judge it as if all of it was read.

        A session keeps no more of a report, and it needs only the headers of other messages.
        """
        settings = self.evaluator.settings
        return settings.report_size_limit + settings.limits.header_size + 1

    def replay(self, task: Task) -> JudgedBatch:
        """Judge the messages of a task, until their lines are longer than the limit."""
        lines, tally = bytearray(), ReplayTally()
        for number, piece in enumerate(task, start=1):
            for judged in self._judged(piece):
                tally.add(judged)
                if self.with_lines:
                    lines += printable_json(_ENCODER.encode(judged)) + b"\n"
                if len(lines) > _LINES_LIMIT:
                    rest = _after(judged, piece) + task[number:]
                    return JudgedBatch(lines=bytes(lines), tally=tally, rest=rest)
        return JudgedBatch(lines=bytes(lines), tally=tally)

    def _judged(self, piece: Piece) -> Iterator[Judged]:
        # Names are bytes: those that are not UTF-8 have lone surrogates, which JSON cannot contain.
        name = piece.path.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
        try:
            for stored in messages(piece, self.limit):
                try:
                    yield self.judge(name, stored)
                except Exception as error:  # noqa: BLE001 - the milter answers 451; here it must not end a run over a million messages
                    text = f"the program failed on it, which is an error of the program: {error!r}"
                    yield unreadable(name, text, stored.offset, stored.size)
        except OSError as error:
            yield unreadable(name, error.strerror or str(error))
        except ValueError as error:
            yield unreadable(name, str(error))

    def judge(self, file: str, stored: Stored) -> Judged:
        """Return what would happen to a message."""
        envelope = read_envelope(stored.content, stored.mbox_sender, sender=self.sender, recipients=self.recipients)
        if isinstance(envelope, str):
            reason = Because(text=envelope)
            return Judged(file=file, offset=stored.offset, size=stored.size, not_judged="no_envelope", reason=reason)
        to = list(envelope.recipients)
        question = Question(peer=self.peer, listener=self.listener, auth=self.auth, sender=envelope.sender, to=to)
        explanation = self.evaluator.explain(question, stored.content, clock=time.time, new_id=uuid4)
        message = explanation.message
        return Judged(
            file=file,
            offset=stored.offset,
            size=stored.size,
            sender=envelope.sender,
            to=envelope.recipients,
            guessed=envelope.guessed,
            disposition=message.disposition,
            partly=message.action == "accept" and len(message.relayed) < len(explanation.recipients),
            reason=_reason(explanation),
            connect=explanation.connect,
            recipients=explanation.recipients,
            message=message,
        )


def unreadable(file: str, why: str, offset: int | None = None, size: int = 0) -> Judged:
    """Return the entry of a file that cannot be read to its end, or of a message that cannot be judged."""
    return Judged(file=file, offset=offset, size=size, not_judged="unreadable", reason=Because(text=why))


def _after(judged: Judged, piece: Piece) -> Task:
    """Return what follows a message in its mbox; nothing if it has its own file."""
    if judged.offset is None:
        return ()
    return (Piece(path=piece.path, start=judged.offset + judged.size, end=piece.end),)


def _reason(explanation: Explanation) -> Because:
    """Return the rule that decided, as far as a rule did."""
    message = explanation.message
    if explanation.connect.action == "reject":
        return Because(text="; ".join(explanation.connect.because))
    if message.action is None:
        return explanation.recipients[0].because[0]
    accepted = [recipient for recipient in explanation.recipients if recipient.action == "accept"]
    if message.report is not None:
        rules = (rule for recipient in accepted for rule in recipient.because)
        return next(rule for rule in rules if (rule.key or "").endswith(f".log_{message.report}"))
    if message.action == "accept":
        return next(recipient.because[0] for recipient in accepted if recipient.relay)
    # The rule that accepted the recipient, with the reason why the message is not a report.
    rule = accepted[0].because[0]
    why = str(message.records[0].meta["why"]).partition("; ")[0]
    return Because(file=rule.file, line=rule.line, key=rule.key, value=rule.value, text=why)
