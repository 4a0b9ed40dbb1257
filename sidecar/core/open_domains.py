"""The domains that strangers may send something to: what an MTA's own relay control must let through, and nothing else.

Owns the exact boundary of that set, for export and for comparison. Never decides about a domain itself: the policy does.
"""

from collections.abc import Callable, Iterable, Iterator

from msgspec import Struct

from sidecar.core.policy import Policy, compile_policy
from sidecar.core.settings.values import ANY_LISTENER, DomainEntry, LogMode, Settings

POSTFIX_FILE = "/etc/postfix/sidecar-relay-domains"
SENDMAIL_FILE = "/etc/mail/sidecar-access"

# Postfix's default without relay_domains: with it, a name in relay_domains would mean all names below it as well.
PARENT_MATCHES = (
    "debug_peer_list, fast_flush_domains, mynetworks, permit_mx_backup_networks, qmqpd_authorized_clients, smtpd_access_maps"
)
NAME_THEM = "Give the domains that your bounces and complaints come back to entries of their own, and close that one."

# No domain name has U+0000, so this label stands for all that no file lists.
_UNLISTED = "\0"


class Pattern(Struct, frozen=True, kw_only=True):
    """A domain (`below` false) or all domains below it that have no pattern of their own; "" is above every domain."""

    name: str
    below: bool

    def __str__(self) -> str:
        return f"*.{self.name}".removesuffix(".") if self.below else self.name

    @property
    def probe(self) -> str:
        """A name that stands for all that the pattern means."""
        return f"{_UNLISTED}.{self.name}".removesuffix(".") if self.below else self.name


def lineage(name: str) -> Iterator[str]:
    """Give `name` and the domains above it, the longest first."""
    while name:
        yield name
        name = above(name)


def above(name: str) -> str:
    """Give the domain above `name`, "" for a top-level one. An address literal has none: its dots part no labels."""
    return "" if is_literal(name) else name.partition(".")[2]


def is_literal(name: str) -> bool:
    """Tell whether `name` is an address literal (`[192.0.2.1]`)."""
    return name.startswith("[")


class OpenDomains:
    """The set of domains for which a stranger's RCPT can be accepted on some listener (contract section 3).

    That is `relay_to`, or a `log_oob` or `log_arf` other than Ignore. What a listener domain lets its *senders* do
    (`relay_from`, `relay_from_authz`) does not make mail to it welcome. One set for all listeners, because an MTA's relay
    control knows of none.
    """

    def __init__(self, settings: Settings) -> None:
        self._policy: Policy = compile_policy(settings)
        self._listeners = sorted({entry.listener for entry in settings.domains} | {ANY_LISTENER})
        self.names = frozenset(_listed(settings.domains))
        """Every name at which the answer may change: those with entries, and all above them."""

    def __contains__(self, name: str) -> bool:
        return self.opener(name) is not None

    def opener(self, name: str) -> DomainEntry | None:
        """Give an entry that opens `name` (in normal form), None where it is closed on every listener."""
        found = (self._policy.lookup(listener, name) for listener in self._listeners)
        return next((entry for entry in found if entry is not None and _is_open(entry)), None)

    @property
    def rest(self) -> DomainEntry | None:
        """The entry that opens every domain that no file lists, if there is one."""
        return self.opener(Pattern(name="", below=True).probe)


def boundary(holds: Callable[[str], bool], names: Iterable[str]) -> dict[Pattern, bool]:
    """Describe a set of domains by the patterns at which membership changes, and what it becomes there.

    `names` must be closed upwards and hold every name at which it may change. What no pattern covers is not in the set.
    """
    changes = {}
    for name in names:
        inherited = holds(Pattern(name=above(name), below=True).probe)
        for pattern in (Pattern(name=name, below=False), Pattern(name=name, below=True)):
            if (held := holds(pattern.probe)) is not inherited:
                changes[pattern] = held
    return changes


def _listed(entries: Iterable[DomainEntry]) -> Iterator[str]:
    for entry in entries:
        for name in lineage(entry.domain.removeprefix("*.")):
            # A * anywhere else stands for itself, and no domain is called so; what is above it counts all the same.
            if "*" not in name:
                yield name


def _is_open(entry: DomainEntry) -> bool:
    return entry.relay_to or entry.log_oob is not LogMode.IGNORE or entry.log_arf is not LogMode.IGNORE


def everything_open(domains: OpenDomains, mta: str) -> str | None:
    """Say why there is no relay control to write for an MTA, where a listener domain is open to every name."""
    entry = domains.rest
    if entry is None:
        return None
    return (
        f"{entry.path} ({entry.where('')}) opens every domain to strangers, and {mta} told so is an open relay "
        "as soon as the sidecar is left out."
    )
