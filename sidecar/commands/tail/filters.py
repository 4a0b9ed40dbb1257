"""Select records by type, disposition, peer, domain, queue id, proof and reason. Never reads a log."""

from collections.abc import Callable, Sequence

from sidecar.config.readers import WrongValue, network
from sidecar.core.disposition import Disposition
from sidecar.core.names import normal_domain, plain_address
from sidecar.core.networks import Networks
from sidecar.core.policy.address import domain_of
from sidecar.core.records import TYPES, Logged
from sidecar.core.settings.values import Network
from sidecar.core.text import did_you_mean, quoted

_BELOW = "*."


RecordFilter = Callable[[Logged], bool]
"""Returns True if a record is wanted."""


def make_filter(  # noqa: PLR0913 - one for each option
    *,
    types: Sequence[str] = (),
    dispositions: Sequence[str] = (),
    peers: Sequence[str] = (),
    domains: Sequence[str] = (),
    queue_ids: Sequence[str] = (),
    verified: Sequence[str] = (),
    reason: str = "",
) -> RecordFilter | None:
    """Return a filter: a record must match one value of each kind that is set. Return None if every record matches.

    The values are the words of a command line. Raise ValueError with the error and the fix.
    """
    filters: list[RecordFilter] = []
    if types:
        known_types = frozenset(map(_type, types))
        filters.append(lambda record: record.type in known_types)
    if dispositions:
        words = frozenset(map(Disposition, dispositions))
        filters.append(lambda record: record.disposition in words)
    if peers:
        networks = Networks(map(_network, peers))
        filters.append(lambda record: record.peer_address is not None and _is_in(record.peer_address.addr, networks))
    # `*` matches every domain, also an empty one.
    if domains and "*" not in domains:
        names = frozenset(map(_domain, domains))
        below = tuple(name.removeprefix("*") for name in names if name.startswith(_BELOW))
        filters.append(lambda record: any(name in names or name.endswith(below) for name in _domains_of(record)))
    if queue_ids:
        ids = frozenset(queue_ids)
        filters.append(lambda record: record.meta.get("queue_id") in ids)
    if verified:
        # A tuple: another program can have any value there.
        filters.append(lambda record: record.meta.get("verified") in tuple(verified))
    if reason:
        text = reason.casefold()
        filters.append(lambda record: any(text in found.casefold() for found in _reasons_of(record)))
    return (lambda record: all(wants(record) for wants in filters)) if filters else None


def _is_in(address: str, networks: Networks) -> bool:
    try:
        return networks.find(plain_address(address)) is not None
    except ValueError:
        return False


def _domains_of(record: Logged) -> list[str]:
    return [*map(domain_of, record.recipients), _queue_domain(record.queue)]


def _reasons_of(record: Logged) -> list[str]:
    why = record.meta.get("why")
    return [record.response.content, why if isinstance(why, str) else ""]


def _queue_domain(queue: str) -> str:
    # KumoMTA's queue name is `campaign:tenant@domain!routing_domain`, and every part except the domain is optional.
    name, _, _ = queue.rpartition("@")[2].partition("!")
    return normal_domain(name.rpartition(":")[2]) or ""


def _type(name: str) -> str:
    known = {known.lower(): known for known in TYPES}
    if name.lower() in known:
        return known[name.lower()]
    hint = did_you_mean(name, TYPES, f"The types are {', '.join(TYPES)}.")
    raise ValueError(f"There is no record type {quoted(name)}. {hint}")


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
