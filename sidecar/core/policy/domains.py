"""What one listener's map of domains covers, so that another map is never asked (policy reference, Lookup)."""

from functools import cached_property

from sidecar.core.names import parents
from sidecar.core.settings.domain_table import ListenerDomains

WILDCARD = "*"


class Coverage:
    """The domains that find an entry in a map."""

    def __init__(self, domains: ListenerDomains) -> None:
        self._domains = domains

    def covers(self, pattern: str) -> bool:
        """Return True if every domain that `pattern`, the name of an entry, can stand for finds an entry in this map.

        A wildcard is not covered if a name that no file lists finds nothing. Nor is it if a node below it has no entry, or no
        wildcard below itself.
        """
        if not pattern.startswith(WILDCARD):
            return self._domains.find(pattern) is not None
        base = pattern.removeprefix(WILDCARD)
        return self._domains.find(_unlisted(base)) is not None and base.removeprefix(".") not in self._holed

    @cached_property
    def _holed(self) -> frozenset[str]:
        """The parents of every node that finds nothing itself, or has no wildcard below; `""` is the root."""
        nodes = {node for name in self._domains for node in (name, *parents(name)) if not node.startswith(WILDCARD)}
        return frozenset(
            parent
            for name in nodes
            if self._domains.find(name) is None or self._domains.find(_unlisted(f".{name}")) is None
            for parent in ("", *parents(name))
        )


def _unlisted(base: str) -> str:
    """Return a name below `base` that no file can list: U+0000 is in no domain name."""
    return f"\0{base}"
