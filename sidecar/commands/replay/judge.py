"""One stored message put to a session, and what came of it in a few words.

Owns the words for outcomes, and the shape of `replay --json`, which scripts read: it is for ever. Never decides a verdict.
"""

import time
from typing import Literal
from uuid import UUID, uuid4

import msgspec
from msgspec import Struct

from sidecar.commands.replay.envelope import StoredEnvelope, read_envelope
from sidecar.commands.replay.files import Stored
from sidecar.core.evaluate.explain import ConnectPart, Explanation, MessagePart, Question, RecipientPart, explain
from sidecar.core.names import normal_listener, split_endpoint
from sidecar.core.policy import Because, Policy
from sidecar.core.session import World
from sidecar.core.settings.values import Settings
from sidecar.core.text import printable_json

Outcome = Literal[
    "relayed",
    "partly relayed",
    "logged and relayed",
    "logged and dropped",
    "quarantined",
    "refused at connect",
    "refused at RCPT",
    "refused at the end",
    "skipped",
    "unreadable",
]
"""What becomes of a stored message. `partly relayed`: not to all of its recipients; `skipped`: nothing tells its envelope."""

_NO_NODE = str(UUID(int=0))
_ENCODER = msgspec.json.Encoder()


class Judged(Struct, frozen=True, kw_only=True, rename={"sender": "from"}):
    """A message with its outcome, the reason for it, and the whole explanation; without one, nobody was asked.

    `file` is as it was named, `offset` the place of the message in its mbox and `size` its size there, in bytes.
    """

    file: str
    offset: int | None
    size: int
    sender: str | None = None
    to: tuple[str, ...] = ()
    guessed: bool = False
    outcome: Outcome
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
        policy: Policy,
        settings: Settings,
        peer: str,
        listener: str | None = None,
        auth: str | None = None,
        sender: str | None = None,
        recipients: tuple[str, ...] = (),
    ) -> None:
        split_endpoint(peer)
        if listener is not None:
            normal_listener(listener)
        self._policy = policy
        self._settings = settings
        self._world = World(clock=time.time, new_id=lambda: str(uuid4()), node_id=settings.node_id or _NO_NODE)
        self._peer, self._listener, self._auth = peer, listener, auth
        self._sender, self._recipients = sender, recipients

    @property
    def limit(self) -> int:
        """How much of a message has to be read, in bytes, to judge it as if all of it was.

        A session keeps no more of a report, and of other messages it needs nothing but the header section; how it spells that
        may be shorter by some line ends.
        """
        return self._settings.report_size_limit + self._settings.limits.header_size + 1

    def judge(self, file: str, stored: Stored) -> Judged:
        """Say what would become of a message."""
        envelope = read_envelope(stored.content, stored.postmark, sender=self._sender, recipients=self._recipients)
        if isinstance(envelope, str):
            reason = Because(text=envelope)
            return Judged(file=file, offset=stored.offset, size=stored.size, outcome="skipped", reason=reason)
        explanation = self._explain(envelope, stored.content)
        outcome = _outcome(explanation)
        return Judged(
            file=file,
            offset=stored.offset,
            size=stored.size,
            sender=envelope.sender,
            to=envelope.recipients,
            guessed=envelope.guessed,
            outcome=outcome,
            reason=_reason(explanation, outcome),
            connect=explanation.connect,
            recipients=explanation.recipients,
            message=explanation.message,
        )

    def _explain(self, envelope: StoredEnvelope, content: bytes) -> Explanation:
        question = Question(
            peer=self._peer,
            listener=self._listener,
            auth=self._auth,
            sender=envelope.sender,
            to=list(envelope.recipients),
        )
        return explain(question, content, policy=self._policy, settings=self._settings, world=self._world)


def unreadable(file: str, why: str, offset: int | None = None) -> Judged:
    """Say of a file that it could not be read, or not to its end, or of the message at `offset` that it could not be judged."""
    return Judged(file=file, offset=offset, size=0, outcome="unreadable", reason=Because(text=why))


def encode(judged: Judged) -> bytes:
    """Give the line of `replay --json`, line end included."""
    return printable_json(_ENCODER.encode(judged)) + b"\n"


def _outcome(explanation: Explanation) -> Outcome:
    message = explanation.message
    if explanation.connect.action == "reject":
        return "refused at connect"
    match message.action:
        case None:
            return "refused at RCPT"
        case "reject":
            return "refused at the end"
        case "discard":
            return "quarantined" if message.report is None else "logged and dropped"
        case "accept":
            if len(message.relayed) < len(explanation.recipients):
                return "partly relayed"
            return "relayed" if message.report is None else "logged and relayed"


def _reason(explanation: Explanation, outcome: Outcome) -> Because:
    """Give the rule that decided, as far as a rule did."""
    message = explanation.message
    if outcome == "refused at connect":
        return Because(text="; ".join(explanation.connect.because))
    if outcome == "refused at RCPT":
        return explanation.recipients[0].because[0]
    accepted = [recipient for recipient in explanation.recipients if recipient.action == "accept"]
    if message.report is not None:
        rules = (rule for recipient in accepted for rule in recipient.because)
        return next(rule for rule in rules if (rule.key or "").endswith(f".log_{message.report}"))
    if message.action == "accept":
        return next(recipient.because[0] for recipient in accepted if recipient.relay)
    # What was refused at the end came so far by the rule that let its recipient in; why it was no report stands first.
    rule = accepted[0].because[0]
    why = str(message.records[0].meta["why"]).partition("; ")[0]
    return Because(file=rule.file, line=rule.line, key=rule.key, value=rule.value, text=why)
