"""What is allowed in settings and yet hardly meant.

Owns one small function for each finding, over the finished settings. Never makes an error of one.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise

from sidecar.settings.values import ANY_LISTENER, DomainEntry, Problem, Settings
from sidecar.settings.wording import listed, quoted

_NAMES_SHOWN = 3

ByListener = Mapping[str, Mapping[str, DomainEntry]]


def warnings(settings: Settings) -> Iterator[Problem]:
    """Give every warning there is for these settings."""
    by_listener: dict[str, dict[str, DomainEntry]] = {}
    for entry in settings.domains:
        by_listener.setdefault(entry.listener, {})[entry.domain] = entry
    for check in (_shadowed, _narrow_star, _dead_star):
        yield from check(by_listener)


def _warning(entry: DomainEntry, text: str, mend: str) -> Problem:
    return Problem(severity="warning", where=entry.where(""), text=text, mend=mend)


def _shadowed(by_listener: ByListener) -> Iterator[Problem]:
    """Names between a wildcard and a longer entry below it: the walk ends on them and finds nothing."""
    for domains in by_listener.values():
        wildcards = {domain[2:]: entry for domain, entry in domains.items() if domain.startswith("*.")}
        told: set[str] = set()
        for domain, entry in domains.items() if wildcards else ():
            missed, wildcard = _missed(domain, domains, wildcards)
            new = [name for name in missed if name not in told]
            if wildcard is None or not new:
                continue
            told.update(new)
            yield _warning(
                entry,
                f"Because of this entry {wildcard.path} ({wildcard.where('')}) does not serve {_some(new)}.",
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


def _narrow_star(by_listener: ByListener) -> Iterator[Problem]:
    """A `"*"` in a listener's own map is a node among its top labels, not a default."""
    for listener, domains in by_listener.items():
        star = domains.get("*")
        if listener == ANY_LISTENER or star is None:
            continue
        tops = sorted({domain.rpartition(".")[2] for domain in domains if domain[0] != "["} - {"*"})
        if tops:
            yield _warning(
                star,
                f"This entry does not serve names below {_some(tops)}, where this listener has other entries.",
                'Add entries such as "*.example.com" or "*.com" to this listener, if more is to be served.',
            )


def _dead_star(by_listener: ByListener) -> Iterator[Problem]:
    """A `*` stands for labels only where it is the whole first label."""
    for domains in by_listener.values():
        for domain, entry in domains.items():
            if domain != "*" and "*" in domain.removeprefix("*."):
                yield _warning(
                    entry,
                    "This entry serves no name: a * stands for others only as the whole first label.",
                    'Write a name such as "*.example.com".',
                )


def _some(names: Sequence[str]) -> str:
    more = len(names) - _NAMES_SHOWN
    return listed([*map(quoted, names[:_NAMES_SHOWN]), *([f"{more} more"] if more > 0 else [])])
