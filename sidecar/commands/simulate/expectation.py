"""What must come of a message by the policy, and whether that came.

Owns the comparison and its words. Never decides: the policy's own session is asked, as `explain` asks it.
"""

import time
from collections import Counter
from collections.abc import Sequence
from uuid import uuid4

from msgspec import Struct

from sidecar.commands.simulate.client import Answer, Dialogue
from sidecar.core.disposition import Disposition
from sidecar.core.evaluate.evaluator import Evaluator
from sidecar.core.evaluate.explanation import Explanation, Question
from sidecar.core.names import normal_listener, split_endpoint
from sidecar.core.records import Logged
from sidecar.core.settings.values import Settings

# The whole of 127.0.0.0/8 is this machine's (RFC 1122 section 3.2.1.3), and only 127.0.0.1 is in relay_hosts by default.
_OTHER_LOOPBACK = "127.0.0.2"
_ACCEPTED, _NOT_NOW, _NEVER = 2, 4, 5


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


class Assessment(Struct, frozen=True, kw_only=True):
    """Whether all came as it must; `note` says what else there is to know, and what to do about it."""

    agrees: bool
    note: str | None = None


class Expectations:
    """The policy of one configuration, asked about messages before they are sent, and about who sends them."""

    def __init__(self, settings: Settings) -> None:
        self._evaluator = Evaluator(settings)

    def relay_host(self, peer: str, listener: str) -> str | None:
        """Say why the MTA will take `peer` for a relay host; None where it takes it for a stranger."""
        answer = self._evaluator.policy.at_connect(split_endpoint(peer)[0], normal_listener(listener))
        return str(answer.because[0]) if answer.accept and not answer.deferred else None

    def way_to_be_a_stranger(self, peer: str, listener: str) -> str:
        """Say what a relay host has to do to be a stranger to this listener."""
        near = split_endpoint(peer)[0].is_loopback and self.relay_host(_OTHER_LOOPBACK, listener) is None
        if near and split_endpoint(peer)[0].version == split_endpoint(_OTHER_LOOPBACK)[0].version:
            return f"add --bind {_OTHER_LOOPBACK}"
        return "add --bind with an address that is not in relay_hosts, or --xclient 203.0.113.9 where Postfix permits it"

    def expect(self, question: Question, content: bytes) -> Expected:
        """Say what must come of a message. The question names its listener."""
        told = self._evaluator.explain(question, content, clock=time.time, new_id=uuid4)
        assert question.listener is not None  # noqa: S101 - see above
        rejections = tuple(recipient.reply for recipient in told.recipients)
        disposition = told.message.disposition
        assert disposition is not None  # noqa: S101 - the question has a message
        early = ("Rejection",) * (len([reply for reply in rejections if reply]) + (told.connect.action == "reject"))
        return Expected(
            peer=question.peer,
            listener=question.listener,
            disposition=disposition,
            recipients=rejections,
            reply=_reply(told),
            records=early + tuple(record.type for record in told.message.records),
        )


def _reply(told: Explanation) -> str | None:
    """Return the rejection that decides, if there is one."""
    if told.connect.action == "reject":
        return told.connect.reply
    return told.recipients[0].reply if told.message.action is None else told.message.reply


def compare(expected: Expected, dialogue: Dialogue, records: Sequence[Logged] | None) -> Assessment:
    """Compare what was answered, and the records (None: they could not be looked for), with what must be."""
    last = dialogue.last
    if last is None:
        return Assessment(agrees=True, note=f"it could not be sent: the MTA does not offer {dialogue.lacking}")
    own = _own_rejections(expected, dialogue)
    must, is_ = _kinds(expected), (*(answer.kind for answer in dialogue.recipients), last.kind)
    # A peer that is rejected at connect may hear of it as late as at RCPT (Sendmail's delay_checks).
    if must[-1] != is_[-1] or (len(must) == len(is_) and must != is_):
        return Assessment(agrees=False, note=_other_answer(expected, last, records))
    if records is not None and Counter(expected.records) != Counter((*(each.type for each in records), *["Rejection"] * own)):
        return Assessment(agrees=False, note=_other_records(expected, records))
    if own:
        return Assessment(
            agrees=True, note="the MTA rejected it by its own rules, before the sidecar was asked: its log shows why"
        )
    return Assessment(agrees=True)


def _kinds(expected: Expected) -> tuple[int, ...]:
    return tuple(int(reply[0]) if reply else _ACCEPTED for reply in (*expected.recipients, expected.reply))


def _own_rejections(expected: Expected, dialogue: Dialogue) -> int:
    """Count the recipients that were rightly rejected, but not in the sidecar's words."""
    pairs = zip(expected.recipients, dialogue.recipients, strict=False)
    return sum(reply is not None and answer.kind == _NEVER and not _says(answer, reply) for reply, answer in pairs)


def _says(answer: Answer, reply: str) -> bool:
    # The MTA may know the peer by another port, or none.
    return reply.partition(" for ")[0].split(" ", 2)[2] in answer.text


def _other_answer(expected: Expected, last: Answer, records: Sequence[Logged] | None) -> str:
    must = f"it should have been {expected.disposition.words}"
    unheard = records is not None and not records
    if last.kind == _NOT_NOW:
        return f"{must}, and was tempfailed: greylisting, or a fault of the sidecar; the logs of both show which"
    if last.kind == _ACCEPTED and unheard:
        return f"{must}, and was accepted without a record: does this MTA ask this sidecar? See `sidecar doctor`"
    if unheard:
        return f"{must}, and the MTA rejected it by its own rules, before the sidecar was asked: see `sidecar doctor`"
    done = "accepted" if last.kind == _ACCEPTED else "rejected for another reason"
    return f"{must}, and was {done}: does the sidecar run with these settings? See `sidecar status`"


def _other_records(expected: Expected, records: Sequence[Logged]) -> str:
    must = ", ".join(expected.records) or "none"
    if not records:
        return f"the answer is right, but the journal has none of the records ({must}): does this MTA ask this sidecar?"
    found = ", ".join(record.type for record in records)
    return f"the answer is right, but the records are {found}, and should be {must}"
