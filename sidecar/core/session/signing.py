"""The proofs that outbound mail gets: the trace header, a token in the envelope sender, the fields of RFC 9477.

Owns which messages are signed, and what their header sections say about that. Never reads a clock, and never a file.
"""

from collections.abc import Sequence

from sidecar.core.names import most_specific
from sidecar.core.policy.address import domain_of
from sidecar.core.proof.address import tagged
from sidecar.core.proof.head import joined
from sidecar.core.proof.trace import FEEDBACK_ID, NAME, trace
from sidecar.core.session.verdicts import Accept
from sidecar.core.settings.keys import Secret
from sidecar.core.settings.proof import SignSettings
from sidecar.core.settings.settings import Settings

CFBL_ADDRESS = "CFBL-Address"
"""The field of RFC 9477 that says where complaints shall be sent."""

_MESSAGE_ID, _TRACE, _CFBL = (name.lower().encode() for name in ("Message-ID", NAME, CFBL_ADDRESS))
# Of the fields of a message that is signed again; ours are the first ones. Nothing limits their number and size.
_TRACES_LIMIT, _TRACE_SIZE_LIMIT = 100, 200
_LENGTHS = frozenset(map(len, (_MESSAGE_ID, _TRACE, _CFBL)))


class Signing:
    """What one message is signed with. Pass its header fields to `add`."""

    __slots__ = ("_identifiers", "_secret", "_settings", "_signed")

    def __init__(self, settings: SignSettings, secret: Secret) -> None:
        self._settings = settings
        self._secret = secret
        # Two at most: how many more there are does not matter.
        self._identifiers: list[bytes] = []
        # The values of trace headers, and the name of CFBL-Address.
        self._signed: set[bytes] = set()

    def add(self, fields: Sequence[tuple[bytes, bytes]]) -> None:
        """Note the header fields that matter."""
        for name, value in fields:
            if len(name) not in _LENGTHS:
                continue
            lowered = name.lower()
            if lowered == _MESSAGE_ID:
                self._identifiers = [*self._identifiers[:1], value]
            elif lowered == _TRACE and len(self._signed) < _TRACES_LIMIT and len(value) <= _TRACE_SIZE_LIMIT:
                self._signed.add(joined(value))
            elif lowered == _CFBL:
                self._signed.add(lowered)

    def sign(self, verdict: Accept, *, sender: str, recipients: Sequence[str], now: float) -> Accept:
        """Return the verdict with what the MTA adds and changes. `recipients` are those to which the message is relayed.

        A message that does not have exactly one Message-ID gets no trace header: it could not be checked.
        """
        new_sender = tagged(sender, self._secret, now) if self._settings.address else sender
        return Accept(
            without=verdict.without,
            fields=tuple(self._fields(sender, recipients, now)),
            sender=None if new_sender == sender else new_sender,
        )

    def _fields(self, sender: str, recipients: Sequence[str], now: float) -> list[tuple[str, str]]:
        settings, value, fields = self._settings, None, []
        if len(self._identifiers) == 1:
            value = trace(self._secret, now, message_id=self._identifiers[0], sender=sender, recipients=recipients)
        # Another of our hosts can have signed the message before.
        if settings.header and value is not None and value.encode() not in self._signed:
            fields.append((NAME, value))
        # The address of an application or of another host counts: a message has only one.
        if settings.cfbl_address is not None and _CFBL not in self._signed:
            fields.append((CFBL_ADDRESS, f"{settings.cfbl_address}; report=arf"))
            if value is not None:
                fields.append((FEEDBACK_ID, value))
        return fields


def signing_of(settings: Settings, sender: str) -> Signing | None:
    """Return the signing of an outbound message with this envelope sender; None if it is not signed."""
    if settings.sign is None or settings.verify is None or not _covers(settings.sign.domains, sender):
        return None
    return Signing(settings.sign, settings.verify.secrets[0])


def _covers(domains: tuple[str, ...], sender: str) -> bool:
    return not domains or most_specific(domains, domain_of(sender)) is not None
