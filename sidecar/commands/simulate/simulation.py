"""The catalogue through a running MTA, shape by shape: send it, find its records in the journal, compare both with the policy.

Never decides: the evaluator does, as for `explain`. Never changes a file.
"""

import re
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from itertools import chain
from pathlib import Path
from uuid import uuid4

from msgspec import Struct
from msgspec.structs import replace

from sidecar.commands.simulate.client import Answer, Dialogue, Target, deliver
from sidecar.commands.simulate.shapes import MessageShape
from sidecar.core.disposition import Disposition
from sidecar.core.evaluate.evaluator import Evaluator
from sidecar.core.evaluate.explanation import Question
from sidecar.core.names import endpoint, normal_listener, plain_address, split_endpoint
from sidecar.core.records import Logged, decode
from sidecar.journal import JournalError
from sidecar.journal.read import Line
from sidecar.journal.read.follow import Follower

# 127.0.0.0/8 belongs to this machine (RFC 1122 section 3.2.1.3), and only 127.0.0.1 is in relay_hosts by default.
_OTHER_LOOPBACK = "127.0.0.2"
_ACCEPTED, _TEMPFAILED, _REJECTED = 2, 4, 5
# Codes of RFC 3463 and RFC 7505 for a bad sender's address, and the words of Postfix, Sendmail and Exim for it.
_SENDER_REJECTED = re.compile(r"^[45]\.(?:1\.[78]|7\.27)\b|sender (?:address|domain|verify)|domain of sender", re.IGNORECASE)
_HELO_REJECTED = re.compile(r"\b(?:helo|ehlo)\b", re.IGNORECASE)


class Expected(Struct, frozen=True, kw_only=True):
    """The expected result of a message that `peer` sends to `listener`.

    `recipients` are the rejections, None for each accepted one; `reply` is the rejection that decides, or None; `records` are
    the types of the records.
    """

    peer: str
    listener: str
    disposition: Disposition
    recipients: tuple[str | None, ...]
    reply: str | None
    records: tuple[str, ...]


class Result(Struct, frozen=True, kw_only=True):
    """A shape, how it was sent, and the result.

    `expected` and `agrees` are None without settings, `records` without a readable journal. `note` says what else is known, and
    what to do about it.
    """

    shape: MessageShape
    helo: str
    sender: str
    dialogue: Dialogue
    expected: Expected | None = None
    records: tuple[Logged, ...] | None = None
    agrees: bool | None = None
    note: str | None = None

    @property
    def was_sent(self) -> bool:
        """True if the message was offered to the MTA."""
        return self.dialogue.last is not None

    @property
    def is_fine(self) -> bool:
        """True unless the result differs from what is expected."""
        return self.agrees is not False


class NewRecords:
    """The records that were added to a journal since this was made, and then since the last look. Raises JournalError."""

    def __init__(self, directory: Path) -> None:
        if not directory.is_dir():
            raise JournalError(f"there is no journal in {directory}, so no records are shown; run this where the sidecar runs")
        self._follower = Follower(directory)
        for file in self._follower.look():
            file.skip()

    def look(self, *, helo: str, peer: str) -> tuple[Logged, ...]:
        """Return the new records of the sessions with the name `helo`, and of a connection of `peer` that was rejected.

        A record reaches the kernel before its verdict reaches the peer: after the answer, the records are there.
        """
        found, sessions = [], set[str]()
        for line in chain.from_iterable(file.lines() for file in self._follower.look()):
            # On a busy MTA, the records of other sessions are not even decoded.
            if isinstance(line, Line) and any(mark.encode() in line.text for mark in (helo, '"CONNECT"', *sessions)):
                try:
                    record = decode(line.text)
                except ValueError:
                    continue  # damaged, and not ours: those were answered
                rejected = record.response.command == "CONNECT" and record.peer_address and record.peer_address.addr == peer
                named = record.peer_address is not None and record.peer_address.name == helo
                # The first record of a session has the name, if any has it: an OOB record has the reporting MTA's, and that
                # of a rejected connection has none.
                if record.session_id and (rejected or named):
                    sessions.add(record.session_id)
                if record.session_id in sessions:
                    found.append(record)
        return tuple(found)


class Simulation(Struct, frozen=True, kw_only=True):
    """The MTA and the envelope, and what is known of the expected result.

    `token` marks all messages of this run; `sender` is the envelope sender of messages without the null sender. Without `helo`
    each message has its own name, by which its records are found.
    """

    target: Target
    recipients: tuple[str, ...]
    sender: str
    token: str
    helo: str | None = None
    evaluator: Evaluator | None = None
    journal: NewRecords | None = None

    def send(self, shape: MessageShape) -> Result:
        """Send a shape once, and return the result. Raises UnreachableError and JournalError."""
        mark = f"{self.token}-{shape.name}"
        helo = self.helo or f"{mark}.simulate.example"
        sender = "" if shape.from_null else self.sender
        content = shape.filled(to=self.recipients[0], mark=mark, now=time.time())
        dialogue = deliver(self.target, helo=helo, sender=sender, recipients=self.recipients, content=content)
        sent = Result(shape=shape, helo=helo, sender=sender, dialogue=dialogue)
        records = None
        if self.journal is not None:
            records = self.journal.look(helo=helo, peer=str(split_endpoint(dialogue.peer)[0]))
        hint = option_hint(sent)
        if self.evaluator is None:
            return replace(sent, records=records, note=hint)
        peer, listener = _seen_as(dialogue, records or ())
        question = Question(peer=peer, listener=listener, helo=helo, sender=sender, to=list(self.recipients))
        expected = expect(self.evaluator, question, content)
        agrees, note = compare(expected, dialogue, records)
        return replace(sent, records=records, expected=expected, agrees=agrees, note=hint or note)


def _seen_as(dialogue: Dialogue, records: Sequence[Logged]) -> tuple[str, str]:
    """Return peer and listener as the sidecar saw them: a NAT, a proxy or a container may be in between."""
    peer, listener = dialogue.peer, dialogue.listener
    for record in records:
        with suppress(ValueError):  # a peer on a UNIX socket has no address
            seen = plain_address(record.peer_address.addr if record.peer_address else "")
            peer = peer if seen == split_endpoint(peer)[0] else endpoint(seen, None)
            listener = normal_listener(str(record.meta.get("listener")))
    return peer, listener


# --- what is expected


def relay_host_reason(evaluator: Evaluator, peer: str, listener: str) -> str | None:
    """Return why `peer` is a relay host for the MTA; None if it is an external host."""
    answer = evaluator.policy.at_connect(split_endpoint(peer)[0], normal_listener(listener))
    return str(answer.because[0]) if answer.accept and not answer.deferred else None


def external_options(evaluator: Evaluator, peer: str, listener: str) -> str:
    """Return the options that make a relay host an external host for this listener."""
    address, other = split_endpoint(peer)[0], split_endpoint(_OTHER_LOOPBACK)[0]
    is_near = address.is_loopback and address.version == other.version
    if is_near and relay_host_reason(evaluator, _OTHER_LOOPBACK, listener) is None:
        return f"add --bind {_OTHER_LOOPBACK}"
    return "add --bind with an address that is not in relay_hosts, or --xclient 203.0.113.9 if Postfix permits it"


def expect(evaluator: Evaluator, question: Question, content: bytes) -> Expected:
    """Return the expected result of a message. The question names its listener."""
    answer = evaluator.explain(question, content, clock=time.time, new_id=uuid4)
    connect, message = answer.connect, answer.message
    rejections = tuple(recipient.reply for recipient in answer.recipients)
    assert question.listener is not None  # noqa: S101 - see above
    assert message.disposition is not None  # noqa: S101 - the question has a message
    reply = message.reply
    if connect.action == "reject":
        reply = connect.reply
    elif message.action is None:
        reply = rejections[0]
    early = ("Rejection",) * (len(list(filter(None, rejections))) + (connect.action == "reject"))
    return Expected(
        peer=question.peer,
        listener=question.listener,
        disposition=message.disposition,
        recipients=rejections,
        reply=reply,
        records=early + tuple(record.type for record in message.records),
    )


# --- the comparison


def compare(expected: Expected, dialogue: Dialogue, records: Sequence[Logged] | None) -> tuple[bool, str | None]:
    """Return True if the answers and the records (None: they are not known) are as expected, and a note for the operator."""
    last = dialogue.last
    if last is None:
        return True, f"it could not be sent: the MTA does not offer {dialogue.lacking}"
    own = _own_rejections(expected, dialogue)
    replies = (*expected.recipients, expected.reply)
    wanted = tuple(int(reply[0]) if reply else _ACCEPTED for reply in replies)
    found = (*(answer.kind for answer in dialogue.recipients), last.kind)
    # An MTA may delay a rejection at connect to RCPT (Sendmail's delay_checks).
    if wanted[-1] != found[-1] or (len(wanted) == len(found) and wanted != found):
        return False, _other_answer(expected, last, records)
    if records is not None and Counter(expected.records) != Counter((*(each.type for each in records), *["Rejection"] * own)):
        return False, _other_records(expected, records)
    note = "the MTA rejected it by its own rules, before it asked the sidecar: its log shows why"
    return True, note if own else None


def option_hint(result: Result) -> str | None:
    """Return which option to pass if the MTA rejects the sender or the HELO name by its own rules; None if it does not."""
    answers = (*result.dialogue.recipients, result.dialogue.last)
    for answer in (answer for answer in answers if answer is not None and answer.kind != _ACCEPTED):
        # The null sender has no domain.
        if result.sender and _SENDER_REJECTED.search(answer.text):
            return (
                f"the MTA does not accept the sender <{result.sender}> ({answer}): add --from with an address that it accepts "
                "from external hosts; its domain must exist in the DNS"
            )
        if _HELO_REJECTED.search(answer.text):
            return (
                f"the MTA does not accept the HELO name {result.helo} ({answer}): add --helo with a name that exists in the DNS"
            )
    return None


def _own_rejections(expected: Expected, dialogue: Dialogue) -> int:
    """Count the recipients that are rejected as expected, but not in the sidecar's words."""
    pairs = zip(expected.recipients, dialogue.recipients, strict=False)
    # The MTA may know the peer by another port, or none.
    return sum(
        reply is not None and answer.kind == _REJECTED and reply.partition(" for ")[0].split(" ", 2)[2] not in answer.text
        for reply, answer in pairs
    )


def _other_answer(expected: Expected, last: Answer, records: Sequence[Logged] | None) -> str:
    wanted = f"it should have been {expected.disposition.words}"
    unrecorded = records is not None and not records
    if last.kind == _TEMPFAILED:
        return f"{wanted}, and was tempfailed: greylisting, or a fault of the sidecar; the logs of both show which"
    if last.kind == _ACCEPTED and unrecorded:
        return f"{wanted}, and was accepted without a record: does this MTA ask this sidecar? See `sidecar doctor`"
    if unrecorded:
        return f"{wanted}, and the MTA rejected it by its own rules, before it asked the sidecar: see `sidecar doctor`"
    done = "accepted" if last.kind == _ACCEPTED else "rejected for another reason"
    return f"{wanted}, and was {done}: does the sidecar run with these settings? See `sidecar status`"


def _other_records(expected: Expected, records: Sequence[Logged]) -> str:
    wanted = ", ".join(expected.records) or "none"
    if not records:
        return f"the answer is right, but the journal has none of the records ({wanted}): does this MTA ask this sidecar?"
    found = ", ".join(record.type for record in records)
    return f"the answer is right, but the records are {found}, and should be {wanted}"
