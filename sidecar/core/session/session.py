"""One SMTP connection as a state machine without I/O: events in, verdicts and records out.

Owns the order of events, and what is decided when. Never reads a clock, a file or a socket: time and ids are handed in, and
records are handed out for somebody else to write. Each message is judged by the rules that were newest at its MAIL.
"""

from collections.abc import Callable

from msgspec import Struct
from msgspec.structs import replace

from sidecar.core.disposition import Disposition
from sidecar.core.names import network_of
from sidecar.core.policy import ConnectAnswer, MessageAnswer, Policy, RecipientAnswer, judge_message
from sidecar.core.policy.address import is_text
from sidecar.core.policy.answers import sentence
from sidecar.core.records import Facts
from sidecar.core.reports import read
from sidecar.core.reports.values import ReportReading
from sidecar.core.session import outcomes, replies
from sidecar.core.session.bounds import Bound, verdict_above
from sidecar.core.session.events import (
    Body,
    Connect,
    Data,
    EndOfHeaders,
    EndOfMessage,
    Event,
    Fields,
    Header,
    Helo,
    Mail,
    Rcpt,
)
from sidecar.core.session.message import Message
from sidecar.core.session.quota import Quota
from sidecar.core.session.rules import Rules
from sidecar.core.session.transitions import TRANSITIONS, State
from sidecar.core.session.verdicts import (
    ENOUGH,
    GO_ON,
    Accept,
    Continue,
    Discard,
    Outcome,
    Reject,
    Tempfail,
    rejected,
)
from sidecar.core.session.words import removable_name
from sidecar.core.settings.values import ANY_LISTENER, Settings

# Looked at for every event; by its class, an Enum's member is found in Python.
_OPEN, _CLOSED = State.OPEN, State.CLOSED
_NO_CLAIM = ReportReading(why="not a report, because its Content-Type is not multipart/report")


class ProtocolError(Exception):
    """An event came that cannot come now. It is our fault or the MTA's, never the peer's."""


class World(Struct, frozen=True, kw_only=True):
    """What a session may know of the world: the time in seconds since 1970, fresh ids, and the installation's own id.

    Ids are UUIDs in their usual spelling, 36 characters.
    """

    clock: Callable[[], float]
    new_id: Callable[[], str]
    node_id: str


class Session:
    """One SMTP connection. Feed it events in order; each gives its outcome, or raises ProtocolError.

    `rules` returns the newest rules. The session asks for them at connect and at each MAIL, where it judges the peer again;
    a message keeps the rules it began with. `quota` is shared with the other sessions of the worker and keeps its own limits;
    without one the session has one to itself. Without `answers_data` the MTA gets no answer at DATA, so no message is decided
    there.
    """

    def __init__(
        self, *, rules: Callable[[], Rules], world: World, quota: Quota | None = None, answers_data: bool = True
    ) -> None:
        self.session_id = world.new_id()
        self.state = State.NEW
        self._newest = rules
        self._rules: Rules | None = None
        self._policy: Policy
        self._settings: Settings
        self._world = world
        self._quota = Quota(rules().settings.limits) if quota is None else quota
        self._answers_data = answers_data
        self._has_place = False
        self._began = world.clock()
        self._connect: Connect
        self._peer = ""
        self._network = ""
        self._bytes_received = 0
        self._listener = ANY_LISTENER
        self._is_relay_host = False
        self._at_connect = GO_ON
        self._barred: tuple[Reject | Tempfail, str] | None = None
        self._helo = ""
        self._message: Message | None = None
        self._unwritten: Message | None = None

    @property
    def peer(self) -> str:
        """The peer's IP address; empty before it is known."""
        return self._peer

    @property
    def listener(self) -> str | None:
        """The MTA's own end of the connection; None where it was not told."""
        return None if self._listener == ANY_LISTENER else self._listener

    def handle(self, event: Event) -> Outcome:
        """Take the next event of the connection."""
        step = TRANSITIONS.get((self.state, type(event)))
        if step is None:
            raise ProtocolError(f"{type(event).__name__} cannot come in state {self.state.name}")
        outcome: Outcome = getattr(self, step.handler)(event)
        if outcome is not GO_ON and outcome.records:
            outcome = self._accounted(outcome)
        self.state = state = step.then if outcome is GO_ON or type(outcome.verdict) is Continue else step.ended
        if state is _OPEN or state is _CLOSED:
            self._let_go()
        return outcome

    def give_up(self) -> None:
        """End the session after an exception, from wherever it stands: no event may come any more."""
        self.state = State.CLOSED
        self._let_go()

    def _let_go(self) -> None:
        """Give back what is held of the quota: for the message that is over, and when the connection is, for that."""
        if self._message is not None:
            self._message.release()
            self._unwritten = self._message if self._message.needed else None
            self._message = None
        if self.state is State.CLOSED:
            self.written()
            if self._has_place:
                self._has_place = False
                self._quota.leave()

    def written(self) -> None:
        """Give back what a large report needs until its records are written. May be called again, and when there was none."""
        if self._unwritten is not None:
            self._unwritten.written()
            self._unwritten = None

    def _accounted(self, outcome: Outcome) -> Outcome:
        """Add what the limit on records needs: the peer's network, the bytes it sent, and the outcome above the limit."""
        message = self._message
        if self._is_relay_host:
            # It has no limit, and only rejections are counted by network.
            return outcome if type(outcome.verdict) in {Accept, Discard} else replace(outcome, network=self._network)
        received, self._bytes_received, above = self._bytes_received, 0, None
        received += message.seen if message is not None else 0
        if message is not None and type(outcome.verdict) in {Accept, Discard}:
            above = lambda: self._above_limit(message)  # noqa: E731 - a partial takes four times as long
        return replace(outcome, network=self._network, received=received, above=above)

    def _above_limit(self, message: Message) -> Outcome:
        self._message = message
        outcome = self._instead(Bound.RECORDS)
        self._message = None
        return outcome

    def _instead(self, bound: Bound) -> Outcome:
        """Return the outcome that replaces another one, which has accounted for the bytes received."""
        return replace(self._reject_above(bound), network=self._network, received=0)

    # --- the connection

    def _follow_rules(self) -> bool:
        """Use the newest rules. Return True if they are not the previous ones."""
        newest = self._newest()
        if newest is self._rules:
            return False
        self._rules, self._policy, self._settings = newest, newest.policy, newest.settings
        return True

    def _on_connect(self, event: Connect) -> Outcome:
        self._connect = event
        self._peer = str(event.peer)
        self._network = network_of(self._peer)
        self._listener = event.listener if event.listener is not None else ANY_LISTENER
        self._follow_rules()
        self._has_place = self._quota.enter()
        self._at_connect = self._admit_peer()
        return self._at_connect

    def _admit_peer(self) -> Outcome:
        if not self._has_place:
            return self._reject_peer(*verdict_above(Bound.SESSIONS, self._settings))
        answer, rejected = self._judge_peer()
        return Outcome(verdict=Continue(), answer=answer) if rejected is None else self._reject_peer(*rejected, answer)

    def _judge_peer(self) -> tuple[ConnectAnswer | None, tuple[Reject | Tempfail, str] | None]:
        """Return the policy's answer to the peer, and the verdict with its reason where the peer is rejected."""
        peer, self._is_relay_host = self._connect.peer, False
        if self._connect.listener is None and self._policy.depends_on_listener:
            why = "the MTA did not tell the listener, and rules depend on it"
            return None, (Tempfail(reply=replies.UNKNOWN_LISTENER), why)
        answer = self._policy.at_connect(peer, self._listener)
        self._is_relay_host = answer.accept and not answer.deferred
        if answer.accept or not self._settings.refuse_at_connect:
            return answer, None
        return answer, (Reject(reply=replies.relaying_not_permitted(peer, self._connect.port)), sentence(answer))

    def _reject_peer(self, verdict: Reject | Tempfail, why: str, answer: ConnectAnswer | None = None) -> Outcome:
        return outcomes.rejected_peer(
            self._facts(None, rejected(verdict, Disposition.REJECTED_AT_CONNECT)), verdict, why, answer
        )

    def _on_helo(self, event: Helo) -> Outcome:
        self._helo = event.name
        self._bytes_received += len(event.name)
        return GO_ON

    def _on_nothing(self, _event: Event) -> Outcome:
        return GO_ON

    def _on_rejected(self, _event: Event) -> Outcome:
        """Repeat the verdict of connect: some MTAs let a rejected peer continue (Sendmail's delay_checks)."""
        return Outcome(verdict=self._at_connect.verdict)

    # --- the envelope

    def _on_mail(self, event: Mail) -> Outcome:
        self.written()
        self._bytes_received += len(event.sender)
        if self._follow_rules():
            _, self._barred = self._judge_peer()
        self._message = Message(
            event,
            message_id=self._world.new_id().replace("-", ""),
            created=self._world.clock(),
            settings=self._settings,
            quota=self._quota,
        )
        return GO_ON

    def _on_rcpt(self, event: Rcpt) -> Outcome:
        message = self._current()
        message.queue_id = event.queue_id or message.queue_id
        self._bytes_received += len(event.address)
        if self._barred is not None:  # by rules newer than the connection, which itself can no longer be rejected
            return self._reject_recipient(event, *self._barred)
        if not is_text(event.address):
            why = "the recipient's address has characters or a length that no address has"
            return self._reject_recipient(event, Reject(reply=replies.UNREADABLE_ADDRESS), why)
        if len(message.recipients) >= self._settings.recipient_limit:
            why = f"the message has {self._settings.recipient_limit} recipients, as many as recipient_limit allows"
            return self._reject_recipient(event, Tempfail(reply=replies.TOO_MANY_RECIPIENTS), why)
        answer = self._policy.at_rcpt(
            self._connect.peer, self._listener, message.mail.authz_id, message.mail.sender, event.address
        )
        if answer.accept:
            message.recipients.append(answer)
            message.mta_spellings.append(removable_name(event))
            return Outcome(verdict=Continue(), answer=answer)
        reply = replies.relaying_not_permitted(self._connect.peer, self._connect.port)
        return self._reject_recipient(event, Reject(reply=reply), sentence(answer), answer)

    def _reject_recipient(
        self, event: Rcpt, verdict: Reject | Tempfail, why: str, answer: RecipientAnswer | None = None
    ) -> Outcome:
        # No message exists yet for the journal's readers (contract section 4): the record has no message id.
        message = self._current()
        facts = self._facts(message, rejected(verdict, Disposition.REJECTED_AT_RCPT), message_id="")
        return outcomes.rejected_recipient(facts, message, event.address, verdict, why, answer)

    # --- the message

    def _on_data(self, event: Data) -> Outcome:
        message = self._current()
        message.queue_id = event.queue_id or message.queue_id
        if not message.recipients:
            raise ProtocolError("Data came, but no recipient was accepted")
        # Nothing in the content could change the verdict on a relay host's mail, and to hear of it is most of what that costs.
        # If the relay host goes away in the middle no MTA tells: the record then claims a message that nobody has, and it comes
        # again. Mail of strangers waits for its headers, of which Postfix and Sendmail tell when they have all of the message.
        at_data = self._answers_data and not self._settings.headers
        if at_data and self._is_relay_host and not message.takes_reports:
            return self._conclude(_NO_CLAIM)
        message.begin_content()
        return GO_ON

    def _on_header(self, event: Header) -> Outcome:
        self._current().add_fields([(event.name, event.value)], len(event.name) + len(event.value) + len(b": \r\n"))
        return GO_ON

    def _on_fields(self, event: Fields) -> Outcome:
        return ENOUGH if self._current().add_fields(event.fields, event.size) else GO_ON

    def _on_end_of_headers(self, _event: EndOfHeaders) -> Outcome:
        message = self._current()
        message.end_headers()
        if message.claims_report and message.takes_reports:
            return self._admit_report()
        relays = {recipient.relay for recipient in message.recipients}
        if len(relays) > 1:
            # Some go on and some do not, and recipients can only be taken off at the end of the message.
            message.is_decided = True
            return GO_ON
        return self._conclude(_NO_CLAIM)

    def _on_body(self, event: Body) -> Outcome:
        # No step for a verdict (see daemon/milter/negotiation.py): what exceeds a bound is not kept, and rejected at the end.
        self._current().add_body(event.chunk)
        return GO_ON

    def _on_end_of_message(self, event: EndOfMessage) -> Outcome:
        message = self._current()
        message.queue_id = event.queue_id or message.queue_id
        message.whole = True
        if message.is_decided:
            return self._conclude(_NO_CLAIM)
        message.hold_for_reading()
        if message.exceeded is not None:
            return self._reject_above(message.exceeded)
        return self._conclude(read(message.content, strict=self._settings.compat is not None))

    def _admit_report(self) -> Outcome:
        """Let what claims to be a report send its body, unless its peer brings too many of them."""
        if not (self._is_relay_host or self._quota.admit_report(self._network, self._world.clock())):
            return self._reject_above(Bound.RATE)
        exceeded = self._current().exceeded
        return GO_ON if exceeded is None else self._reject_above(exceeded)

    def _reject_above(self, bound: Bound) -> Outcome:
        return self._reject_message(*verdict_above(bound, self._settings))

    def _reject_message(self, verdict: Reject | Tempfail, why: str, answer: MessageAnswer | None = None) -> Outcome:
        message = self._current()
        facts = self._facts(message, rejected(verdict, Disposition.REJECTED_AT_END))
        return outcomes.rejected_message(facts, message, verdict, why, answer)

    def _conclude(self, reading: ReportReading) -> Outcome:
        """Return the verdict on the message, with its records."""
        message = self._current()
        answer = judge_message(message.recipients, is_oob=reading.oob is not None, is_arf=reading.arf is not None)
        if answer.action == "reject":
            if self._is_unparsable(message, reading):
                facts = self._facts(message, Disposition.QUARANTINED)
                full = self._instead(Bound.QUARANTINE)
                return outcomes.quarantined_message(facts, message, answer, reading, self._network, full)
            return self._reject_message(Reject(reply=replies.NOT_A_REPORT), f"{reading.why}; {sentence(answer)}", answer)
        return outcomes.accepted_message(self._facts(message, answer.disposition), message, answer, reading)

    def _is_unparsable(self, message: Message, reading: ReportReading) -> bool:
        """Return True if a message that nobody gets goes into the quarantine: it claims to be a report, and is unparsable."""
        unread = message.claims_report and reading.arf is None and reading.oob is None
        return unread and self._settings.unreadable_reports == "quarantine"

    # --- what outcomes have in common

    def _current(self) -> Message:
        if self._message is None:
            raise ProtocolError("there is no message in hand")
        return self._message

    def _facts(self, message: Message | None, disposition: Disposition, *, message_id: str | None = None) -> Facts:
        return Facts(
            node_id=self._world.node_id,
            session_id=self.session_id,
            message_id=(message.message_id if message is not None else "") if message_id is None else message_id,
            now=self._world.clock(),
            created=message.created if message is not None else self._began,
            peer=self.peer,
            helo=self._helo,
            sender=message.mail.sender if message is not None else "",
            listener=self.listener,
            authz_id=message.mail.authz_id if message is not None else None,
            queue_id=message.queue_id if message is not None else None,
            headers=message.recorded_headers if message is not None else {},
            disposition=disposition,
            compat=self._settings.compat,
            classify=self._policy.classify,
        )
