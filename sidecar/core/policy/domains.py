"""One listener's map of domains, and KumoMTA's walk through it (contract: "Lookup").

Owns which entry a domain finds. Never looks at what the entry says.
"""

from collections.abc import Iterator
from functools import cached_property

from sidecar.core.settings.domain_table import ListenerDomains
from sidecar.core.settings.values import DomainEntry

WILDCARD = "*"


class DomainMap:
    """An immutable map from domains to entries.

    KumoMTA walks a tree of labels from the right: a label that has no node is answered by the `*` beside it, and a walk that
    ends on a node without an entry finds nothing. Here the nodes are found by name: every entry's and those of its parents. The
    walk then stops at the longest parent that is a node, so two or three look-ups replace the tree.
    """

    def __init__(self, listed: ListenerDomains) -> None:
        self.listed = listed

    def find(self, domain: str) -> DomainEntry | None:
        """Give the entry that the walk of `domain` (in normal form) ends on, or None."""
        listed = self.listed
        node, name = listed.nearest(domain)
        if node and len(name) == len(domain):
            return listed.entry(node, domain)
        # An address literal has no parents: its dots part no labels.
        if not node or domain[0] == "[":
            return listed.entry(listed.star, WILDCARD)
        return listed.star_below(node, name)

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
        """The parents of every node that finds nothing itself, or has no wildcard below; `""` is the root."""
        nodes = {node for name in self.listed for node in (name, *_parents(name)) if not node.startswith(WILDCARD)}
        return frozenset(
            parent
            for name in nodes
            if self.find(name) is None or self.find(_nobody(f".{name}")) is None
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
