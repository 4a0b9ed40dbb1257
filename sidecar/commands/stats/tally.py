"""Counting by name where strangers choose the names.

Owns how much is remembered, and how wrong a figure can be. Never counts a name too high, and the total is always exact.
"""

from collections.abc import Callable, Hashable
from operator import itemgetter
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)

# Names kept for sure; up to twice as many are held, at some 150 bytes each. Whoever makes up a new name for each record pushes
# out names that were seen once or twice, not the ones at the top.
LIMIT = 10_000


class Tally(Generic[K]):
    """Counts by name, in bounded memory (after Misra and Gries, 1982, with the names that are dropped taken in batches).

    `shortfall` is by how much the figure of any name may be too low; names with more than that are never missing. It is 0 as
    long as nothing was dropped. Whatever is dropped goes to `heir`, with its count.
    """

    def __init__(self, limit: int = LIMIT, heir: Callable[[K, int], None] | None = None) -> None:
        self.shortfall = 0
        self._limit = limit
        self._heir = heir
        self._counts: dict[K, int] = {}
        self._dropped = 0
        self._most_names = 0

    def add(self, name: K, count: int) -> None:
        """Count `name` so many times more."""
        counts = self._counts
        if name in counts:
            counts[name] += count
            return
        counts[name] = count
        if len(counts) > 2 * self._limit:
            self._drop()

    @property
    def total(self) -> int:
        """The sum of everything that was added."""
        return self._dropped + sum(self._counts.values())

    @property
    def names(self) -> int:
        """How many names there were, or, if `shortfall` is not 0, how many at least."""
        return max(self._most_names, len(self._counts))

    def top(self, number: int | None = None) -> list[tuple[K, int]]:
        """Give the names counted most, by default all, most first; of equals the one that came first."""
        return sorted(self._counts.items(), key=itemgetter(1), reverse=True)[:number]

    def _drop(self) -> None:
        self._most_names = self.names
        ranked = self.top()
        dropped = ranked[self._limit :]
        self.shortfall += dropped[0][1]
        self._dropped += sum(count for _, count in dropped)
        self._counts = dict(ranked[: self._limit])
        if self._heir is not None:
            for name, count in dropped:
                self._heir(name, count)
