"""The domains to which external hosts can send: the MTA's own relay control must accept exactly these.

Owns the boundary of that set, for export and for comparison. Never decides about a domain itself: the policy does.
"""

from collections.abc import Callable, Iterable, Iterator
from itertools import chain

from msgspec import Struct

from sidecar.core.names import UNLISTED, is_literal, lineage, normal_domain, parents
from sidecar.core.policy import Policy, compile_policy
from sidecar.core.settings.domain_table import table_of
from sidecar.core.settings.settings import Settings
from sidecar.core.settings.values import ANY_LISTENER, DomainEntry, LogMode

POSTFIX_FILE = "/etc/postfix/sidecar-relay-domains"
SENDMAIL_FILE = "/etc/mail/sidecar-access"
EXPORT_HEAD = "# The domains that external hosts can send to. Made by:"
"""The first line of each exported file begins with it, and then has the command that makes the file again."""

# Postfix's default without relay_domains: with it, a name in relay_domains would mean all names below it as well.
PARENT_MATCHES = (
    "debug_peer_list, fast_flush_domains, mynetworks, permit_mx_backup_networks, qmqpd_authorized_clients, smtpd_access_maps"
)
NAME_THEM = (
    "Write an entry for each domain that receives your bounces and complaints. Then remove the permissions of the entry that "
    "opens every domain."
)


class Pattern(Struct, frozen=True, kw_only=True):
    """A domain (`below` false) or all domains below it that have no pattern of their own; "" is above every domain."""

    name: str
    below: bool

    def __str__(self) -> str:
        return f"*.{self.name}".removesuffix(".") if self.below else self.name

    @property
    def probe(self) -> str:
        """A name that stands for all names of the pattern."""
        return f"{UNLISTED}.{self.name}".removesuffix(".") if self.below else self.name


def pattern_of(domain: str) -> Pattern:
    """Return the names that the entry of `domain` matches: for a wildcard, those below its base."""
    if domain == "*":
        return Pattern(name="", below=True)
    return Pattern(name=domain.removeprefix("*."), below=domain.startswith("*."))


def patterns_at(name: str) -> Iterator[Pattern]:
    """Yield `name` itself and the names below it; "" and an address literal have only one of the two."""
    if name:
        yield Pattern(name=name, below=False)
    if not is_literal(name):
        yield Pattern(name=name, below=True)


class OpenDomains:
    """The set of domains for which RCPT from an external host can be accepted on a listener (policy reference, RCPT).

    That needs `relay_to`, or a `log_oob` or `log_arf` other than Ignore. Permissions of the domain's *senders* (`relay_from`,
    `relay_from_authz`) do not count. There is one set for all listeners, because an MTA's relay control has no listeners.
    """

    def __init__(self, settings: Settings) -> None:
        self._policy: Policy = compile_policy(settings)
        self._listeners = sorted({entry.listener for entry in settings.domains} | {ANY_LISTENER})
        # A * that is not the first label is no wildcard, and no domain has such a name. The names above it count.
        listed = chain(*(own.names() for own in table_of(settings.domains).listeners.values()))
        names = {name for domain in listed for name in lineage(domain.removeprefix("*."))}
        self.names = frozenset(name for name in names if "*" not in name)
        """Every name at which the answer may change: those with entries, and all above them."""

    def __contains__(self, name: str) -> bool:
        """Return True if external hosts can send to a name, which can have U-labels, as in an MTA's list."""
        return self.opener(name if name.isascii() else _in_a_labels(name)) is not None

    def opener(self, name: str) -> DomainEntry | None:
        """Return an entry that opens `name` (in normal form), or None if it is closed on every listener."""
        return next((entry for entry in self._entries(name) if entry.relay_to or reports(entry)), None)

    def accepts_mail(self, name: str) -> bool:
        """Return True if external hosts can send ordinary mail to `name`, on some listener."""
        return any(entry.relay_to for entry in self._entries(name))

    def reporter(self, name: str) -> DomainEntry | None:
        """Return an entry with which `name` accepts reports, or None."""
        return next(filter(reports, self._entries(name)), None)

    def _entries(self, name: str) -> Iterator[DomainEntry]:
        found = (self._policy.lookup(listener, name) for listener in self._listeners)
        return (entry for entry in found if entry is not None)

    @property
    def rest(self) -> DomainEntry | None:
        """The entry that opens every domain that is in no file, or None."""
        return self.opener(Pattern(name="", below=True).probe)


def _in_a_labels(name: str) -> str:
    """Return a name, or the probe of a pattern, in normal form; if it has none, unchanged."""
    rest = name.removeprefix(f"{UNLISTED}.")
    return name[: len(name) - len(rest)] + (normal_domain(rest) or rest)


def reports(entry: DomainEntry) -> bool:
    """Return True if the domain accepts reports."""
    return {entry.log_oob, entry.log_arf} != {LogMode.IGNORE}


def boundary(holds: Callable[[str], bool], names: Iterable[str]) -> dict[Pattern, bool]:
    """Return a set of domains as the patterns at which membership changes, and the membership there.

    `names` must have every name at which it may change, and all names above it. Other names are not in the set.
    """
    changes = {}
    for name in names:
        inherited = holds(Pattern(name=next(parents(name), ""), below=True).probe)
        for pattern in (Pattern(name=name, below=False), Pattern(name=name, below=True)):
            if (held := holds(pattern.probe)) is not inherited:
                changes[pattern] = held
    return changes


def everything_open(domains: OpenDomains, mta: str) -> str | None:
    """Return why no relay control can be written for an MTA if a listener domain opens every name."""
    entry = domains.rest
    if entry is None:
        return None
    return (
        f"{entry.path} ({entry.where('')}) opens every domain to external hosts. With such a list {mta} is an open relay "
        "as soon as the sidecar is disabled."
    )
