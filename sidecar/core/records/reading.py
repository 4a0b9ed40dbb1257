"""A record read from a log: the sidecar's, or KumoMTA's of any type and version. Never reads a file."""

from collections import OrderedDict
from collections.abc import Mapping
from typing import Any, Final

import msgspec
from msgspec import Struct

from sidecar.core.disposition import Disposition
from sidecar.core.records.record import PeerAddress, Response

# KumoMTA's record types (August 2026). There will be more. The last one is ours alone.
TYPES: Final = (
    "Reception", "Rejection", "OOB", "Feedback", "Delivery", "Bounce", "TransientFailure", "Expiration", "AdminBounce",
    "AdminRebind", "DeferredInjectionRebind", "Delayed", "XferOut", "XferIn", "Suppression",
)  # fmt: skip

_DISPOSITIONS: Final = {one.value: one for one in Disposition}
_NO_RESPONSE = Response(code=0)

# A record counts the rejections of about a second, so larger numbers are wrong.
_COUNT_LIMIT = 10**9


class Logged(Struct, frozen=True, kw_only=True, gc=False):
    """One line of a log. Other fields are ignored, and missing ones are empty.

    `type` is any of KumoMTA's record types. `recipient` is a list in some versions of KumoMTA, in our Rejection of a message
    with several recipients, and in our older records. `timestamp` and `created`, the begin of the message, are in seconds since
    1970.
    """

    type: str
    id: str = ""
    sender: str = ""
    recipient: str | list[str] = ""
    queue: str = ""
    size: int = 0
    response: Response = _NO_RESPONSE
    peer_address: PeerAddress | None = None
    timestamp: int = 0
    created: int = 0
    event_time: str = ""
    bounce_classification: str = ""
    feedback_report: Mapping[str, Any] | None = None
    meta: Mapping[str, Any] = {}
    headers: Mapping[str, Any] = {}
    reception_protocol: str | None = None
    tls_cipher: str | None = None
    nodeid: str | None = None
    session_id: str | None = None

    @property
    def message_id(self) -> str:
        """The id of the message, which the records of its recipients share. KumoMTA's and our older records have only `id`."""
        own = self.meta.get("message_id")
        return own if isinstance(own, str) else self.id

    @property
    def recipients(self) -> tuple[str, ...]:
        """The recipients; none for `""`, as in a Rejection at connect."""
        if isinstance(self.recipient, str):
            return (self.recipient,) if self.recipient else ()
        return tuple(self.recipient)

    @property
    def when(self) -> int:
        """When the record was made. The `timestamp` of an OOB record is the report's last attempt, in any year."""
        return self.created if self.type == "OOB" and self.created else self.timestamp

    @property
    def disposition(self) -> Disposition | None:
        """The disposition; None in KumoMTA's records."""
        word = self.meta.get("disposition")
        return _DISPOSITIONS.get(word) if isinstance(word, str) else None

    @property
    def count(self) -> int:
        """How many events the record counts, 10**9 at most: one record can count the rejections of a flood."""
        counted = self.meta.get("count")
        return min(counted, _COUNT_LIMIT) if isinstance(counted, int) and counted > 0 else 1


class Messages:
    """Which records are the first of their message. Those of one message are close together: so many ids are remembered."""

    def __init__(self, remembered: int = 20_000) -> None:
        self._remembered = remembered
        self._ids: OrderedDict[str, None] = OrderedDict()

    def begins(self, record: Logged) -> bool:
        """Return True for the first record of a message; False for the others, and for a rejection before a message exists."""
        message_id = record.message_id
        if not message_id:
            return record.type != "Rejection"
        if message_id in self._ids:
            return False
        self._ids[message_id] = None
        if len(self._ids) > self._remembered:
            self._ids.popitem(last=False)
        return True


_DECODER = msgspec.json.Decoder(Logged)


def decode(line: bytes) -> Logged:
    """Parse one line of a log. Raise ValueError with the reason."""
    try:
        return _DECODER.decode(line)
    except RecursionError:
        raise ValueError("it nests too deep to be a record") from None
