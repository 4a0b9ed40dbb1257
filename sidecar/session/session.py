"""One SMTP connection as a state machine without I/O: events in, verdicts and records out.

Owns the order of events, and what is decided when. Never reads a clock, a file or a socket: time and ids are handed in, and
records are handed out for somebody else to write. A session keeps the policy it was made with to its end.
"""

from collections.abc import Callable, Sequence
from uuid import UUID

from msgspec import Struct

from sidecar.policy import ConnectAnswer, MessageAnswer, Policy, RecipientAnswer, judge_message, without_route
from sidecar.records import EnhancedCode, Facts, Record, Response, feedback, oob_bounces, reception, rejection
from sidecar.reports import read
from sidecar.reports.values import Reading
from sidecar.session import replies
from sidecar.session.events import (
    Body,
    Connect,
    Data,
    EndOfHeaders,
    EndOfMessage,
    Event,
    Header,
    Helo,
    Mail,
    Rcpt,
)
from sidecar.session.message import Message
from sidecar.session.transitions import TRANSITIONS, State
from sidecar.session.verdicts import (
    Accept,
    Continue,
    Decision,
    Discard,
    Outcome,
    Reject,
    Reply,
    Skip,
    Tempfail,
)
from sidecar.settings.values import ANY_LISTENER, Settings

# RFC 5321 section 4.5.3.1.3 allows a path of 256 octets; internationalised ones are seen longer (RFC 6531 section 3.4).
ADDRESS_LIMIT = 1024
# Reasons in one sentence: more than a few different ones are no explanation any more.
_REASONS_TOLD = 4

_GO_ON = Outcome(verdict=Continue())
_NO_CLAIM = Reading(why="not a report, because its Content-Type is not multipart/report")


class ProtocolError(Exception):
    """An event came that cannot come now. It is our fault or the MTA's, never the peer's."""


class World(Struct, frozen=True, kw_only=True):
    """What a session may know of the world: the time in seconds since 1970, fresh ids, and the installation's own id."""

    clock: Callable[[], float]
    new_id: Callable[[], UUID]
    node_id: str


class Session:
    """One SMTP connection. Feed it events in order; each gives its outcome, or raises ProtocolError."""

    def __init__(self, *, policy: Policy, settings: Settings, world: World) -> None:
        self.session_id = str(world.new_id())
        self.state = State.NEW
        self._policy = policy
        self._settings = settings
        self._wanted_headers = frozenset(settings.headers)
        self._world = world
        self._began = world.clock()
        self._connect: Connect
        self._listener = ANY_LISTENER
        self._refusal = _GO_ON
        self._helo = ""
        self._message: Message | None = None

    @property
    def peer(self) -> str:
        """The peer's IP address."""
        return str(self._connect.peer)

    def handle(self, event: Event) -> Outcome:
        """Take the next event of the connection."""
        step = TRANSITIONS.get((self.state, type(event)))
        if step is None:
            raise ProtocolError(f"{type(event).__name__} cannot come in state {self.state.name}")
        outcome: Outcome = getattr(self, step.handler)(event)
        self.state = step.then if isinstance(outcome.verdict, Continue | Skip) else step.ended
        if self.state in {State.OPEN, State.CLOSED}:
            self._message = None
        return outcome

    # --- the connection

    def _on_connect(self, event: Connect) -> Outcome:
        self._connect = event
        if event.listener is None and self._policy.depends_on_listener:
            self._refusal = self._refuse_peer(
                Tempfail(reply=replies.UNKNOWN_LISTENER), "the MTA did not tell the listener, and rules depend on it"
            )
            return self._refusal
        self._listener = event.listener if event.listener is not None else ANY_LISTENER
        answer = self._policy.at_connect(event.peer, self._listener)
        if answer.accept or not self._settings.refuse_at_connect:
            return Outcome(verdict=Continue(), answer=answer)
        reply = replies.relaying_not_permitted(event.peer, event.port)
        self._refusal = self._refuse_peer(Reject(reply=reply), _sentence(answer), answer)
        return self._refusal

    def _refuse_peer(self, verdict: Reject | Tempfail, why: str, answer: ConnectAnswer | None = None) -> Outcome:
        record = rejection(self._facts(None), recipients=(), response=_response(verdict.reply, "CONNECT"), why=why)
        decision = Decision(stage="connect", action=_action(verdict), why=why)
        return Outcome(verdict=verdict, records=(record,), decision=decision, answer=answer)

    def _on_helo(self, event: Helo) -> Outcome:
        self._helo = event.name
        return _GO_ON

    def _on_nothing(self, _event: Event) -> Outcome:
        return _GO_ON

    def _on_refused(self, _event: Event) -> Outcome:
        """Say again what was said at connect: some MTAs let a refused peer go on talking (Sendmail's delay_checks)."""
        return Outcome(verdict=self._refusal.verdict)

    # --- the envelope

    def _on_mail(self, event: Mail) -> Outcome:
        self._message = Message(
            event,
            message_id=self._world.new_id().hex,
            created=self._world.clock(),
            size_limit=self._settings.report_size_limit,
            wanted_headers=self._wanted_headers,
        )
        return _GO_ON

    def _on_rcpt(self, event: Rcpt) -> Outcome:
        message = self._current()
        message.queue_id = event.queue_id or message.queue_id
        if not _readable(event.address):
            why = "the recipient's address has characters or a length that no address has"
            return self._refuse_recipient(event, Reject(reply=replies.UNREADABLE_ADDRESS), why)
        if len(message.recipients) >= self._settings.recipient_limit:
            why = f"the message has {self._settings.recipient_limit} recipients, as many as recipient_limit allows"
            return self._refuse_recipient(event, Tempfail(reply=replies.TOO_MANY_RECIPIENTS), why)
        answer = self._policy.at_rcpt(
            self._connect.peer, self._listener, message.mail.authz_id, message.mail.sender, event.address
        )
        if answer.accept:
            message.recipients.append(answer)
            message.given.append(_name_to_take_off(event))
            return Outcome(verdict=Continue(), answer=answer)
        reply = replies.relaying_not_permitted(self._connect.peer, self._connect.port)
        return self._refuse_recipient(event, Reject(reply=reply), _sentence(answer), answer)

    def _refuse_recipient(
        self, event: Rcpt, verdict: Reject | Tempfail, why: str, answer: RecipientAnswer | None = None
    ) -> Outcome:
        # No message exists yet for the journal's readers (contract section 4): the record has no message id.
        facts = self._facts(self._current(), message_id="")
        response = _response(verdict.reply, f"RCPT TO:<{event.address[:ADDRESS_LIMIT]}>")
        record = rejection(facts, recipients=(event.address[:ADDRESS_LIMIT],), response=response, why=why)
        decision = self._decision("rcpt", verdict, why, recipients=(event.address,))
        return Outcome(verdict=verdict, records=(record,), decision=decision, answer=answer)

    # --- the message

    def _on_data(self, event: Data) -> Outcome:
        message = self._current()
        message.queue_id = event.queue_id or message.queue_id
        if not message.recipients:
            raise ProtocolError("Data came, but no recipient was accepted")
        # A verdict that is certain by now still waits for the content: the peer may go away, of which an MTA does not tell
        # once it has its answer, and the record would claim a message that nobody has. Postfix and Sendmail tell of the
        # headers when they have the whole message.
        message.begin_content()
        return _GO_ON

    def _on_header(self, event: Header) -> Outcome:
        self._current().add_header(event)
        return _GO_ON

    def _on_end_of_headers(self, _event: EndOfHeaders) -> Outcome:
        message = self._current()
        message.end_headers()
        if message.claims_report and message.takes_reports:
            return self._refuse_too_big() if message.too_big else _GO_ON
        relays = {recipient.relay for recipient in message.recipients}
        if len(relays) > 1:
            # Some go on and some do not, and recipients can only be taken off at the end of the message.
            message.settled = True
            return _GO_ON
        return self._conclude(_NO_CLAIM)

    def _on_body(self, event: Body) -> Outcome:
        message = self._current()
        if message.settled:
            return Outcome(verdict=Skip())
        message.add_body(event.chunk)
        return self._refuse_too_big() if message.too_big else _GO_ON

    def _on_end_of_message(self, event: EndOfMessage) -> Outcome:
        message = self._current()
        message.queue_id = event.queue_id or message.queue_id
        if message.settled:
            return self._conclude(_NO_CLAIM)
        message.whole = True
        return self._conclude(read(message.content))

    def _refuse_too_big(self) -> Outcome:
        limit = self._settings.report_size_limit
        why = f"the message claims to be a report and has more bytes than report_size_limit, {limit}"
        return self._refuse_message(replies.report_too_big(limit), why)

    def _refuse_message(self, reply: Reply, why: str, answer: MessageAnswer | None = None) -> Outcome:
        message = self._current()
        addresses = tuple(recipient.address for recipient in message.recipients)
        verdict = Reject(reply=reply)
        record = rejection(self._facts(message), recipients=addresses, response=_response(reply, "DATA"), why=why)
        decision = self._decision("message", verdict, why, recipients=addresses)
        return Outcome(verdict=verdict, records=(record,), decision=decision, answer=answer)

    def _conclude(self, reading: Reading) -> Outcome:
        """Give the verdict on the message, with its records."""
        message = self._current()
        answer = judge_message(message.recipients, is_oob=reading.oob is not None, is_arf=reading.arf is not None)
        if answer.action == "reject":
            return self._refuse_message(replies.NOT_A_REPORT, f"{reading.why}; {_sentence(answer)}", answer)
        why = _sentence(answer)
        gone = (given for given, fate in zip(message.given, answer.fates, strict=True) if not fate.relayed)
        verdict = Discard() if answer.action == "discard" else Accept(without=tuple(gone))
        addresses = tuple(fate.address for fate in answer.fates)
        return Outcome(
            verdict=verdict,
            records=self._received(message, answer, reading, why),
            durable=answer.taken_as is not None,
            decision=self._decision("message", verdict, why, recipients=addresses),
            answer=answer,
        )

    def _received(self, message: Message, answer: MessageAnswer, reading: Reading, why: str) -> tuple[Record, ...]:
        received = [fate for fate in answer.fates if fate.relayed or fate.taken_as is not None]
        dropped = [fate.address for fate in answer.fates if not fate.relayed and fate.taken_as is None]
        facts = self._facts(message, dropped=dropped)
        recipients = [fate.address for fate in received]
        queue = received[0].domain
        if answer.taken_as == "arf" and reading.arf is not None:
            first = feedback(facts, recipients=recipients, queue=queue, size=message.size, why=why, report=reading.arf)
        else:
            first = reception(facts, recipients=recipients, queue=queue, size=message.size, why=why)
        taker = next((fate for fate in answer.fates if fate.taken_as == "oob"), None)
        if taker is None or reading.oob is None:
            return (first,)
        bounces = oob_bounces(facts, report=reading.oob, recipient=taker.address, queue=taker.domain, why=str(taker.because))
        return (first, *bounces)

    # --- what records and log lines have in common

    def _current(self) -> Message:
        if self._message is None:
            raise ProtocolError("there is no message in hand")
        return self._message

    def _facts(self, message: Message | None, *, message_id: str | None = None, dropped: Sequence[str] = ()) -> Facts:
        return Facts(
            node_id=self._world.node_id,
            session_id=self.session_id,
            message_id=(message.message_id if message is not None else "") if message_id is None else message_id,
            now=self._world.clock(),
            created=message.created if message is not None else self._began,
            peer=self.peer,
            helo=self._helo,
            sender=message.mail.sender if message is not None else "",
            listener=None if self._listener == ANY_LISTENER else self._listener,
            authz_id=message.mail.authz_id if message is not None else None,
            queue_id=message.queue_id if message is not None else None,
            headers=message.headers if message is not None else {},
            dropped=dropped,
        )

    def _decision(
        self, stage: str, verdict: Accept | Reject | Tempfail | Discard, why: str, *, recipients: tuple[str, ...]
    ) -> Decision:
        message = self._current()
        return Decision(
            stage=stage,
            action=_action(verdict),
            why=why,
            sender=message.mail.sender,
            recipients=recipients,
            queue_id=message.queue_id,
        )


def _name_to_take_off(event: Rcpt) -> str:
    """Give the name by which the MTA finds this recipient again.

    It is the name as it was given; but Postfix forgets a source route at once, and takes nobody off for one that it is told.
    """
    mailbox = without_route(event.address)
    return event.given if mailbox == event.address else f"<{mailbox}>"


def _readable(address: str) -> bool:
    """Tell whether an address is text that was decoded whole, without control characters."""
    return len(address) <= ADDRESS_LIMIT and address.isprintable() and "\ufffd" not in address


def _response(reply: Reply, command: str) -> Response:
    class_, subject, detail = (int(number) for number in reply.enhanced.split("."))
    enhanced = EnhancedCode(class_=class_, subject=subject, detail=detail)
    return Response(code=reply.code, enhanced_code=enhanced, content=reply.text, command=command)


def _action(verdict: Accept | Reject | Tempfail | Discard) -> str:
    return type(verdict).__name__.lower()


def _sentence(answer: ConnectAnswer | RecipientAnswer | MessageAnswer) -> str:
    """Put the reasons of an answer into one sentence, each said once."""
    if isinstance(answer, MessageAnswer):
        reasons = dict.fromkeys(str(fate.because) for fate in answer.fates)
    else:
        reasons = dict.fromkeys(map(str, answer.because))
    told = list(reasons)[:_REASONS_TOLD]
    more = [f"and {len(reasons) - len(told)} more reasons"] if len(reasons) > len(told) else []
    return "; ".join(told + more)
