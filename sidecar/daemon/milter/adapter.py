"""The callbacks of either engine: translate, hand over to the session, record, translate back, under one guard.

Owns the guard: whatever goes wrong in here is a 451 for the rest of the connection, with one line in the log, and never an
accept. Never decides about mail. One connection's callbacks come on different threads, never two at a time, so everything
that belongs to a connection is kept with libmilter's context.
"""

from collections.abc import Callable, Mapping
from typing import Any

import milter

from sidecar import log
from sidecar.core.session import NoRulesError, Session
from sidecar.core.session.events import Event
from sidecar.core.session.replies import TROUBLE
from sidecar.core.session.verdicts import ENOUGH, GO_ON, Continue, Decision
from sidecar.daemon.milter import translation
from sidecar.daemon.milter.codes import CannotTakeOffError, answer, check, set_reply
from sidecar.daemon.milter.context import Context
from sidecar.daemon.milter.negotiation import Step, Terms, agree, no_reply, unanswered
from sidecar.daemon.milter.packets import MalformedError
from sidecar.journal import JournalError
from sidecar.journal.write.recorder import Recorder

Callback = Callable[..., int]

_LOG = log.get("milter")
_SKIP = int(milter.SKIP)
_NO_LISTENER = (
    "the MTA does not tell its own end of a connection: let it send {daemon_addr} and {daemon_port} at connect;"
    " until then everybody gets 451 where a listener has rules of its own"
)
_FROM_HERE_ON = "the connection is answered 451 from here on"
# Faults that are no bugs: their sentence tells an operator more than a stack of calls.
_FORESEEN = (JournalError, CannotTakeOffError, MalformedError, NoRulesError, translation.UnknownPeerError)


class Connection:
    """What is kept of one milter connection between its callbacks.

    `session` is None before the peer is known and after a fault: then each step that has an answer is answered 451.
    `terms` are None if the negotiation failed: then no session begins.
    """

    __slots__ = ("session", "terms")

    def __init__(self, terms: Terms | None) -> None:
        self.terms = terms
        self.session: Session | None = None


class Adapter:
    """Callbacks as libmilter has them, over sessions and a recorder: `callbacks`, by step, and `negotiate`.

    Build one in each process. `translations` make events of what the engine hands over, besides its context, at each step.
    Without `answers_connect` nobody waits at connect: a refusal that comes there all the same is given at RCPT. Without
    `answers_data` nobody waits at DATA, where no verdict may come then. `watch` may put something around a step's callback.
    """

    def __init__(  # noqa: PLR0913 - each is a part of it
        self,
        *,
        translations: Mapping[Step, Callable[..., Event]],
        new_session: Callable[[], Session],
        recorder: Recorder,
        answers_connect: bool,
        answers_data: bool,
        watch: Callable[[Step, Callback], Callback] | None = None,
    ) -> None:
        self._new_session = new_session
        self._unanswered = unanswered(answers_connect=answers_connect, answers_data=answers_data)
        self._no_reply = no_reply(self._unanswered)
        self._recorder = recorder
        self._watch = watch
        self._said: set[str] = set()
        self.callbacks = {step: self._guarded(step, translate) for step, translate in translations.items()}
        self._on_connect = self.callbacks[Step.CONNECT]
        self.callbacks[Step.CONNECT] = self._connect

    def negotiate(self, context: Context, offer: list[int]) -> int:
        """Begin a connection: replace the MTA's offer in place with the answer to it."""
        try:
            terms = agree(context, offer, self._unanswered)
            context.setpriv(Connection(terms))
            for shortcoming in terms.shortcomings:
                self._say_once(shortcoming)
        except Exception as error:  # noqa: BLE001 - see _guarded
            # The offer as it came would let the MTA leave steps out, and a step that it leaves out is accepted.
            offer[:] = (0, self._no_reply, 0, 0)
            context.setpriv(Connection(None))
            _LOG.error(f"an unexpected fault in the negotiation; {_FROM_HERE_ON}", exc_info=error)
        return int(milter.CONTINUE)

    def _say_once(self, shortcoming: str) -> None:
        if shortcoming not in self._said:
            self._said.add(shortcoming)
            _LOG.warning(shortcoming)

    def _connect(self, context: Context, *told: Any) -> int:  # noqa: ANN401 - as libmilter hands it over; translated below
        """Begin a session, then answer as every callback does."""
        connection: Connection | None = context.getpriv()
        if connection is not None and connection.terms is not None and connection.terms.usable:
            try:
                connection.session = self._new_session()
            except Exception as error:  # noqa: BLE001 - see _guarded, which answers 451 where there is no session
                _LOG.error(f"cannot begin a session; {_FROM_HERE_ON}", exc_info=error)
        code = self._on_connect(context, *told)
        session = None if connection is None else connection.session
        if session is not None and session.listener is None:
            self._say_once(_NO_LISTENER)
        return code

    def _guarded(self, step: Step, translate: Callable[..., Event]) -> Callback:
        """Make the callback of a step."""
        unasked = step in self._unanswered
        going_on = int(milter.NOREPLY if unasked else milter.CONTINUE)
        # There it would accept the message.
        may_go_on = step is not Step.END_OF_MESSAGE

        def callback(context: Context, *told: Any) -> int:  # noqa: ANN401 - as libmilter hands it over; `translate` knows
            connection: Connection | None = context.getpriv()
            if connection is None or (session := connection.session) is None or (terms := connection.terms) is None:
                return _refuse(context, unasked=unasked)
            try:
                outcome = session.handle(translate(context, *told))
                if may_go_on and (outcome is GO_ON or (type(outcome.verdict) is Continue and not outcome.records)):
                    return going_on if outcome is not ENOUGH else _SKIP  # by far the most
                check(step, outcome.verdict, terms)
                # Before the MTA hears of the verdict, or it is no verdict.
                outcome = self._recorder.write(outcome)
                session.written()
                code = answer(context, step, outcome.verdict, terms)
            except Exception as error:  # noqa: BLE001 - the one guard: nothing unforeseen may let a message pass
                connection.session = None
                session.give_up()
                _report(step, session, error)
                return _refuse(context, unasked=unasked)
            if outcome.decision is not None:
                _tell(outcome.decision, session)
            return code

        return callback if self._watch is None else self._watch(step, callback)


def _refuse(context: Context, *, unasked: bool) -> int:
    """Answer 451 where an answer can be given; where none can, the next step that has one gives it."""
    if unasked:
        return int(milter.NOREPLY)
    set_reply(context, TROUBLE)
    return int(milter.TEMPFAIL)


def _report(step: Step, session: Session, error: Exception) -> None:
    if isinstance(error, _FORESEEN):
        _LOG.error(f"{error}; {_FROM_HERE_ON}", step=step.name, peer=session.peer, session_id=session.session_id)
    else:
        fault = f"an unexpected fault; {_FROM_HERE_ON}"
        _LOG.error(fault, step=step.name, peer=session.peer, session_id=session.session_id, exc_info=error)


def _tell(decision: Decision, session: Session) -> None:
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
