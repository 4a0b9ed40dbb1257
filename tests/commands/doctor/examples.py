"""Listener domains for each case of the lookup, and names to look up."""

from sidecar.core.settings.values import DomainEntry
from tests.building import entry

ENTRIES: tuple[DomainEntry, ...] = (
    entry("exact.example", relay_to=True),
    entry("bounce.example", log_oob="LogThenDrop"),
    entry("*.wild.example", log_arf="LogThenRelay"),
    entry("www.wild.example", log_arf="Ignore"),
    entry("*.closed.wild.example", relay_to=False),
    entry("open.closed.wild.example", relay_to=True),
    entry("deep.below.the.wild.example", relay_to=True),
    entry("sender.example", relay_from=["10.0.0.0/24"]),
    entry("authz.example", relay_from_authz=["daniel"]),
    entry("xn--bcher-kva.example", log_oob="LogThenRelay"),
    entry("own.example", listener="10.1.1.1:25", relay_to=True),
    entry("*.*.odd.example", relay_to=True),
)

OPEN = (
    "exact.example",
    "EXACT.example",
    "bounce.example",
    "a.wild.example",
    "b.a.wild.example",
    "open.closed.wild.example",
    "deep.below.the.wild.example",
    "xn--bcher-kva.example",
    "own.example",
)
CLOSED = (
    "example",
    "other.example",
    "below.exact.example",
    "notexact.example",
    "wild.example",
    "www.wild.example",
    "below.www.wild.example",
    "closed.wild.example",
    "a.closed.wild.example",
    "below.open.closed.wild.example",
    "the.wild.example",
    "below.the.wild.example",
    "a.the.wild.example",
    "sender.example",
    "authz.example",
    "a.b.odd.example",
    "else.test",
)
