"""One SMTP connection as a state machine without I/O: events in, verdicts and records out.

Owns the order of events, and what is decided when: the table at the end of `Session` has the events that a state allows. Never
reads a clock, a file or a socket: the caller passes time and ids, and writes the records. Each message is judged by the rules
that were newest at its MAIL.
"""

from collections.abc import Callable, Mapping
from functools import partial
from itertools import product
from typing import Any, ClassVar, NamedTuple

from msgspec.structs import replace

from sidecar.core.names import network_of
from sidecar.core.policy import ConnectAnswer, judge_message
from sidecar.core.policy.answers import sentence
from sidecar.core.records import UNPARSABLE, Facts, Tls
from sidecar.core.reports.reading import NO_CLAIM, NO_MAILER, read
from sidecar.core.reports.values import ReportReading
from sidecar.core.session import events, outcomes, replies
from sidecar.core.session.events import ProtocolError, State
from sidecar.core.session.message import Message
from sidecar.core.session.quota import Quota
from sidecar.core.session.recipients import judge_recipient
from sidecar.core.session.replies import Bound, verdict_above
from sidecar.core.session.rules import Rules, World
from sidecar.core.session.suppressing import JudgedRecipient, sender_check
from sidecar.core.session.verdicts import ENOUGH, GO_ON, Accept, Continue, Discard, Outcome, Reject, Tempfail
from sidecar.core.session.verifying import judge_proofs, verify_report
from sidecar.core.settings.values import ANY_LISTENER

# Read for every event: Python code finds a member of an Enum by its class.
_OPEN, _CLOSED = State.OPEN, State.CLOSED
_BEFORE_CLOSE = [state for state in State if state is not _CLOSED]
_IGNORED: list[type[events.Event]] = [events.Helo, events.Mail, events.Abort]
_IN_MESSAGE = [State.OPEN, State.ENVELOPE, State.HEADERS, State.BODY]


class Transition(NamedTuple):
    """An event in a state: its handler, the state after Continue, and the state after any other verdict."""

    handler: Callable[["Session", Any], Outcome]
    then: State
    ended: State


class Session:
    """One SMTP connection. `handle` its events in order: each returns its outcome, or raises ProtocolError.

    `rules` returns the newest rules. The session calls it at connect and at each MAIL, where it judges the peer again; a
    message keeps the rules that it began with. The sessions of a worker share `quota`, which keeps its own limits; a session
    without one makes its own. Without `answers_data` the MTA gets no answer at DATA, so no message is decided there.
    """

    def __init__(
        self, *, rules: Callable[[], Rules], world: World, quota: Quota | None = None, answers_data: bool = True
    ) -> None:
        self.session_id = world.new_id()
        self.state = State.NEW
        self.peer = ""
        self._newest = rules
        self._rules: Rules
        self._world = world
        self._quota = Quota(rules().settings.limits) if quota is None else quota
        self._answers_data = answers_data
        self._has_place = False
        self._began = world.clock()
        self._connect: events.Connect
        self._network = ""
        self._bytes_received = 0
        self._listener = ANY_LISTENER
        self._is_relay_host = False
        self._at_connect = GO_ON
        self._rejected: tuple[Reject | Tempfail, str] | None = None
        self._helo = ""
        self._tls: Tls | None = None
        self._message: Message | None = None
        self._unwritten: Message | None = None

    @property
    def listener(self) -> str | None:
        """The MTA's own end of the connection; None if the MTA did not pass it."""
        return None if self._listener == ANY_LISTENER else self._listener

    @property
    def has_message(self) -> bool:
        """Whether a message has begun, and has not ended."""
        return self._message is not None

    @property
    def report_size(self) -> int:
        """The bytes of a possible report that the end of the message reads."""
        return 0 if self._message is None else self._message.kept

    def may_wait(self, event: events.Event) -> bool:
        """Return True if `handle` can wait for the disk with this event: it names a recipient that can be suppressed."""
        message = self._message
        if message is None or message.check is None or not isinstance(event, events.Rcpt):
            return False
        if message.check.may_have(event.address):
            return True
        message.unlisted = event.address
        return False

    def handle(self, event: events.Event) -> Outcome:
        """Handle the next event of the connection."""
        step = self.TRANSITIONS.get((self.state, type(event)))
        if step is None:
            raise ProtocolError(f"{type(event).__name__} is not allowed in state {self.state.name}")
        outcome = step.handler(self, event)
        if outcome is not GO_ON and outcome.records:
            outcome = self._accounted(outcome)
        self.state = state = step.then if outcome is GO_ON or type(outcome.verdict) is Continue else step.ended
        if state is _OPEN or state is _CLOSED:
            self._release()
        return outcome

    def give_up(self) -> None:
        """End the session after an exception, in any state. No event is allowed afterwards."""
        self.state = State.CLOSED
        self._release()

    def written(self) -> None:
        """Return the memory that a large report needed until its records were written. May be called at any time."""
        if self._unwritten is not None:
            self._unwritten.end_reading()
            self._unwritten = None

    def _release(self) -> None:
        """Return to the quota what the last message held and, at the end of the connection, the place of the session."""
        if self._message is not None:
            self._message.release()
            self._unwritten = self._message if self._message.needed else None
            self._message = None
        if self.state is _CLOSED:
            self.written()
            if self._has_place:
                self._has_place = False
                self._quota.leave()

    def _accounted(self, outcome: Outcome) -> Outcome:
        """Add what the limit on records needs: the peer's network, the bytes it sent, and the outcome above the limit."""
        message = self._message
        if self._is_relay_host:
            # It has no limit, and only rejections are counted by network.
            return outcome if type(outcome.verdict) in {Accept, Discard} else replace(outcome, network=self._network)
        received, self._bytes_received, above = self._bytes_received, 0, None
        received += message.seen if message is not None else 0
        verdict, again = outcome.verdict, 0
        if message is not None and isinstance(verdict, Accept):
            again = message.seen * (len(message.recipients) - len(verdict.without) - 1)
        if message is not None and type(verdict) in {Accept, Discard}:
            above = lambda: self._above_limit(message)  # noqa: E731 - a partial takes four times as long
        return replace(outcome, network=self._network, received=received, relayed_again=again, above=above)

    def _above_limit(self, message: Message) -> Outcome:
        self._message = message
        outcome = self._instead(Bound.RECORDS)
        self._message = None
        return outcome

    def _instead(self, bound: Bound) -> Outcome:
        """Return the outcome that replaces another one, which has accounted for the bytes received."""
        return replace(self._reject_above(bound), network=self._network, received=0)

    # --- the connection

    def _on_connect(self, event: events.Connect) -> Outcome:
        self._connect = event
        self.peer = str(event.peer)
        self._network = network_of(self.peer)
        self._listener = event.listener if event.listener is not None else ANY_LISTENER
        self._rules = self._newest()
        self._has_place = self._quota.enter()
        answer, reject = self._judge_peer() if self._has_place else (None, verdict_above(Bound.SESSIONS, self._rules.settings))
        if reject is None:
            self._at_connect = Outcome(verdict=Continue(), answer=answer)
        else:
            self._at_connect = outcomes.rejected_peer(self._facts(), *reject, answer)
        return self._at_connect

    def _judge_peer(self) -> tuple[ConnectAnswer | None, tuple[Reject | Tempfail, str] | None]:
        """Return the policy's answer to the peer, and the verdict with its reason if the peer is rejected."""
        peer, policy, self._is_relay_host = self._connect.peer, self._rules.policy, False
        if self._connect.listener is None and policy.depends_on_listener:
            why = "the MTA did not pass the address of its listener, and rules depend on it"
            return None, (Tempfail(reply=replies.UNKNOWN_LISTENER), why)
        answer = policy.at_connect(peer, self._listener)
        self._is_relay_host = answer.accept and not answer.deferred
        if answer.accept or not self._rules.settings.reject_at_connect:
            return answer, None
        return answer, (Reject(reply=replies.relaying_not_permitted(peer, self._connect.port)), sentence(answer))

    def _on_helo(self, event: events.Helo) -> Outcome:
        self._helo, self._tls = event.name, event.tls
        self._bytes_received += len(event.name)
        return GO_ON

    def _on_nothing(self, _event: events.Event) -> Outcome:
        return GO_ON

    def _on_rejected(self, _event: events.Rcpt) -> Outcome:
        """Repeat the verdict of connect: some MTAs let a rejected peer continue (Sendmail's delay_checks)."""
        return Outcome(verdict=self._at_connect.verdict)

    # --- the envelope

    def _on_mail(self, event: events.Mail) -> Outcome:
        self._release()
        self.written()
        self._bytes_received += len(event.sender)
        if (newest := self._newest()) is not self._rules:
            self._rules = newest
            _, self._rejected = self._judge_peer()
        self._message = Message(
            event,
            message_id=self._world.new_id().replace("-", ""),
            created=self._world.clock(),
            settings=newest.settings,
            quota=self._quota,
        )
        if self._is_relay_host:
            self._message.check = sender_check(newest.settings.suppression, self._world.suppression, event.sender)
        return GO_ON

    def _on_rcpt(self, event: events.Rcpt) -> Outcome:
        message = self._current(event.queue_id)
        self._bytes_received += len(event.address)
        if self._rejected is not None:  # by rules newer than the connection, which itself can no longer be rejected
            return outcomes.rejected_recipient(self._facts(), message, event.address, JudgedRecipient(rejected=self._rejected))
        judged = judge_recipient(event, message, self._rules, self._connect, self._listener, self._world.clock())
        if judged.rejected is not None or judged.answer is None:
            return outcomes.rejected_recipient(self._facts(), message, event.address, judged)
        message.recipients.append(judged.answer)
        if judged.entry is not None:
            message.suppressed[judged.answer.address] = judged.entry
        return Outcome(verdict=Continue(), answer=judged.answer, checked=judged.checked, suppressed=judged.entry)

    # --- the message

    def _on_data(self, event: events.Data) -> Outcome:
        message = self._message_with_recipients(event.queue_id)
        # Content cannot change the verdict on a relay host's mail, and costs the most. If the host disconnects before the end,
        # there is a record of a message that was not delivered, and the host retries. Other mail waits for its headers.
        at_data = self._answers_data and self._rules.settings.decides_at_data and message.signing is None
        if at_data and self._is_relay_host and not message.accepts_reports:
            message.decided = "data"
            return self._conclude(NO_CLAIM)
        message.begin_content()
        return GO_ON

    def _on_content(self, event: events.Header | events.Fields | events.EndOfHeaders) -> Outcome:
        """Begin the content without DATA, which some MTAs never report."""
        self._message_with_recipients().begin_content()
        return self.TRANSITIONS[State.HEADERS, type(event)].handler(self, event)

    def _on_header(self, event: events.Header) -> Outcome:
        self._current().add_fields([(event.name, event.value)], len(event.name) + len(event.value) + len(b": \r\n"))
        return GO_ON

    def _on_fields(self, event: events.Fields) -> Outcome:
        return ENOUGH if self._current().add_fields(event.fields, event.size) else GO_ON

    def _on_end_of_headers(self, _event: events.EndOfHeaders) -> Outcome:
        message = self._current()
        message.end_headers()
        if message.may_be_report and message.accepts_reports and not message.is_relayed_unread:
            is_admitted = self._is_relay_host or self._quota.admit_report(self._network, self._world.clock())
            bound = message.exceeded if is_admitted else Bound.RATE
            if bound is None:
                return GO_ON
            verdict, waits = partial(self._reject_above, bound), False
        else:
            verdict = partial(self._conclude, NO_MAILER if message.is_from_person else NO_CLAIM)
            # If it is signed, or relayed to some recipients only, the MTA changes it only at its end.
            waits = message.signing is not None or len({recipient.relay for recipient in message.recipients}) > 1
        if not waits and self._rules.settings.decide == "early":
            return verdict()
        message.at_end = verdict
        message.release()
        return GO_ON

    def _on_body(self, event: events.Body) -> Outcome:
        # No step for a verdict (see daemon/milter/negotiation.py): what exceeds a bound is not kept, and rejected at the end.
        self._current().add_body(event.chunk)
        return GO_ON

    def _on_end_of_message(self, event: events.EndOfMessage) -> Outcome:
        message = self._current(event.queue_id)
        message.whole = True
        if message.at_end is not None:
            return message.at_end()
        message.begin_reading()
        if message.is_relayed_unread:
            return self._conclude(NO_CLAIM)
        if message.exceeded is not None:
            return self._reject_above(message.exceeded)
        strict, null_sender = self._rules.settings.compat is not None, not message.mail.sender
        return self._conclude(read(message.content, strict=strict, text=message.accepts_text, null_sender=null_sender))

    def _reject_above(self, bound: Bound) -> Outcome:
        return outcomes.rejected_message(self._facts(), self._current(), *verdict_above(bound, self._rules.settings))

    def _conclude(self, reading: ReportReading) -> Outcome:
        """Return the verdict on the message, with its records."""
        message, settings = self._current(), self._rules.settings
        answer = judge_message(message.recipients, is_oob=reading.oob is not None, is_arf=reading.arf is not None)
        if outcomes.exceeds_records(answer, reading):
            return self._reject_above(Bound.REPORT_RECORDS)
        if settings.verify is not None and answer.logged_as is not None:
            about, admits = (answer, reading, message.content), self._admit_signature
            message.proofs = verify_report(*about, settings=settings.verify, world=self._world, admits=admits)
            if message.verification is not None and message.verification.deferred:  # signatures are checked once for all
                return self._reject_above(Bound.SIGNATURES)
            answer = judge_proofs(answer, message.proofs, settings.verify)
        if answer.action != "reject":
            accepted = outcomes.accepted_message(self._facts(), message, answer, reading, settings.original_headers)
            if outcomes.repeats_too_much(accepted.records):
                return self._reject_above(Bound.REPORT_RECORDS)
            return outcomes.signed(accepted, message, answer, self._world.clock())
        is_unparsable = message.claims_report and not reading.is_report and reading.other is None
        if (settings.unparsable_reports if is_unparsable else answer.unverified) == "quarantine":
            full = self._instead(Bound.QUARANTINE)
            return outcomes.quarantined_message(self._facts(), message, answer, reading, self._network, full)
        read_as = UNPARSABLE if is_unparsable else reading.read_as if answer.unverified is not None else ""
        why = f"{reading.why}; {sentence(answer)}"
        reply = replies.NOT_A_REPORT if answer.unverified is None else replies.UNVERIFIED
        return outcomes.rejected_message(self._facts(), message, Reject(reply=reply), why, answer, read_as)

    def _admit_signature(self) -> bool:
        return self._is_relay_host or self._quota.admit_signature(self._network, self._world.clock())

    def _current(self, queue_id: str | None = None) -> Message:
        """Return the message in hand. A newer queue id replaces its own."""
        message = self._message
        if message is None:
            raise ProtocolError("there is no message")
        message.queue_id = queue_id or message.queue_id
        return message

    def _message_with_recipients(self, queue_id: str | None = None) -> Message:
        message = self._current(queue_id)
        if not message.recipients:
            raise ProtocolError("the content follows, but no recipient was accepted")
        message.end_envelope()
        return message

    def _facts(self) -> Facts:
        message = self._message
        return Facts(
            node_id=self._world.node_id,
            session_id=self.session_id,
            message_id=message.message_id if message is not None else "",
            now=self._world.clock(),
            created=message.created if message is not None else self._began,
            peer=self.peer,
            helo=self._helo,
            tls=self._tls,
            sender=message.mail.sender if message is not None else "",
            listener=self.listener,
            authz_id=message.mail.authz_id if message is not None else None,
            queue_id=message.queue_id if message is not None else None,
            headers=message.headers.encoded if message is not None else {},
            decided=message.decided if message is not None else None,
            compat=self._rules.settings.compat,
            classify=self._rules.policy.classify,
        )

    TRANSITIONS: ClassVar[Mapping[tuple[State, type[events.Event]], Transition]] = {
        (State.NEW, events.Connect): Transition(_on_connect, State.OPEN, State.REJECTED),
        # EHLO aborts the message (RFC 5321 section 4.1.4); Postfix sends HELO before the abort.
        **dict.fromkeys(product([State.OPEN, State.ENVELOPE], [events.Helo]), Transition(_on_helo, State.OPEN, State.OPEN)),
        (State.ENVELOPE, events.Rcpt): Transition(_on_rcpt, State.ENVELOPE, State.ENVELOPE),
        (State.ENVELOPE, events.Data): Transition(_on_data, State.HEADERS, State.OPEN),
        (State.ENVELOPE, events.Header): Transition(_on_content, State.HEADERS, State.HEADERS),
        (State.ENVELOPE, events.Fields): Transition(_on_content, State.HEADERS, State.HEADERS),
        (State.ENVELOPE, events.EndOfHeaders): Transition(_on_content, State.BODY, State.OPEN),
        (State.HEADERS, events.Header): Transition(_on_header, State.HEADERS, State.HEADERS),
        (State.HEADERS, events.Fields): Transition(_on_fields, State.HEADERS, State.HEADERS),
        (State.HEADERS, events.EndOfHeaders): Transition(_on_end_of_headers, State.BODY, State.OPEN),
        (State.BODY, events.Body): Transition(_on_body, State.BODY, State.OPEN),
        (State.BODY, events.EndOfMessage): Transition(_on_end_of_message, State.OPEN, State.OPEN),
        # MAIL is never answered, CONNECT not always (see daemon/milter/negotiation.py): RCPT repeats the reply.
        (State.REJECTED, events.Rcpt): Transition(_on_rejected, State.REJECTED, State.REJECTED),
        **dict.fromkeys(product([State.REJECTED], _IGNORED), Transition(_on_nothing, State.REJECTED, State.REJECTED)),
        # With libmilter some aborts are not reported, so that the next message ends the last one.
        **dict.fromkeys(product(_IN_MESSAGE, [events.Mail]), Transition(_on_mail, State.ENVELOPE, State.ENVELOPE)),
        **dict.fromkeys(product(_IN_MESSAGE, [events.Abort]), Transition(_on_nothing, State.OPEN, State.OPEN)),
        **dict.fromkeys(product(_BEFORE_CLOSE, [events.Close]), Transition(_on_nothing, State.CLOSED, State.CLOSED)),
    }
    """The one table: which event is allowed in which state. A pair that is missing is a ProtocolError."""
