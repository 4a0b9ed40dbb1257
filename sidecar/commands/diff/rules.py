"""All that differs between the rules of two configurations, the dangerous first.

Owns the order, and how much is kept for showing. Never knows what a single rule means.
"""

from collections.abc import Iterator

from sidecar.commands.diff.bounces import bounce_rule_changes
from sidecar.commands.diff.connect import connect_changes
from sidecar.commands.diff.domains import domain_changes
from sidecar.commands.diff.hosts import host_changes
from sidecar.commands.diff.plain import plain_changes
from sidecar.commands.diff.values import CONSEQUENCES, EFFECTS, Effect, RuleChange, Side


def changes(old: Side, new: Side) -> Iterator[RuleChange]:
    """Give every difference, in the order of the settings."""
    yield from host_changes(old, new)
    yield from plain_changes(old, new)
    yield from bounce_rule_changes(old, new)
    yield from domain_changes(old, new)
    yield from connect_changes(old, new)


class Listing:
    """Changes by their effect, the dangerous first. All are counted; at most `limit` are kept of each effect."""

    def __init__(self, limit: int | None) -> None:
        self._limit = limit
        self._dangers: list[RuleChange] = []
        self._kept: dict[Effect, list[RuleChange]] = {effect: [] for effect in EFFECTS}
        self.counts: dict[Effect, int] = dict.fromkeys(EFFECTS, 0)
        self.rules: dict[Effect, int] = dict.fromkeys(EFFECTS, 0)
        self.dangers = 0

    def add(self, change: RuleChange) -> None:
        """Count a change, and keep it while there is room."""
        self.counts[change.effect] += 1
        self.rules[change.effect] += change.kind not in CONSEQUENCES
        self.dangers += change.danger
        kept = self._dangers if change.danger else self._kept[change.effect]
        if self._limit is None or len(kept) < self._limit:
            kept.append(change)

    def of(self, effect: Effect) -> list[RuleChange]:
        """Give the changes kept of this effect. Danger always opens."""
        return (self._dangers * (effect == "opens") + self._kept[effect])[: self._limit]
