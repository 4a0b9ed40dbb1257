"""Configurations and envelopes of every kind, for properties; and a change of the settings, applied as its lines say."""

import tomllib
from typing import Any

from hypothesis import strategies as st
from msgspec.structs import replace

from sidecar.core.evaluate.envelope import Envelope, MessageKind
from sidecar.core.evaluate.recorded.advice import Change
from sidecar.core.names import plain_address
from sidecar.core.settings.settings import Settings
from sidecar.core.settings.values import ANY_LISTENER, DomainEntry, NetworkList
from tests.building import MODES, entry, network, settings

LISTENER = "10.1.1.1:25"
PEERS = ["203.0.113.9", "192.168.1.7", "127.0.0.1", "2001:db8::7", "::ffff:192.168.1.7"]
NETWORKS = ["203.0.113.0/24", "203.0.113.9", "192.168.1.0/24", "2001:db8::/32", "0.0.0.0/0"]
DOMAINS = ["*", "*.example.com", "example.com", "a.example.com", "x.b.example.com", "other.test"]
ADDRESSES = [
    "x@example.com",
    "x@a.example.com",
    "x@b.example.com",
    "x@b.a.example.com",
    "x@x.b.example.com",
    "x@other.test",
    "x@[192.0.2.1]",
    "x@*",
    "x@*.example.com",
    "x@y@example.com",
    "x%other.test@example.com",
    "x@a\u3164.example.com",
    "x@gro\u00df.example.com",
    "(x@example.com",
    "postmaster",
    "x\x00@example.com",
]
SENDERS = ["", "a@example.com", "a@a.example.com", "a@nowhere.test"]
LOGINS = ["daniel", "wez"]

# Names at, above, beside and below those with entries, and the operator's examples.
NAMES = [
    *("example.com", "a.example.com", "b.a.example.com", "c.b.a.example.com", "b.example.com", "x.b.example.com"),
    *(
        "y.b.example.com",
        "z.x.b.example.com",
        "q.example.com",
        "com",
        "q.com",
        "q.q.com",
        "other.test",
        "q.other.test",
        "q.test",
    ),
    *("test", "nowhere.org", "[192.0.2.1]", "bounce.example.com", "q.bounce.example.com", "fbl.example.com"),
]
KINDS: tuple[MessageKind, ...] = ("other", "oob", "arf")
PROBES = [
    Envelope(
        peer=plain_address("198.51.100.7"), listener=listener, authz_id=None, sender="", recipients=(f"x@{name}",), kind=kind
    )
    for name in NAMES
    for listener in (ANY_LISTENER, LISTENER, "10.9.9.9:25")
    for kind in KINDS
]
"""Mail of a stranger to each of these names, on each listener, of each kind."""

_KEYS = st.fixed_dictionaries(
    {},
    optional={
        "relay_to": st.booleans(),
        "relay_from": st.lists(st.sampled_from(NETWORKS), unique=True, max_size=2),
        "relay_from_authz": st.lists(st.sampled_from(LOGINS), unique=True, max_size=2),
        "log_oob": st.sampled_from(sorted(MODES)),
        "log_arf": st.sampled_from(sorted(MODES)),
    },
)
_NAMES = st.tuples(st.sampled_from([ANY_LISTENER, LISTENER]), st.sampled_from(DOMAINS))


@st.composite
def configurations(draw: st.DrawFn) -> Settings:
    """Make settings with a few listener domains, on every listener or on one."""
    domains = draw(st.dictionaries(_NAMES, _KEYS, max_size=4))
    lists = st.lists(st.sampled_from(NETWORKS[:-1]), unique=True, max_size=2)
    return settings(
        [entry(domain, listener, **keys) for (listener, domain), keys in domains.items()],
        relay_hosts=draw(lists),
        listener_relay_hosts=draw(st.dictionaries(st.just(LISTENER), lists, max_size=1)),
        reject_at_connect=draw(st.booleans()),
        unparsable_reports=draw(st.sampled_from(["reject", "quarantine"])),
    )


def applied(under: Settings, change: Change) -> Settings:
    """Write a change's lines where it says."""
    table = tomllib.loads("\n".join(change.lines))
    if "relay_hosts" in table:
        return _with_relay_hosts(under, change, table["relay_hosts"])
    if change.line is None:
        return replace(under, domains=(*under.domains, *_new_entries(table)))
    (index,) = (number for number, it in enumerate(under.domains) if _is_at(it, change, table))
    domains = list(under.domains)
    domains[index] = _rewritten(domains[index], table)
    return replace(under, domains=tuple(domains))


def _with_relay_hosts(under: Settings, change: Change, texts: list[str]) -> Settings:
    made = NetworkList(networks=tuple(map(network, texts)), where=under.relay_hosts.where)
    if change.key == "relay_hosts":
        return replace(under, relay_hosts=made)
    return replace(under, listener_relay_hosts={LISTENER: made})


def _new_entries(table: dict[str, Any]) -> list[DomainEntry]:
    listener, domains = next(iter(table["listener"].items())) if "listener" in table else (ANY_LISTENER, table)
    return [
        entry(domain, listener, **{key: _mode(value) if key.startswith("log_") else value for key, value in values.items()})
        for domain, values in domains.items()
    ]


def _is_at(it: DomainEntry, change: Change, table: dict[str, Any]) -> bool:
    return change.key == it.path or change.key in {f"{it.path}.{key}" for key in table}


def _rewritten(it: DomainEntry, table: dict[str, Any]) -> DomainEntry:
    values: dict[str, Any] = {}
    for key, value in table.items():
        log = key.startswith("log_")
        values[key] = MODES[_mode(value)] if log else tuple(map(network, value)) if key == "relay_from" else value
    return replace(it, steps={**it.steps, **dict.fromkeys(table, it.steps[""])}, **values)


def _mode(value: bool | str) -> str:
    return value if isinstance(value, str) else "LogThenRelay" if value else "Ignore"
