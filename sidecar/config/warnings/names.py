"""Entries that serve no name at all, by the name they have, or that say nothing.

Owns what a name must look like for an address to have it. Never looks at what an entry permits.
"""

from collections.abc import Mapping
from typing import Final

from sidecar.config.warnings.findings import Findings
from sidecar.core.findings import Finding, warning
from sidecar.core.names import is_ambiguous_domain, plain_address, unicode_domain
from sidecar.core.settings.values import ANY_LISTENER, DomainEntry
from sidecar.core.text import quoted

_IPV6_TAG: Final = "IPv6:"  # RFC 5321 section 4.1.3
_ADDRESS_ENDS: Final = tuple("0123456789]")


def note_name(entry: DomainEntry, findings: Findings) -> None:
    """Note a name that no address has, or hardly any."""
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
    """A `*` stands for labels only where it is the whole first label."""
    return warning(
        "never_matches",
        entry.where(""),
        "This entry serves no name: a * stands for others only as the whole first label.",
        'Write a name such as "*.example.com".',
    )


def _default(entry: DomainEntry) -> Finding:
    """KumoMTA's queue and shaping files have a "default"; its listener domains have "*"."""
    return warning(
        "never_matches",
        entry.where(""),
        'This entry serves only a domain that is called "default": for every other domain there is "*".',
        'Write "*" if every other domain is meant.',
    )


def _single_label(entry: DomainEntry) -> Finding:
    return warning(
        "single_label",
        entry.where(""),
        f"This entry serves only addresses such as user@{entry.domain}, and a domain in public DNS has more than one label.",
        f'Write the domain in full, such as "{entry.domain}.example.com", or leave it if addresses here are that short.',
    )


def _ambiguous(entry: DomainEntry) -> Finding:
    """Return the warning about a name that IDNA 2003 and IDNA 2008 map to different A-labels."""
    return warning(
        "ambiguous_name",
        entry.where(""),
        f"Programs disagree about this name: IDNA 2008 reads {quoted(entry.domain)}, IDNA 2003 reads another domain. "
        "The sidecar rejects it in addresses from external hosts; they must use the A-label.",
        f"Write {quoted(entry.domain)}, and give external hosts addresses in that spelling.",
    )


def _literal_meant(domain: str) -> str | None:
    """Give the address literal that a name with an IP address in it stands for; None for any other name."""
    inner = domain.strip("[]").removeprefix(_IPV6_TAG.lower())
    try:
        plain_address(inner)
    except ValueError:
        return None
    return f"[{_IPV6_TAG}{inner}]" if ":" in inner else f"[{inner}]"


def _wrong_literal(entry: DomainEntry, right: str) -> Finding:
    """Addresses with an IP have it in brackets, an IPv6 one with its tag (RFC 5321 section 4.1.3)."""
    return warning(
        "never_matches",
        entry.where(""),
        f"This entry serves no address: one with an IP is written user@{right}.",
        f"Write {quoted(right)}.",
    )


def note_idle(by_listener: Mapping[str, Mapping[str, DomainEntry]], findings: Findings) -> None:
    """Note the tables that set nothing and do not even take their name out of a wider entry.

    A key that only says the default is left alone: it is no mistake, but a decision in writing.
    """
    shared = by_listener.get(ANY_LISTENER, {})
    for listener, domains in by_listener.items():
        for domain, entry in domains.items():
            if len(entry.lines) > 1:
                continue
            wider = _has_wider(domains, domain)
            if listener != ANY_LISTENER:
                # What a listener's wildcard takes from the shared map could be any of its entries.
                wider = wider or domain in shared or _has_wider(shared, domain) or bool(shared and domain.startswith("*"))
            if not wider:
                findings.note(_idle, entry)


def _has_wider(domains: Mapping[str, DomainEntry], domain: str) -> bool:
    return (domain != "*" and "*" in domains) or any(f"*.{parent}" in domains for parent in _parents(domain))


def _parents(domain: str) -> list[str]:
    """Give the names above `domain`; a wildcard is not above itself. An address literal has none: its dots part no labels."""
    if domain.startswith("["):
        return []
    labels = domain.removeprefix("*.").split(".")
    return [".".join(labels[start:]) for start in range(1, len(labels))]


def _idle(entry: DomainEntry) -> Finding:
    return warning(
        "no_effect",
        entry.where(""),
        "This table sets nothing and has no effect: no wider entry matches the name.",
        'Write what the domain accepts, such as log_oob = "LogThenDrop", or remove the table.',
    )
