"""The proofs for a message of an application, as `sidecar sign` and `POST /v1/sign` return them."""

from collections.abc import Sequence

from msgspec import Struct

from sidecar.core.policy.address import is_text
from sidecar.core.proof.address import obstacle, tagged
from sidecar.core.proof.trace import trace
from sidecar.core.settings.keys import Secret


class Signed(Struct, frozen=True, kw_only=True):
    """The envelope sender to use, and the value of the trace header.

    `why` says why the sender has no new token; it is null if it has one. `trace` is null without a Message-ID that can be
    signed.
    """

    sender: str
    why: str | None
    trace: str | None


def sign(secret: Secret, now: float, *, sender: str, message_id: str | None, recipients: Sequence[str]) -> Signed:
    """Return the proofs for a message with this envelope. Addresses have no angle brackets."""
    # A MAC covers lines: an address with a line end could pass for two texts.
    identified = message_id is not None and all(map(is_text, (sender, *recipients)))
    return Signed(
        sender=tagged(sender, secret, now),
        why=obstacle(sender),
        trace=trace(secret, now, message_id=message_id or "", sender=sender, recipients=recipients) if identified else None,
    )
