"""A record under a configuration in words: what happened, what the configuration decides, and what its changes are for."""

from typing import Final

from sidecar.core.disposition import REJECTED, Disposition
from sidecar.core.evaluate.envelope import Happened
from sidecar.core.evaluate.evaluator import EnvelopeOutcome, Undecided
from sidecar.core.evaluate.recorded.explanation import RecordExplanation

HAPPENED: Final[dict[Happened, str]] = {
    "quarantined": "accepted, and kept in the quarantine",
    "dropped": "dropped for this recipient; for others the message was accepted",
    "rejected_for_other_reason": "rejected",
}
OUTCOMES: Final[dict[EnvelopeOutcome, str]] = {
    Disposition.RELAYED: "accepts the message, and relays it",
    Disposition.LOGGED_AND_RELAYED: "accepts the report, logs it and relays it",
    Disposition.LOGGED_AND_DROPPED: "accepts the report, logs it and drops it",
    Disposition.QUARANTINED: "accepts the message, and quarantines it",
    Disposition.REJECTED_AT_CONNECT: "rejects the peer at connect",
    Disposition.REJECTED_AT_RCPT: "rejects the recipient",
    Disposition.REJECTED_AT_END: "accepts the recipient, and rejects the message at its end",
    Undecided.RECIPIENTS_UNKNOWN: "accepts the connection; it decides at RCPT, for each recipient",
    Undecided.CONTENT_UNKNOWN: "accepts the recipient, but only for reports: it rejects any other message at its end",
    Undecided.PROOF_UNKNOWN: "accepts the recipient; a report that proves nothing is not accepted at its end",
}
_AGREEMENTS: Final = {True: ", as the record says", False: ", unlike the record", None: ""}
AIMS: Final = {"reject": "To reject it:", "accept": "To accept it, make one of these changes, if you want it:"}


def decision(explanation: RecordExplanation, outcome: EnvelopeOutcome) -> str:
    """Return what the configuration does, and whether the record says the same."""
    words = OUTCOMES[outcome]
    if explanation.happened == "dropped" and outcome is Disposition.REJECTED_AT_END:
        words = "accepts the recipient, and does not accept the message for it"
    parts, message = explanation.recipients, explanation.message
    if outcome not in REJECTED and any(part.action == "reject" for part in parts):
        words += ", but only for some of its recipients"
    elif outcome == Disposition.RELAYED and message is not None and message.action is None:
        words += ", unless it is a report that the domain accepts" if any(part.report_kinds for part in parts) else ""
    return f"{words}{_AGREEMENTS[explanation.agrees]}"
