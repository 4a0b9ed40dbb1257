"""Entries that match fewer names than their author expects, or none, and tables without an effect.

Never looks at what an entry permits, and never decides which entry serves a domain: the policy does.
"""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Final

from sidecar.config.warnings.findings import Findings, some
from sidecar.core.findings import Finding, warning
from sidecar.core.names import is_ambiguous_domain, parents, plain_address, unicode_domain
from sidecar.core.settings.values import ANY_LISTENER, DomainEntry
from sidecar.core.text import quoted

_IPV6_TAG: Final = "IPv6:"  # RFC 5321 section 4.1.3
_ADDRESS_ENDS: Final = tuple("0123456789]")


def note_name(entry: DomainEntry, findings: Findings) -> None:
    """Add a warning for a name that no address has, or few."""
    domain = entry.domain
    if "xn--" in domain and domain not in entry.path.lower() and is_ambiguous_domain(entry.path + unicode_domain(domain)):
        findings.note(_ambiguous, entry)
    if "*" in domain:
        if domain != "*" and "*" in domain.removeprefix("*."):
            findings.note(_dead_star, entry)
    elif domain.endswith(_ADDRESS_ENDS) and (right := _literal_meant(domain)) is not None:
        if right.lower() != domain:
            findings.note(_wrong_literal, entry, right)
    elif domain == "default":
        findings.note(_default, entry)
    elif "." not in domain and domain[0] != "[" and domain != "localhost":
        findings.note(_single_label, entry)


def _dead_star(entry: DomainEntry) -> Finding:
    return warning(
        "never_matches",
        entry.where(""),
        "This entry matches no name: a * is a wildcard only as the whole first label.",
        'Write a name such as "*.example.com".',
    )


def _default(entry: DomainEntry) -> Finding:
    # KumoMTA's queue and shaping files have a "default"; its listener domains have "*".
    return warning(
        "never_matches",
        entry.where(""),
        'This entry matches only the domain "default". The entry for every other domain is "*".',
        'Write "*" for every other domain.',
    )


def _single_label(entry: DomainEntry) -> Finding:
    return warning(
        "single_label",
        entry.where(""),
        f"This entry matches only addresses such as user@{entry.domain}. A domain in public DNS has more than one label.",
        f'Write the complete domain, such as "{entry.domain}.example.com", or leave it if your addresses are that short.',
    )


def _ambiguous(entry: DomainEntry) -> Finding:
    return warning(
        "ambiguous_name",
        entry.where(""),
        f"Programs disagree about this name: IDNA 2008 reads {quoted(entry.domain)}, IDNA 2003 reads another domain. "
        "The sidecar rejects it in addresses from external hosts; they must use the A-label.",
        f"Write {quoted(entry.domain)}, and give external hosts addresses in that spelling.",
    )


def _literal_meant(domain: str) -> str | None:
    """Return the address literal for a name that is an IP address; None for any other name."""
    inner = domain.strip("[]").removeprefix(_IPV6_TAG.lower())
    try:
        plain_address(inner)
    except ValueError:
        return None
    return f"[{_IPV6_TAG}{inner}]" if ":" in inner else f"[{inner}]"


def _wrong_literal(entry: DomainEntry, right: str) -> Finding:
    # RFC 5321 section 4.1.3
    return warning(
        "never_matches",
        entry.where(""),
        f"This entry matches no address: an address with an IP is written user@{right}.",
        f"Write {quoted(right)}.",
    )


def note_idle(by_listener: Mapping[str, Mapping[str, DomainEntry]], findings: Findings) -> None:
    """Add a warning for each table that sets nothing and does not replace a wider entry.

    A key that repeats the default is no finding: it is a decision in writing.
    """
    shared = by_listener.get(ANY_LISTENER, {})
    for listener, domains in by_listener.items():
        for domain, entry in domains.items():
            if len(entry.lines) > 1:
                continue
            wider = _has_wider(domains, domain)
            if listener != ANY_LISTENER:
                # A wildcard of a listener can replace any entry of the shared map.
                wider = wider or domain in shared or _has_wider(shared, domain) or bool(shared and domain.startswith("*"))
            if not wider:
                findings.note(_idle, entry)


def _has_wider(domains: Mapping[str, DomainEntry], domain: str) -> bool:
    return (domain != "*" and "*" in domains) or any(f"*.{parent}" in domains for parent in parents(domain.removeprefix("*.")))


def _idle(entry: DomainEntry) -> Finding:
    return warning(
        "no_effect",
        entry.where(""),
        "This table sets nothing and has no effect: no wider entry matches the name.",
        'Write what the domain accepts, such as log_oob = "LogThenDrop", or remove the table.',
    )


def note_shadows(by_listener: Mapping[str, Mapping[str, DomainEntry]], findings: Findings) -> None:
    """Add a warning for names that a wildcard does not match because of a longer entry (see the policy reference, Lookup)."""
    for listener, domains in by_listener.items():
        _note_shadowed(domains, findings)
        if listener != ANY_LISTENER and "*" in domains:
            _note_narrow_star(domains, findings)


def _note_shadowed(domains: Mapping[str, DomainEntry], findings: Findings) -> None:
    wildcards = {domain[2:]: entry for domain, entry in domains.items() if domain.startswith("*.")}
    noted: set[str] = set()
    for domain, entry in domains.items() if wildcards else ():
        missed, wildcard = _missed(domain, domains, wildcards)
        new = [name for name in missed if name not in noted]
        if wildcard is None or not new:
            continue
        noted.update(new)
        findings.note(_shadowed, entry, wildcard, new)


def _shadowed(entry: DomainEntry, wildcard: DomainEntry, names: Sequence[str]) -> Finding:
    return warning(
        "shadowed",
        entry.where(""),
        f"Because of this entry {wildcard.path} ({wildcard.where('')}) does not match {some(names)}.",
        "Add entries for these names, if they should match.",
    )


def _missed(
    domain: str, domains: Mapping[str, DomainEntry], wildcards: Mapping[str, DomainEntry]
) -> tuple[list[str], DomainEntry | None]:
    """Return the names above `domain` that have no entry, and that a wildcard would match without it, the shortest first."""
    missed: list[str] = []
    wildcard: DomainEntry | None = None
    for parent, name in pairwise(reversed([*parents(domain)])):
        if name in domains:
            missed, wildcard = [], None
            continue
        wildcard = wildcards.get(parent, wildcard)
        if wildcard is not None:
            missed.append(name)
    return missed, wildcard


def _note_narrow_star(domains: Mapping[str, DomainEntry], findings: Findings) -> None:
    # A "*" of a listener is a node beside its other top labels, not a default.
    tops = sorted({domain.rpartition(".")[2] for domain in domains if domain[0] != "["} - {"*"})
    if tops:
        findings.note(_narrow_star, domains["*"], tops)


def _narrow_star(star: DomainEntry, tops: Sequence[str]) -> Finding:
    return warning(
        "shadowed",
        star.where(""),
        f"This entry does not match names below {some(tops)}, where this listener has other entries.",
        'Add entries such as "*.example.com" or "*.com" to this listener, if more names should match.',
    )
