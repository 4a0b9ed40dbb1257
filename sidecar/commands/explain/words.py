"""How `explain` puts an answer into words: the decision first, then its reasons with their places.

Owns the sentences for the parts that questions and records have in common. Never decides anything.
"""

from collections.abc import Iterator

from sidecar.core.evaluate.explanation import ConnectPart, RecipientPart
from sidecar.core.settings.values import LogMode
from sidecar.core.text import printable


def connect_words(part: ConnectPart, peer: str) -> Iterator[str]:
    """Say what becomes of the peer at connect."""
    deferred = ", the verdict is deferred to RCPT" if part.deferred else ""
    yield f"CONNECT from {printable(peer)}: {part.reply or part.action}{deferred}"
    yield from (f"  because {printable(reason)}" for reason in part.because)


def recipient_words(part: RecipientPart) -> Iterator[str]:
    """Say what becomes of one recipient at RCPT."""
    yield f"RCPT TO:<{printable(part.address)}>: {part.reply or 'accept'}"
    yield from (f"  because {printable(str(reason))}" for reason in part.because)
    if part.action == "accept" and not part.relay:
        yield f"  so only {kinds(part)} may pass; the end of the message decides"


def kinds(part: RecipientPart) -> str:
    """Name the reports that the recipient's domain takes."""
    modes = (("bounce reports", part.log_oob), ("feedback reports", part.log_arf))
    return " and ".join(name for name, mode in modes if mode is not LogMode.IGNORE)
