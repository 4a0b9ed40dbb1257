"""The most frequent of many names, in bounded memory. Owns the counts; never knows what is counted."""

from collections import Counter

from sidecar.commands.diff.values import Count

# Strangers choose peers and domains, an attacker as many as he likes: of the rest only the sum is of interest.
_KEPT = 64
_GIVEN = 5


class Most:
    """Counts of names. The rarest are dropped to make room, so counts are at least what they say."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()

    def add(self, name: str, count: int) -> None:
        """Count a name."""
        self._counts[name] += count
        if len(self._counts) > 2 * _KEPT:
            self._counts = Counter(dict(self._counts.most_common(_KEPT)))

    def given(self) -> tuple[Count, ...]:
        """Give the few that came most often."""
        return tuple(Count(name=name, count=count) for name, count in self._counts.most_common(_GIVEN))
