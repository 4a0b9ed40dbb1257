"""Counting by name where external hosts choose the names.

Owns how much is remembered, and how wrong a figure can be. Never counts a name too high, and the total is always exact.
"""

from collections.abc import Callable
from typing import Generic, TypeVar

K = TypeVar("K", str, int, tuple[str, str])

# Up to twice as many names are held, at some 150 bytes each. A flood of new names displaces rare names, not the frequent ones.
LIMIT = 10_000


class Tally(Generic[K]):
    """Counts by name, in bounded memory (after Misra and Gries, 1982; rare names are dropped in batches).

    `shortfall` is the most by which a figure can be too low; names with more than that are never missing. It is 0 as long as
    nothing was dropped. `heir` gets each dropped name with its count.
    """

    def __init__(self, limit: int = LIMIT, heir: Callable[[K, int], None] | None = None) -> None:
        self.shortfall = 0
        self._limit = limit
        self._heir: Callable[[K, int], None] | None = heir
        self._counts: dict[K, int] = {}
        self._dropped = 0
        self._most_names = 0

    def add(self, name: K, count: int) -> None:
        """Add `count` to the figure of `name`."""
        self._counts[name] = self._counts.get(name, 0) + count
        if len(self._counts) > 2 * self._limit:
            self._drop()

    @property
    def total(self) -> int:
        """The sum of all counts."""
        return self._dropped + sum(self._counts.values())

    @property
    def names(self) -> int:
        """The number of different names; if `shortfall` is not 0, a lower bound."""
        return max(self._most_names, len(self._counts))

    def top(self, number: int | None = None) -> list[tuple[K, int]]:
        """Return the most frequent names (by default all) with their counts; equal ones in the order of their names."""
        return sorted(self._counts.items(), key=lambda item: (-item[1], item[0]))[:number]

    def _drop(self) -> None:
        self._most_names = self.names
        ranked = self.top()
        self._counts, dropped = dict(ranked[: self._limit]), ranked[self._limit :]
        self.shortfall += dropped[0][1]
        self._dropped += sum(count for _, count in dropped)
        if self._heir is not None:
            for name, count in dropped:
                self._heir(name, count)
