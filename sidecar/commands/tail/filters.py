"""Select records by type, disposition, peer, domain and reason. Never reads a log."""

from collections.abc import Callable, Sequence
from difflib import get_close_matches

from sidecar.config.readers import WrongValue, network
from sidecar.core.disposition import Disposition
from sidecar.core.names import normal_domain, plain_address
from sidecar.core.networks import Networks
from sidecar.core.policy.address import domain_of
from sidecar.core.records import TYPES, Logged
from sidecar.core.settings.values import Network
from sidecar.core.text import quoted

_BELOW = "*."


class Filters:
    """A record must match one value of each kind that is set. Without any, every record matches.

    The values are the words of a command line. Raise ValueError with the error and the fix.
    """

    def __init__(
        self,
        *,
        types: Sequence[str] = (),
        dispositions: Sequence[str] = (),
        peers: Sequence[str] = (),
        domains: Sequence[str] = (),
        reason: str = "",
    ) -> None:
        self._types = frozenset(_type(name) for name in types)
        self._dispositions = frozenset(map(Disposition, dispositions))
        self._peers = Networks(map(_network, peers)) if peers else None
        # `*` matches every domain, also an empty one.
        self._domains = frozenset() if "*" in domains else frozenset(map(_domain, domains))
        self._below = tuple(domain.removeprefix("*") for domain in self._domains if domain.startswith(_BELOW))
        self._reason = reason.casefold()

    @property
    def wanted(self) -> Callable[[Logged], bool] | None:
        """The filter as a function; None if every record matches."""
        selects = self._types or self._dispositions or self._peers is not None or self._domains or self._reason
        return self.want if selects else None

    def want(self, record: Logged) -> bool:
        """Return True if a record matches."""
        return (
            (not self._types or record.type.lower() in self._types)
            and (not self._dispositions or record.disposition in self._dispositions)
            and (self._peers is None or self._has_peer(record))
            and (not self._domains or self._has_domain(record))
            and (not self._reason or self._has_reason(record))
        )

    def _has_peer(self, record: Logged) -> bool:
        if self._peers is None or record.peer_address is None:
            return False
        try:
            return self._peers.find(plain_address(record.peer_address.addr)) is not None
        except ValueError:
            return False

    def _has_domain(self, record: Logged) -> bool:
        found = {domain_of(recipient) for recipient in record.recipients} | {_queue_domain(record.queue)}
        return not self._domains.isdisjoint(found) or any(domain.endswith(self._below) for domain in found)

    def _has_reason(self, record: Logged) -> bool:
        why = record.meta.get("why")
        return self._reason in record.response.content.casefold() or (isinstance(why, str) and self._reason in why.casefold())


def _queue_domain(queue: str) -> str:
    # KumoMTA's queue name is `campaign:tenant@domain!routing_domain`, and every part except the domain is optional.
    name, _, _ = queue.rpartition("@")[2].partition("!")
    return normal_domain(name.rpartition(":")[2]) or ""


def _type(name: str) -> str:
    # KumoMTA can add types, so only a probable mistake in a known one is an error.
    known = {known.lower(): known for known in TYPES}
    if name.lower() not in known and (near := get_close_matches(name.lower(), known, n=1)):
        raise ValueError(f"There is no record type {quoted(name)}; did you mean {known[near[0]]}?")
    return name.lower()


def _network(text: str) -> Network:
    try:
        return network(text)
    except WrongValue as wrong:
        raise ValueError(" ".join(f"{fault.text} {fault.fix}" for fault in wrong.faults)) from wrong


def _domain(text: str) -> str:
    domain = normal_domain(text)
    if domain is None or "*" in domain.removeprefix(_BELOW):
        raise ValueError(
            f"{quoted(text)} is no domain; write a complete name, or *.example.com for all names below example.com."
        )
    return domain
