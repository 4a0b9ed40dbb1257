"""Stored messages, judged and counted in bounded memory: the work of a worker process.

Owns which reasons are the same, and the shape of `replay --json`, which is permanent. No message ends the run.
"""

import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal, NamedTuple
from uuid import uuid4

import msgspec
from msgspec import UNSET, Struct
from msgspec.structs import replace

from sidecar.commands.replay.stores import Piece, Stored, Task, messages
from sidecar.core.disposition import Disposition
from sidecar.core.evaluate.delivery import arrival, read_envelope
from sidecar.core.evaluate.evaluator import Evaluator
from sidecar.core.evaluate.explanation import ConnectPart, Explanation, MessagePart, Question, RecipientPart
from sidecar.core.policy import Because
from sidecar.core.policy.address import domain_of
from sidecar.core.text import printable_json

# In bytes: a task makes 1 or 2 MB of lines, but a single hostile report can make 60 MB.
_LINES_LIMIT = 8 * 1024 * 1024
# An operator can have 200,000 rules, and external hosts write into reasons. Further reasons are counted together.
REASONS_LIMIT = 1000
_OTHERS = Because(text="for other reasons")
# The content decides, so the rule is not the complete reason.
_FOR_CONTENT = {Disposition.REJECTED_AT_END, Disposition.TEMPFAILED, Disposition.QUARANTINED}
# The number of unreadable files that are named.
NAMED_LIMIT = 5
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


class Reason(NamedTuple):
    """What makes two reasons the same. The rule has a text only if it is in no file or not the complete reason."""

    outcome: str
    partly: bool
    rule: Because = _OTHERS


@dataclass(kw_only=True)
class ReasonGroup:
    """Messages with one outcome for one reason. `example` is the first one's; `varied`: others differ in a name."""

    count: int
    example: Because
    varied: bool = False


@dataclass(kw_only=True)
class ReplayTally:
    """Counts of messages. `size` is in bytes; `guessed` counts envelopes, `reports` the accepted ones by kind.

    `unreadable` names the first files that cannot be read, each with the reason.
    """

    messages: int = 0
    size: int = 0
    guessed: int = 0
    reports: Counter[str] = field(default_factory=Counter)
    groups: dict[Reason, ReasonGroup] = field(default_factory=dict)
    unreadable: list[str] = field(default_factory=list)

    def count(self, outcome: str) -> int:
        """Return the number of messages with this outcome."""
        return sum(group.count for reason, group in self.groups.items() if reason.outcome == outcome)

    def add(self, judged: Judged) -> None:
        """Count one message, or a file that cannot be read."""
        self.size += judged.size
        self._group(_same_reason(judged), ReasonGroup(count=1, example=judged.reason))
        if judged.not_judged == "unreadable":
            self.unreadable = [*self.unreadable, f"{judged.file}: {judged.reason.text}"][:NAMED_LIMIT]
            return
        self.messages += 1
        self.guessed += judged.guessed
        if judged.message is not None and judged.message.report is not None:
            self.reports[judged.message.report] += 1

    def merge(self, later: "ReplayTally") -> None:
        """Add the counts of the mail that follows."""
        self.messages += later.messages
        self.size += later.size
        self.guessed += later.guessed
        self.reports += later.reports
        for reason, group in later.groups.items():
            self._group(reason, group)
        self.unreadable = [*self.unreadable, *later.unreadable][:NAMED_LIMIT]

    def _group(self, reason: Reason, more: ReasonGroup) -> None:
        group = self.groups.get(reason)
        if group is None and len(self.groups) >= REASONS_LIMIT:
            reason, more = Reason(reason.outcome, reason.partly), ReasonGroup(count=more.count, example=_OTHERS)
            group = self.groups.get(reason)
        if group is None:
            self.groups[reason] = more
            return
        group.count += more.count
        group.varied |= more.varied or more.example.text != group.example.text


def _same_reason(judged: Judged) -> Reason:
    """Return the same value for one rule, whatever domains it decided on, and for words that differ only in the domain."""
    rule, outcome = judged.reason, judged.disposition or judged.not_judged
    assert outcome is not None  # noqa: S101 - it has one of the two
    words = "" if rule.file is not None and judged.disposition not in _FOR_CONTENT else rule.text
    if words and judged.to:
        words = words.removesuffix(domain_of(judged.to[0]))
    return Reason(outcome, judged.partly, Because(file=rule.file, line=rule.line, key=rule.key, text=words))


# --- judging


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
                    rest = task[number:]
                    if judged.offset is not None:
                        # What follows the message in its mbox.
                        rest = (replace(piece, start=judged.offset + judged.size), *rest)
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
        except (OSError, ValueError) as error:
            yield unreadable(name, getattr(error, "strerror", None) or str(error))

    def judge(self, file: str, stored: Stored) -> Judged:
        """Return what would happen to a message."""
        envelope = read_envelope(stored.content, stored.mbox_sender, sender=self.sender, recipients=self.recipients)
        if isinstance(envelope, str):
            reason = Because(text=envelope)
            return Judged(file=file, offset=stored.offset, size=stored.size, not_judged="no_envelope", reason=reason)
        to = list(envelope.recipients)
        question = Question(peer=self.peer, listener=self.listener, auth=self.auth, sender=envelope.sender, to=to)
        # Proofs expire: a report is verified as of the time when it arrived.
        arrived = arrival(stored.content) if self.evaluator.settings.verify is not None else None
        clock = time.time if arrived is None else lambda: arrived
        explanation = self.evaluator.explain(question, stored.content, clock=clock, new_id=uuid4)
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
    if message.verification is not UNSET and message.verification.because:
        return message.verification.because[0]
    return Because(file=rule.file, line=rule.line, key=rule.key, value=rule.value, text=why)
