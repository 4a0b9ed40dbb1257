"""Which records are wanted: by type, disposition, peer, domain and reason.

Owns what each of them compares. Never reads a log.
"""

from collections.abc import Callable, Sequence
from difflib import get_close_matches
from typing import Self

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
    """What a record must have: of each kind that is named, one of the values. Without any, every record is wanted."""

    def __init__(
        self,
        *,
        types: Sequence[str] = (),
        dispositions: Sequence[Disposition] = (),
        peers: Networks | None = None,
        domains: Sequence[str] = (),
        reason: str = "",
    ) -> None:
        self._types = frozenset(name.lower() for name in types)
        self._dispositions = frozenset(dispositions)
        self._peers = peers
        self._domains = frozenset(domains)
        self._below = tuple(domain.removeprefix("*") for domain in domains if domain.startswith(_BELOW))
        self._reason = reason.casefold()

    @classmethod
    def read(
        cls,
        *,
        types: Sequence[str],
        dispositions: Sequence[str] = (),
        peers: Sequence[str],
        domains: Sequence[str],
        reason: str,
    ) -> Self:
        """Build them from words of a command line. Raises ValueError, which says what is wrong and what to write."""
        return cls(
            types=[_type(name) for name in types],
            dispositions=[Disposition(word) for word in dispositions],
            peers=Networks(map(_network, peers)) if peers else None,
            # `*` is every domain, and no domain as well.
            domains=[] if "*" in domains else [_domain(text) for text in domains],
            reason=reason,
        )

    @property
    def wanted(self) -> Callable[[Logged], bool] | None:
        """The filter as a function; None if every record is wanted."""
        selects = self._types or self._dispositions or self._peers is not None or self._domains or self._reason
        return self.want if selects else None

    def want(self, record: Logged) -> bool:
        """Tell whether a record is wanted."""
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
    """Give the domain in KumoMTA's name for a queue: `campaign:tenant@domain!routing_domain`, most of which may be missing."""
    name, _, _ = queue.rpartition("@")[2].partition("!")
    return normal_domain(name.rpartition(":")[2]) or ""


def _type(name: str) -> str:
    # There will be more types than we know, so that only what looks like a slip of one of these is rejected.
    known = {known.lower(): known for known in TYPES}
    if name.lower() not in known and (near := get_close_matches(name.lower(), known, n=1)):
        raise ValueError(f"There is no record type {quoted(name)}; did you mean {known[near[0]]}?")
    return name


def _network(text: str) -> Network:
    try:
        return network(text)
    except WrongValue as wrong:
        raise ValueError(" ".join(f"{fault.text} {fault.fix}" for fault in wrong.faults)) from wrong


def _domain(text: str) -> str:
    domain = normal_domain(text)
    if domain is None or "*" in domain.removeprefix(_BELOW):
        raise ValueError(
            f"{quoted(text)} is no domain; write one in full, or *.example.com for all that are below example.com."
        )
    return domain
