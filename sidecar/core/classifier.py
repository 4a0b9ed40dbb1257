"""The rules for classes of bounces, ready to be asked (KumoMTA: bounce classifier).

Owns the question which rule fits. Never reads a rule file, and never builds a response's line: records do.
"""

from collections.abc import Iterable, Sequence
from typing import Final

import re2  # type: ignore[import-untyped]  # the package ships no annotations

from sidecar.core.settings.values import BounceRule

# KumoMTA's own two files have 136. The states that a hostile text runs through grow faster than the patterns: 8 kB of it take
# 2 ms with 1,000 such as `^550.+no such user`, 15 ms with 2,000, and half a second with 5,000.
COUNT_LIMIT: Final = 2000
# Bytes, in each worker, for all patterns together: the program they make, and those of its states that are kept. With 1,000
# patterns a line takes 3 us; in 8 MiB, RE2's default, the states find no room, each line makes them anew, and takes 900 us.
# KumoMTA's own files take 2 MB with usual responses, and 35 MB after all that an attacker can think of.
MEMORY_LIMIT: Final = 64 << 20
_MEBIBYTE: Final = 1 << 20
# Characters. A reply line has 512 octets at most (RFC 5321 section 4.5.3.1.5), so this is four full lines; the code and the
# words that classes go by stand in the first. The milter waits meanwhile, and what a line costs grows with its length.
LINE_LIMIT = 2 * 1024


class TooLargeError(ValueError):
    """There are more patterns than `COUNT_LIMIT`, or together they need more memory than `MEMORY_LIMIT`."""

    def __init__(self) -> None:
        super().__init__(f"there is room for {COUNT_LIMIT}, and for {MEMORY_LIMIT // _MEBIBYTE} MiB of what they compile to")


class Patterns:
    """Many patterns, searched for at once. Any threads may ask; the time is linear in the text. Raises TooLargeError."""

    def __init__(self, patterns: Sequence[str]) -> None:
        if len(patterns) > COUNT_LIMIT:
            raise TooLargeError
        options = re2_options()
        options.max_mem = MEMORY_LIMIT
        # Which of them fits is the only question, and groups that capture nothing are cheaper.
        options.never_capture = True
        self._set = re2.Set.SearchSet(options)
        for one in patterns:
            self._set.Add(one)
        # The last one fits always: so "none" can be told from RE2's own "no room even for a single state".
        self._none = self._set.Add("")
        try:
            self._set.Compile()
        except re2.error:
            raise TooLargeError from None
        if not self._set.Match(b""):
            raise TooLargeError

    def first(self, text: str) -> int | None:
        """Give the index of the first pattern that fits somewhere in `text`; None if none does."""
        found = min(self._set.Match(text.encode("utf-8", "replace")) or (self._none,))
        return None if found == self._none else found


def re2_options() -> re2.Options:
    """Return the options that every pattern is compiled with."""
    options = re2.Options()
    options.log_errors = False  # RE2's own log goes to standard error, past ours
    return options


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
