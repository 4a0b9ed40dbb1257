"""The class of a bounce: the first rule that matches its SMTP response (KumoMTA: bounce classifier).

Never reads a rule file, and never builds a response's line: records do.
"""

from collections.abc import Iterable
from typing import Final

import re2  # type: ignore[import-untyped]  # the package ships no annotations

from sidecar.core.settings.values import BounceRule

# KumoMTA's own two files have 136. The states that a hostile text of 8 kB needs grow faster than the patterns: 2 ms with 1,000
# patterns such as `^550.+no such user`, 15 ms with 2,000, and half a second with 5,000.
COUNT_LIMIT: Final = 2000
# Bytes in each worker for all patterns: the program and its cached states. A line takes 3 us with 1,000 patterns; in 8 MiB,
# RE2's default, the cache is too small and a line takes 900 us. KumoMTA's files need 2 MB, and 35 MB with hostile responses.
MEMORY_LIMIT: Final = 64 << 20
_MEBIBYTE: Final = 1 << 20
# Characters: four full reply lines (RFC 5321 section 4.5.3.1.5). The milter waits meanwhile, and the time grows with the text.
LINE_LIMIT = 2 * 1024


class TooLargeError(ValueError):
    """There are more patterns than `COUNT_LIMIT`, or together they need more memory than `MEMORY_LIMIT`."""

    def __init__(self) -> None:
        super().__init__(f"the limits are {COUNT_LIMIT} patterns, and {MEMORY_LIMIT // _MEBIBYTE} MiB when they are compiled")


def re2_options() -> re2.Options:
    """Return the options that every pattern is compiled with."""
    options = re2.Options()
    options.log_errors = False  # RE2's own log goes to standard error, past ours
    return options


class Classifier:
    """An immutable set of rules that are searched at once, by any threads, in linear time. Raise TooLargeError."""

    def __init__(self, rules: Iterable[BounceRule]) -> None:
        # RE2 returns the index of each pattern that matches.
        self._rules: tuple[BounceRule | None, ...] = (*rules, None)
        if len(self._rules) - 1 > COUNT_LIMIT:
            raise TooLargeError
        options = re2_options()
        options.max_mem = MEMORY_LIMIT
        # Groups that capture nothing are cheaper.
        options.never_capture = True
        self._set = re2.Set.SearchSet(options)
        for rule in self._rules:
            # The last one always matches: this separates "none" from RE2's "no memory for a single state".
            self._set.Add("" if rule is None else rule.pattern)
        try:
            self._set.Compile()
        except re2.error:
            raise TooLargeError from None
        if not self._set.Match(b""):
            raise TooLargeError

    def rule(self, line: str) -> BounceRule | None:
        """Return the first rule that matches a response as one line, `550 5.1.1 no such user`, or None."""
        return self._rules[min(self._set.Match(line[:LINE_LIMIT].encode("utf-8", "replace")), default=-1)]

    def classify(self, line: str) -> str | None:
        """Return the class of a response as one line, or None if no rule matches."""
        rule = self.rule(line)
        return None if rule is None else rule.bounce_class
