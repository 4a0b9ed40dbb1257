"""The answer to a question in words: the decision first, then its reasons with their places."""

from collections.abc import Iterator

from msgspec import UNSET

from sidecar.core.evaluate.explanation import ConnectPart, Explanation, RecipientPart, SigningPart
from sidecar.core.evaluate.proofs import proof_words
from sidecar.core.records import Record
from sidecar.core.text import printable

_MEANINGS = {
    "accept": "accept",
    "discard": "discard: the peer gets 250, and the MTA drops the message",
    "reject": "reject",
}


def explanation_words(explanation: Explanation, peer: str) -> Iterator[str]:
    """Return the lines for a question."""
    message = explanation.message
    yield from connect_words(explanation.connect, peer)
    for recipient in explanation.recipients:
        yield from recipient_words(recipient)
    if message.signing is not UNSET:
        yield _signing_words(message.signing)
    if message.action is None:
        return
    yield f"END OF MESSAGE: {message.reply or _MEANINGS[message.action]}"
    if message.relayed:
        yield f"  relayed to {printable(', '.join(message.relayed))}"
    if message.dropped:
        yield f"  dropped for {printable(', '.join(message.dropped))}"
    if message.verification is not UNSET:
        yield from (f"  {printable(line)}" for line in proof_words(message.verification))
    for record in message.records:
        yield f"  record {record.type}{_bounced(record)}: {printable(record.meta['why'])}"


def _signing_words(part: SigningPart) -> str:
    """Return what [sign] adds. The values are made for each message; none is shown."""
    added = [*part.header_fields, *["a token in the envelope sender"] * part.envelope_sender]
    return f"SIGN: {', '.join(added)}; each message gets its own values" if added else "SIGN: nothing"


def _bounced(record: Record) -> str:
    """Return the recipient of an OOB record, and the form of its report. Records for KumoMTA do not say the form."""
    if record.type != "OOB":
        return ""
    form = f" ({record.meta['read_as']})" if "read_as" in record.meta else ""
    return f" for {printable(str(record.recipient)) or 'a recipient that is not named'}{form}"


def connect_words(part: ConnectPart, peer: str) -> Iterator[str]:
    """Return what happens at connect."""
    deferred = ", the decision is deferred to RCPT" if part.deferred else ""
    yield f"CONNECT from {printable(peer)}: {part.reply or part.action}{deferred}"
    yield from (f"  because {printable(reason)}" for reason in part.because)


def recipient_words(part: RecipientPart) -> Iterator[str]:
    """Return what happens to one recipient at RCPT."""
    yield f"RCPT TO:<{printable(part.address)}>: {part.reply or 'accept'}"
    yield from (f"  because {printable(str(reason))}" for reason in part.because)
    if (entry := part.suppressed) is not UNSET:
        until = "until it is removed" if entry.expires is None else f"until {entry.expires}"
        rule = "" if entry.rule is None else f", by the rule in {entry.rule}"
        yield f"  suppressed: {printable(entry.reason)}, since {entry.since}, {until}; source: {entry.source}{printable(rule)}"
    if part.action == "accept" and not part.relay:
        yield f"  so it accepts only {part.report_kinds}; the end of the message decides"
