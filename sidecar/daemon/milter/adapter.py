"""The callbacks of either engine: translate, pass to the session, record, translate back, under one guard.

Owns the guard: any fault in here is a 451 for the rest of the connection, with one line in the log, and never an accept. Never
decides about mail. One connection's callbacks run on different threads, never two at a time, so everything that belongs to a
connection is kept with its context.
"""

import time
from collections.abc import Callable, Mapping
from functools import partial
from logging import DEBUG
from typing import Any

from msgspec.structs import replace

from sidecar import log
from sidecar.core.session import NoRulesError, ProtocolError, Session
from sidecar.core.session.events import Event, State
from sidecar.core.session.replies import TROUBLE
from sidecar.core.session.verdicts import ENOUGH, GO_ON, Continue, Decision, Outcome
from sidecar.daemon.milter import translation
from sidecar.daemon.milter.codes import UNJUDGED, answer, possible, set_reply
from sidecar.daemon.milter.context import CONTINUE, NOREPLY, SKIP, TEMPFAIL, WAITING, Context, WaitingContext
from sidecar.daemon.milter.negotiation import CANNOT_DISCARD, Step, Terms, agree, no_reply, unanswered
from sidecar.daemon.milter.packets import MalformedError
from sidecar.journal import JournalError
from sidecar.journal.write.recorder import Recorder

Callback = Callable[..., int]
Observe = Callable[[int], None]

# Reports from this size on are read by another thread: a bounce of 32 kB with 500 recipients takes some 15 ms.
LARGE_REPORT = 32 * 1024

_LOG = log.get("milter")
_ITS_OWN_END = "its own end of a connection; let it send {daemon_addr} and {daemon_port} at connect"
_NO_LISTENER = f"the MTA does not report {_ITS_OWN_END} before a listener gets its own rules"
_UNJUDGED = f"every peer gets 451 without a record: a listener has its own rules, and the MTA does not report {_ITS_OWN_END}"
_NO_DISCARD = 'a report that "LogThenDrop" accepts is answered 451, so write "LogThenRelay"'
_FROM_HERE_ON = "the connection is answered 451 from here on"
# Faults that are no bugs: their sentence helps an operator more than a traceback.
_FORESEEN = (JournalError, MalformedError, NoRulesError, ProtocolError, translation.UnknownPeerError)


class Connection:
    """What is kept of one milter connection between its callbacks.

    `session` is None before the peer is known and after a fault: then each step that has an answer is answered 451.
    `terms` are None if the negotiation failed: then no session begins. `began` is the monotonic time of the last callback, in
    nanoseconds, if it is measured.
    """

    __slots__ = ("began", "session", "terms")

    def __init__(self, terms: Terms | None) -> None:
        self.terms = terms
        self.session: Session | None = None
        self.began = 0


class Adapter:
    """Callbacks as libmilter has them, over sessions and a recorder: `callbacks`, by step, and `negotiate`.

    Build one in each process. `translations` make events of what the engine passes on, besides its context, at each step.
    Without `answers_connect` the MTA does not wait at connect: a rejection there is given at RCPT. Without `answers_data` it
    does not wait at DATA, and no verdict may be given there. `signing` has the actions that the MTA is asked for to sign mail.
    With `waits` the contexts are WaitingContexts: a callback whose answer must wait for the disk returns WAITING, and one whose
    packet breaks the protocol raises MalformedError. `watch` returns what observes the nanoseconds of a step's answers.
    """

    def __init__(  # noqa: PLR0913 - each is a part of it
        self,
        *,
        translations: Mapping[Step, Callable[..., Event]],
        new_session: Callable[[], Session],
        recorder: Recorder,
        answers_connect: bool,
        answers_data: bool,
        signing: int = 0,
        waits: bool = False,
        watch: Callable[[Step], Observe | None] = lambda _: None,
    ) -> None:
        self._new_session = new_session
        self._unanswered = unanswered(answers_connect=answers_connect, answers_data=answers_data)
        self._signing = signing
        self._recorder = recorder
        self._waits = waits
        # The codes of steps without an answer. With another one for BODY libmilter would not call the end of a message that has
        # the last piece of the body in its packet; it sends no answer.
        self._silent = dict.fromkeys(self._unanswered, NOREPLY) | ({} if waits else {Step.BODY: CONTINUE})
        self._logged: set[str] = set()
        self.callbacks = {step: self._callback(step, translate, watch(step)) for step, translate in translations.items()}
        self._on_connect = self.callbacks[Step.CONNECT]
        self.callbacks[Step.CONNECT] = self._connect

    def negotiate(self, context: Context, offer: list[int]) -> int:
        """Begin a connection: replace the MTA's offer in place with the answer to it."""
        try:
            terms = agree(context, offer, self._unanswered, self._signing)
            context.setpriv(Connection(terms))
            for shortcoming in terms.shortcomings:
                self._warn_once(shortcoming)
        except Exception as error:  # noqa: BLE001 - the guard
            # With its own offer the MTA could leave steps out, and a step that it leaves out is accepted.
            offer[:] = (0, no_reply(self._unanswered), 0, 0)
            context.setpriv(Connection(None))
            _LOG.error(f"an unexpected fault in the negotiation; {_FROM_HERE_ON}", exc_info=error)
        return CONTINUE

    def _warn_once(self, text: str) -> None:
        if text not in self._logged:
            self._logged.add(text)
            _LOG.warning(text)

    def _connect(self, context: Context, *arguments: Any) -> int:  # noqa: ANN401 - as libmilter passes it; translated below
        """Begin a session, then answer as every callback does."""
        connection: Connection | None = context.getpriv()
        if connection is not None and (terms := connection.terms) is not None:
            try:
                connection.session = self._new_session()
                if not terms.can_remove and (name := translation.daemon_name(context)) in CANNOT_DISCARD:
                    connection.terms = replace(terms, can_discard=False)
                    self._warn_once(f"the MTA, {name}, cannot discard a message: {_NO_DISCARD}")
            except Exception as error:  # noqa: BLE001 - the guard: without a session every step is answered 451
                _LOG.error(f"cannot begin a session; {_FROM_HERE_ON}", exc_info=error)
        code = self._on_connect(context, *arguments)
        session = None if connection is None else connection.session
        if session is not None and session.listener is None and session.state is State.OPEN:
            self._warn_once(_NO_LISTENER)
        return code

    def lose_event(self, context: Context) -> bool:
        """Answer 451 from here on if the engine could not pass on an event of a message. Return False outside of a message."""
        connection: Connection | None = context.getpriv()
        if connection is None or (session := connection.session) is None:
            return connection is not None
        if session.has_message:
            connection.session = None
            session.give_up()
            _LOG.error(f"an event is lost; {_FROM_HERE_ON}", peer=session.peer, session_id=session.session_id)
        return connection.session is None

    def _callback(self, step: Step, translate: Callable[..., Event], observe: Observe | None) -> Callback:
        """Return the callback of a step."""
        silent = self._silent.get(step)
        continues = CONTINUE if silent is None else silent
        is_end = step is Step.END_OF_MESSAGE
        can_wait = self._waits and (is_end or step is Step.RCPT)
        pass_on = partial(self._pass_on, step, observe)

        def callback(context: Any, *arguments: Any) -> int:  # noqa: ANN401 - as libmilter passes it; `translate` knows
            connection: Connection | None = context.getpriv()
            if connection is None or (session := connection.session) is None or (terms := connection.terms) is None:
                return _tempfail(context, silent)
            try:
                event = translate(context, *arguments)
                if can_wait and (session.report_size >= LARGE_REPORT if is_end else session.may_wait(event)):
                    work = partial(self._handle_slowly, step, connection, event)
                    self._recorder.run_slowly(work, partial(pass_on, context, connection))
                    return WAITING
                outcome = session.handle(event)
                # There it would accept the message.
                if not is_end and (outcome is GO_ON or (type(outcome.verdict) is Continue and not outcome.records)):
                    return continues if outcome is not ENOUGH else SKIP  # nearly all
                outcome = possible(step, outcome, terms)
                # The verdict holds only when its records are written.
                if not self._waits:
                    result: Outcome | Exception | None = self._recorder.write(outcome)
                else:
                    result = self._recorder.begin(outcome, partial(pass_on, context, connection))
            except Exception as error:  # noqa: BLE001 - the one guard: no fault may let a message pass
                result = error
            return WAITING if result is None else self._finish(step, context, connection, result)

        return callback if observe is None else _timed(callback, observe)

    def _handle_slowly(self, step: Step, connection: Connection, event: Event) -> Outcome:
        """Read a large report or look up a recipient, and write what belongs to it; in another thread."""
        session, terms = connection.session, connection.terms
        assert session is not None and terms is not None, "nothing else happens to a connection that waits"  # noqa: PT018, S101
        return self._recorder.write(possible(step, session.handle(event), terms))

    def _pass_on(
        self, step: Step, observe: Observe | None, context: WaitingContext, connection: Connection, result: Outcome | Exception
    ) -> None:
        """Pass on the result of a step whose callback has returned WAITING; from any thread."""

        def finish() -> int:
            code = self._finish(step, context, connection, result)
            if observe is not None:
                observe(time.perf_counter_ns() - connection.began)
            return code

        context.resume_later(finish)

    def _finish(self, step: Step, context: Context, connection: Connection, result: Outcome | Exception) -> int:
        """Return the code for an outcome whose records are written, or for a fault."""
        session, terms = connection.session, connection.terms
        assert session is not None and terms is not None, "the callback has looked"  # noqa: PT018, S101
        if isinstance(result, Outcome):
            try:
                session.written()
                code = answer(context, step, result.verdict, terms)
            except Exception as error:  # noqa: BLE001 - the guard
                result = error
            else:
                if result.decision is not None and _LOG.is_enabled_for(DEBUG):
                    _log_decision(result.decision, session)
                if result.verdict == UNJUDGED:
                    self._warn_once(_UNJUDGED)
                return code
        connection.session = None
        session.give_up()
        if self._waits and isinstance(result, MalformedError | ProtocolError):
            # Only the direct engine can end a connection, and logs why.
            raise MalformedError(f"{step.name}: {result}") from result
        _log_fault(step, session, result)
        return _tempfail(context, self._silent.get(step))


def _timed(callback: Callback, observe: Observe) -> Callback:
    """Return a callback that observes its own time; of one that returns WAITING, `_pass_on` does."""

    def timed(context: Context, *arguments: Any) -> int:  # noqa: ANN401 - as libmilter passes it
        began = time.perf_counter_ns()
        if (connection := context.getpriv()) is not None:
            connection.began = began
        if (code := callback(context, *arguments)) != WAITING:
            observe(time.perf_counter_ns() - began)
        return code

    return timed


def _tempfail(context: Context, silent: int | None) -> int:
    """Answer 451, or return the code of a step without an answer: the next step that has one answers 451."""
    if silent is not None:
        return silent
    set_reply(context, TROUBLE)
    return TEMPFAIL


def _log_fault(step: Step, session: Session, error: Exception) -> None:
    if isinstance(error, _FORESEEN):
        _LOG.error(f"{error}; {_FROM_HERE_ON}", step=step.name, peer=session.peer, session_id=session.session_id)
    else:
        fault = f"an unexpected fault; {_FROM_HERE_ON}"
        _LOG.error(fault, step=step.name, peer=session.peer, session_id=session.session_id, exc_info=error)


def _log_decision(decision: Decision, session: Session) -> None:
    # The journal has a record of each decision.
    _LOG.debug(
        f"{decision.stage}: {decision.action}",
        disposition=decision.disposition.value,
        why=decision.why,
        peer=session.peer,
        sender=decision.sender,
        recipients=decision.recipients,
        queue_id=decision.queue_id,
        session_id=session.session_id,
    )
