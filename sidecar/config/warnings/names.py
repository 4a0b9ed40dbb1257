"""Entries that match fewer names than their author expects, or none, and tables without an effect.

Never looks at what an entry permits, and never decides which entry serves a domain: the policy does.
"""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Final

from sidecar.config.findings import Findings, Kind
from sidecar.core.names import NO_DOMAIN, is_ambiguous_domain, is_literal, parents, plain_address, unicode_domain
from sidecar.core.settings.values import ANY_LISTENER, DomainEntry
from sidecar.core.text import listed, quoted

_IPV6_TAG: Final = "IPv6:"  # RFC 5321 section 4.1.3
_ADDRESS_ENDS: Final = tuple("0123456789]")
_NAMES_SHOWN: Final = 3

_AMBIGUOUS: Final = Kind(
    "ambiguous_name",
    "Programs disagree about this name: IDNA 2008 reads {domain}, IDNA 2003 reads another domain. "
    "The sidecar rejects it in addresses from external hosts; they must use the A-label.",
    "Write {domain}, and give external hosts addresses in that spelling.",
)
_DEAD_STAR: Final = Kind(
    "never_matches",
    "This entry matches no name: a * is a wildcard only as the whole first label.",
    "Write the * as the whole first label of a name.",
)
_WRONG_LITERAL: Final = Kind(
    "never_matches", "This entry matches no address: an address with an IP is written user@{literal}.", "Write it in this form."
)
# KumoMTA's queue and shaping files have a "default"; its listener domains have "*".
_DEFAULT: Final = Kind(
    "never_matches",
    'This entry matches only the domain "default". The entry for every other domain is "*".',
    "Write the domains that you mean, or remove the table.",
)
# With relay_to, "*" would be an open relay.
_DEFAULT_RELAY: Final = Kind(
    _DEFAULT.code, _DEFAULT.text, 'Write the domains that this server accepts mail for: with relay_to, "*" is an open relay.'
)
_SINGLE_LABEL: Final = Kind(
    "single_label",
    "This entry matches only addresses such as user@{domain}. A domain in public DNS has more than one label.",
    "Write the complete domain, or leave it if your addresses are that short.",
)
_IDLE: Final = Kind(
    "no_effect",
    "This table sets nothing and has no effect: no wider entry matches the name.",
    'Write what the domain accepts, such as log_oob = "LogThenDrop", or remove the table.',
)
_SHADOWED: Final = Kind(
    "shadowed",
    "Because of this entry {wildcard.key} ({wildcard}) does not match {names}.",
    "Add entries for these names, if they should match.",
)
_NARROW_STAR: Final = Kind(
    "shadowed",
    "This entry does not match names below {names}, where this listener has other entries.",
    "Add entries for these names to this listener, if they should match.",
)


def note_name(entry: DomainEntry, findings: Findings) -> None:
    """Add a warning for a name that no address has, or few."""
    domain = entry.domain
    if "xn--" in domain and domain not in entry.path.lower() and is_ambiguous_domain(entry.path + unicode_domain(domain)):
        findings.warn(_AMBIGUOUS, entry.where(""), domain=quoted(domain))
    if "*" in domain:
        if domain != "*" and "*" in domain.removeprefix("*."):
            findings.warn(_DEAD_STAR, entry.where(""))
    elif domain.endswith(_ADDRESS_ENDS) and (right := literal_meant(domain)) is not None:
        if right.lower() != domain:
            findings.warn(_WRONG_LITERAL, entry.where(""), literal=right)
    elif domain == "default":
        findings.warn(_DEFAULT_RELAY if entry.relay_to else _DEFAULT, entry.where(""))
    elif "." not in domain and domain not in {NO_DOMAIN, "localhost"} and domain[0] != "[":
        findings.warn(_SINGLE_LABEL, entry.where(""), domain=domain)


def literal_meant(domain: str) -> str | None:
    """Return the address literal for a name that is an IP address; None for any other name."""
    inner = domain.strip("[]").removeprefix(_IPV6_TAG.lower())
    try:
        plain_address(inner)
    except ValueError:
        return None
    return f"[{_IPV6_TAG}{inner}]" if ":" in inner else f"[{inner}]"


def note_idle(by_listener: Mapping[str, Mapping[str, DomainEntry]], findings: Findings) -> None:
    """Add a warning for each table that sets nothing and does not replace a wider entry.

    A key that repeats the default is no finding: it is a decision in writing.
    """
    shared = by_listener.get(ANY_LISTENER, {})
    for listener, domains in by_listener.items():
        for domain, entry in domains.items():
            if len(entry.steps) > 1:
                continue
            wider = _has_wider(domains, domain)
            if listener != ANY_LISTENER:
                # A wildcard of a listener can replace any entry of the shared map.
                wider = wider or domain in shared or _has_wider(shared, domain) or bool(shared and domain.startswith("*"))
            if not wider:
                findings.warn(_IDLE, entry.where(""))


def _has_wider(domains: Mapping[str, DomainEntry], domain: str) -> bool:
    return (domain != "*" and "*" in domains) or any(f"*.{parent}" in domains for parent in parents(domain.removeprefix("*.")))


def note_shadows(by_listener: Mapping[str, Mapping[str, DomainEntry]], findings: Findings) -> None:
    """Add a warning for names that a wildcard does not match because of a longer entry (see the policy reference, Lookup)."""
    for listener, domains in by_listener.items():
        _note_shadowed(domains, findings)
        if listener != ANY_LISTENER and "*" in domains:
            # A "*" of a listener is a node beside its other top labels, not a default.
            tops = {domain.rpartition(".")[2] for domain in domains if not is_literal(domain)} - {"*", NO_DOMAIN}
            if names := sorted(top for top in tops if f"*.{top}" not in domains):
                findings.warn(_NARROW_STAR, domains["*"].where(""), names=_some(names))


def _note_shadowed(domains: Mapping[str, DomainEntry], findings: Findings) -> None:
    wildcards = {domain[2:]: domains[domain] for domain in domains if domain.startswith("*.")}
    noted, parents_seen = set[str](), set[str]()
    for domain in domains if wildcards else ():
        # The names above two domains are the same if the longest of them is.
        _, _, parent = domain.partition(".")
        if parent in parents_seen:
            continue
        parents_seen.add(parent)
        missed = {name: found for name, found in missed_names(domain, domains, wildcards).items() if name not in noted}
        noted.update(missed)
        for wildcard in dict.fromkeys(found.domain for found in missed.values()):
            names = [name for name, found in missed.items() if found.domain == wildcard]
            findings.warn(_SHADOWED, domains[domain].where(""), wildcard=domains[wildcard].where(""), names=_some(names))


def missed_names(
    domain: str, domains: Mapping[str, DomainEntry], wildcards: Mapping[str, DomainEntry]
) -> dict[str, DomainEntry]:
    """Return the names above `domain` without an entry, the shortest first, each with the wildcard that would match it.

    `wildcards` has the entries of the wildcards by what follows their `*.`.
    """
    missed: dict[str, DomainEntry] = {}
    wildcard: DomainEntry | None = None
    for parent, name in pairwise(reversed([*parents(domain)])):
        if (wildcard := wildcards.get(parent, wildcard)) is None:
            continue
        if name in domains:
            missed, wildcard = {}, None
        else:
            missed[name] = wildcard
    return missed


def _some(names: Sequence[str]) -> str:
    """Return the first few names as text, with the number of the others."""
    more = len(names) - _NAMES_SHOWN
    return listed([*map(quoted, names[:_NAMES_SHOWN]), *([f"{more} more"] if more > 0 else [])])
