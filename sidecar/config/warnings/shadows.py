"""Names that an entry takes from a wildcard by KumoMTA's walk, which operators rarely expect (contract: "Lookup").

Owns that consequence of the walk. Never decides which entry serves a domain: the policy does.
"""

from collections.abc import Mapping, Sequence
from itertools import pairwise

from sidecar.config.warnings.findings import Findings, some
from sidecar.core.findings import Finding, warning
from sidecar.core.settings.values import ANY_LISTENER, DomainEntry


def note_shadows(by_listener: Mapping[str, Mapping[str, DomainEntry]], findings: Findings) -> None:
    """Note the names that a wildcard would serve but for a longer entry, listener by listener."""
    for listener, domains in by_listener.items():
        _note_shadowed(domains, findings)
        if listener != ANY_LISTENER and "*" in domains:
            _note_narrow_star(domains, findings)


def _note_shadowed(domains: Mapping[str, DomainEntry], findings: Findings) -> None:
    """Names between a wildcard and a longer entry below it: the walk ends on them and finds nothing."""
    wildcards = {domain[2:]: entry for domain, entry in domains.items() if domain.startswith("*.")}
    told: set[str] = set()
    for domain, entry in domains.items() if wildcards else ():
        missed, wildcard = _missed(domain, domains, wildcards)
        new = [name for name in missed if name not in told]
        if wildcard is None or not new:
            continue
        told.update(new)
        findings.note(_shadowed, entry, wildcard, new)


def _shadowed(entry: DomainEntry, wildcard: DomainEntry, names: Sequence[str]) -> Finding:
    return warning(
        "shadowed",
        entry.where(""),
        f"Because of this entry {wildcard.path} ({wildcard.where('')}) does not serve {some(names)}.",
        "Give these names entries of their own, if they are to be served.",
    )


def _missed(
    domain: str, domains: Mapping[str, DomainEntry], wildcards: Mapping[str, DomainEntry]
) -> tuple[list[str], DomainEntry | None]:
    """Give the names above `domain` that have no entry and that a wildcard would serve but for it, the shortest first."""
    missed: list[str] = []
    wildcard: DomainEntry | None = None
    if domain.startswith("["):
        return missed, wildcard
    parents = _parents(domain)
    for parent, name in pairwise(parents):
        if name in domains:
            missed, wildcard = [], None
            continue
        wildcard = wildcards.get(parent, wildcard)
        if wildcard is not None:
            missed.append(name)
    return missed, wildcard


def _parents(domain: str) -> list[str]:
    """Give the names above `domain`, the shortest first."""
    parents = []
    while domain := domain.partition(".")[2]:
        parents.append(domain)
    return parents[::-1]


def _note_narrow_star(domains: Mapping[str, DomainEntry], findings: Findings) -> None:
    """A `"*"` in a listener's own map is a node among its top labels, not a default."""
    tops = sorted({domain.rpartition(".")[2] for domain in domains if domain[0] != "["} - {"*"})
    if tops:
        findings.note(_narrow_star, domains["*"], tops)


def _narrow_star(star: DomainEntry, tops: Sequence[str]) -> Finding:
    return warning(
        "shadowed",
        star.where(""),
        f"This entry does not serve names below {some(tops)}, where this listener has other entries.",
        'Add entries such as "*.example.com" or "*.com" to this listener, if more is to be served.',
    )
