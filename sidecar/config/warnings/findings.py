"""Collect warnings: the first few of each kind in full, the others counted.

Owns how many of them an operator reads, on the terminal, in JSON and in the log. Never decides what is a finding.
"""

from collections.abc import Callable, Sequence
from typing import Final, ParamSpec

import msgspec

from sidecar.core.findings import Finding
from sidecar.core.text import listed, quoted

# Ten thousand findings of one kind have one fix, and the log of a reload must stay readable.
_SHOWN: Final = 5
_NAMES_SHOWN: Final = 3

P = ParamSpec("P")


class Findings:
    """The warnings so far. A kind is the function that makes the warning, which is called only for those that are shown."""

    def __init__(self) -> None:
        self._shown: dict[Callable[..., Finding], list[Finding]] = {}
        self._more: dict[Callable[..., Finding], int] = {}

    def note(self, make: Callable[P, Finding], *args: P.args, **kwargs: P.kwargs) -> None:
        """Add a warning of the kind `make`, which makes it from the other arguments."""
        shown = self._shown.setdefault(make, [])
        if len(shown) < _SHOWN:
            shown.append(make(*args, **kwargs))
        else:
            self._more[make] = self._more.get(make, 0) + 1

    def warnings(self) -> list[Finding]:
        """Return the warnings. The last one of a kind has the number of those that are left out."""
        warnings: list[Finding] = []
        for make, shown in self._shown.items():
            *first, last = sorted(shown, key=position)
            warnings += [*first, _and_more(last, self._more.get(make, 0))]
        return warnings


def _and_more(problem: Finding, more: int) -> Finding:
    if not more:
        return problem
    text = f"{problem.text.removesuffix('.')} (and {more} more like this)."
    return msgspec.structs.replace(problem, text=text, more=more)


def position(problem: Finding) -> tuple[str, int]:
    """Return the sort key of a finding: file and line."""
    return problem.file or "", problem.line or 0


def some(names: Sequence[str]) -> str:
    """Return the first few names as text, with the number of the others."""
    more = len(names) - _NAMES_SHOWN
    return listed([*map(quoted, names[:_NAMES_SHOWN]), *([f"{more} more"] if more > 0 else [])])
