"""One stored message, run through a session.

Owns the shape of `replay --json`, which scripts read: it is permanent. Never decides a verdict.
"""

import time
from typing import Literal
from uuid import uuid4

import msgspec
from msgspec import Struct

from sidecar.commands.replay.envelope import StoredEnvelope, read_envelope
from sidecar.commands.replay.files import Stored
from sidecar.core.disposition import Disposition
from sidecar.core.evaluate.evaluator import Evaluator
from sidecar.core.evaluate.explanation import ConnectPart, Explanation, MessagePart, Question, RecipientPart
from sidecar.core.names import normal_listener, split_endpoint
from sidecar.core.policy import Because
from sidecar.core.text import printable_json

NotJudged = Literal["no_envelope", "unreadable"]
"""Why a message has no disposition: nothing in it names its envelope, or it cannot be read."""

_ENCODER = msgspec.json.Encoder()


class Judged(Struct, frozen=True, kw_only=True, rename={"sender": "from"}):
    """A message with its disposition, the reason for it, and the whole explanation; or the reason why it is not judged.

    `file` is as it was named, `offset` the place of the message in its mbox and `size` its size there, in bytes. `partly`: some
    of its recipients do not get it.
    """

    file: str
    offset: int | None
    size: int
    sender: str | None = None
    to: tuple[str, ...] = ()
    guessed: bool = False
    disposition: Disposition | None = None
    partly: bool = False
    not_judged: NotJudged | None = None
    reason: Because
    connect: ConnectPart | None = None
    recipients: list[RecipientPart] | None = None
    message: MessagePart | None = None


class Judge:
    """Puts messages to one policy, as if one peer brought them. Raises ValueError when peer or listener is no address.

    What is not given of the envelope is read from each message.
    """

    def __init__(  # noqa: PLR0913 - the question, word for word
        self,
        *,
        evaluator: Evaluator,
        peer: str,
        listener: str | None = None,
        auth: str | None = None,
        sender: str | None = None,
        recipients: tuple[str, ...] = (),
    ) -> None:
        split_endpoint(peer)
        if listener is not None:
            normal_listener(listener)
        self._evaluator = evaluator
        self._peer, self._listener, self._auth = peer, listener, auth
        self._sender, self._recipients = sender, recipients

    @property
    def limit(self) -> int:
        """How much of a message has to be read, in bytes, to judge it as if all of it was.

        A session keeps no more of a report, and of other messages it needs nothing but the header section; how it spells that
        may be shorter by some line ends.
        """
        settings = self._evaluator.settings
        return settings.report_size_limit + settings.limits.header_size + 1

    def judge(self, file: str, stored: Stored) -> Judged:
        """Say what would become of a message."""
        envelope = read_envelope(stored.content, stored.postmark, sender=self._sender, recipients=self._recipients)
        if isinstance(envelope, str):
            reason = Because(text=envelope)
            return Judged(file=file, offset=stored.offset, size=stored.size, not_judged="no_envelope", reason=reason)
        explanation = self._explain(envelope, stored.content)
        message = explanation.message
        disposition = message.disposition
        assert disposition is not None  # noqa: S101 - the question has a message
        return Judged(
            file=file,
            offset=stored.offset,
            size=stored.size,
            sender=envelope.sender,
            to=envelope.recipients,
            guessed=envelope.guessed,
            disposition=disposition,
            partly=message.action == "accept" and len(message.relayed) < len(explanation.recipients),
            reason=_reason(explanation, disposition),
            connect=explanation.connect,
            recipients=explanation.recipients,
            message=message,
        )

    def _explain(self, envelope: StoredEnvelope, content: bytes) -> Explanation:
        question = Question(
            peer=self._peer,
            listener=self._listener,
            auth=self._auth,
            sender=envelope.sender,
            to=list(envelope.recipients),
        )
        return self._evaluator.explain(question, content, clock=time.time, new_id=uuid4)


def unreadable(file: str, why: str, offset: int | None = None) -> Judged:
    """Say of a file that it could not be read, or not to its end, or of the message at `offset` that it could not be judged."""
    return Judged(file=file, offset=offset, size=0, not_judged="unreadable", reason=Because(text=why))


def encode(judged: Judged) -> bytes:
    """Give the line of `replay --json`, line end included."""
    return printable_json(_ENCODER.encode(judged)) + b"\n"


def _reason(explanation: Explanation, disposition: Disposition) -> Because:
    """Return the rule that decided, as far as a rule did."""
    message = explanation.message
    if disposition is Disposition.REJECTED_AT_CONNECT:
        return Because(text="; ".join(explanation.connect.because))
    if message.action is None:
        return explanation.recipients[0].because[0]
    accepted = [recipient for recipient in explanation.recipients if recipient.action == "accept"]
    if message.report is not None:
        rules = (rule for recipient in accepted for rule in recipient.because)
        return next(rule for rule in rules if (rule.key or "").endswith(f".log_{message.report}"))
    if message.action == "accept":
        return next(recipient.because[0] for recipient in accepted if recipient.relay)
    # What was rejected at the end came so far by the rule that let its recipient in; why it was no report stands first.
    rule = accepted[0].because[0]
    why = str(message.records[0].meta["why"]).partition("; ")[0]
    return Because(file=rule.file, line=rule.line, key=rule.key, value=rule.value, text=why)
