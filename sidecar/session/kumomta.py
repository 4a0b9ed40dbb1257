"""`compat = "kumomta"`: reports are read, and refusals recorded, to KumoMTA's letter (contract sections 3 and 4: **Ours**).

Owns what is different then. Never in the way of a session without it: that one is of another class.
"""

from functools import partial

from msgspec.structs import replace

from sidecar.policy import MessageAnswer, RecipientAnswer
from sidecar.records import Facts, Record, reception
from sidecar.reports import read
from sidecar.session.events import Rcpt
from sidecar.session.message import Message
from sidecar.session.session import Session
from sidecar.session.verdicts import Outcome, Reject, Tempfail
from sidecar.settings.values import Settings


class KumoSession(Session):
    """A session whose records are KumoMTA's, but for `meta`: that goes on to say why, and says `compat` as well."""

    _read = staticmethod(partial(read, strict=True))

    def _refuse_recipient(
        self, event: Rcpt, verdict: Reject | Tempfail, why: str, answer: RecipientAnswer | None = None
    ) -> Outcome:
        """The refused recipient stands in the command alone; the record's own is the last one that was accepted."""
        outcome = super()._refuse_recipient(event, verdict, why, answer)
        accepted = self._current().recipients
        return replace(outcome, records=(_bare(outcome.records[0], recipient=accepted[-1].address if accepted else ""),))

    def _refuse_message(self, verdict: Reject | Tempfail, why: str, answer: MessageAnswer | None = None) -> Outcome:
        """KumoMTA forgets the envelope once it has the message; what the policy refuses, it has recorded as received before."""
        outcome = super()._refuse_message(verdict, why, answer)
        message = self._current()
        refusal = replace(outcome.records[0], id="")
        if answer is None:
            return replace(outcome, records=(_bare(refusal, recipient=message.recipients[-1].address),))
        refusal = _bare(replace(refusal, sender=""), recipient="")
        received = reception(
            self._facts(message),
            recipients=[fate.address for fate in answer.fates],
            queue=answer.fates[0].domain,
            size=message.size,
            why=why,
        )
        return replace(outcome, records=(received, refusal))

    def _facts(self, message: Message | None, **more: object) -> Facts:
        return replace(super()._facts(message, **more), compat="kumomta")  # type: ignore[arg-type]  # handed through


def session_type(settings: Settings) -> type[Session]:
    """Give the class of the sessions that these settings ask for."""
    return KumoSession if settings.compat == "kumomta" else Session


def _bare(record: Record, *, recipient: str) -> Record:
    """Give a Rejection as KumoMTA writes it: made when the refusal was, and without the message's headers."""
    return replace(record, recipient=recipient, created=record.timestamp, created_time=record.event_time, headers={})
