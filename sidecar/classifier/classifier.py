"""The rules for classes of bounces, ready to be asked (KumoMTA: bounce classifier).

Owns the question which rule fits. Never reads a rule file, and never builds a response's line: records do.
"""

from collections.abc import Iterable

from sidecar.settings.patterns import Patterns
from sidecar.settings.values import BounceRule

# Characters. A reply line has 512 octets at most (RFC 5321 section 4.5.3.1.5), so this is four full lines; the code and the
# words that classes go by stand in the first. The milter waits meanwhile, and what a line costs grows with its length.
LINE_LIMIT = 2 * 1024


class Classifier:
    """An immutable set of rules; any threads may ask it."""

    def __init__(self, rules: Iterable[BounceRule]) -> None:
        self._rules = tuple(rules)
        self._patterns = Patterns([rule.pattern for rule in self._rules])

    def rule(self, line: str) -> BounceRule | None:
        """Give the first rule that fits a response as one line, `550 5.1.1 no such user`; None if none does."""
        index = self._patterns.first(line[:LINE_LIMIT])
        return None if index is None else self._rules[index]

    def classify(self, line: str) -> str | None:
        """Give the class of a response as one line; None if no rule fits."""
        rule = self.rule(line)
        return None if rule is None else rule.bounce_class
