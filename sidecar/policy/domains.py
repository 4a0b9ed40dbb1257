"""One listener's map of domains, and KumoMTA's walk through it (contract: "Lookup").

Owns which entry a domain finds. Never looks at what the entry says.
"""

from collections.abc import Iterable, Iterator
from functools import cached_property

from sidecar.settings.values import DomainEntry

WILDCARD = "*"


class DomainMap:
    """An immutable map from domains to entries.

    KumoMTA walks a tree of labels from the right: a label that has no node is answered by the `*` beside it, and a walk that
    ends on a node without an entry finds nothing. Here the nodes are the keys of one dict: every entry's name and each of its
    parent domains. The walk then stops at the longest parent that is a node, so two or three dict look-ups replace the tree.
    """

    def __init__(self, entries: Iterable[DomainEntry]) -> None:
        self._nodes: dict[str, DomainEntry | None] = {}
        for entry in entries:
            self._nodes[entry.domain] = entry
            for parent in _parents(entry.domain):
                self._nodes.setdefault(parent, None)

    @property
    def entries(self) -> Iterator[DomainEntry]:
        """Every entry of the map."""
        return (entry for entry in self._nodes.values() if entry is not None)

    def find(self, domain: str) -> DomainEntry | None:
        """Give the entry that the walk of `domain` (in normal form) ends on, or None."""
        nodes = self._nodes
        if domain in nodes:
            return nodes[domain]
        for parent in _parents(domain):
            if parent in nodes:
                return nodes.get(f"{WILDCARD}.{parent}")
        return nodes.get(WILDCARD)

    def exact(self, domain: str) -> DomainEntry | None:
        """Give the entry written for `domain` itself, or None."""
        return self._nodes.get(domain)

    def covers(self, pattern: str) -> bool:
        """Tell whether every domain that `pattern`, an entry's name, can stand for finds an entry in this map.

        For a wildcard some domain slips through where a name that no file lists is not found, or where a listed domain
        below it has no entry of its own, or no wildcard for what is below itself.
        """
        if not pattern.startswith(WILDCARD):
            return self.find(pattern) is not None
        base = pattern.removeprefix(WILDCARD)
        return self.find(_nobody(base)) is not None and base.removeprefix(".") not in self._holed

    @cached_property
    def _holed(self) -> frozenset[str]:
        """The parents of every listed domain that finds nothing itself, or has no wildcard below; `""` is the root."""
        return frozenset(
            parent
            for name in self._nodes
            if not name.startswith(WILDCARD) and (self.find(name) is None or self.find(_nobody(f".{name}")) is None)
            for parent in ("", *_parents(name))
        )


def _nobody(base: str) -> str:
    """Give a name below `base` that no file can list: U+0000 is in no domain name."""
    return f"\0{base}"


def _parents(domain: str) -> Iterator[str]:
    """Give the parent domains of `domain`, the longest first. An address literal has none: its dots part no labels."""
    if domain.startswith("["):
        return
    _, dot, rest = domain.partition(".")
    while dot:
        yield rest
        _, dot, rest = rest.partition(".")
