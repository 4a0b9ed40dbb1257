"""Warnings as they are found: of each kind the first few whole, the others counted.

Owns how many an operator gets to read, in the terminal, in JSON and in the log alike. Never decides what is a finding.
"""

from collections.abc import Callable, Sequence
from typing import Final, ParamSpec

import msgspec

from sidecar.core.findings import Finding
from sidecar.core.text import listed, quoted

# Ten thousand findings of one kind have one fix: a few show what it is about, and a reload's log stays readable.
_TOLD: Final = 5
_NAMES_TOLD: Final = 3

P = ParamSpec("P")


class Findings:
    """What has been found so far. A kind is the function that tells of it: that one is only called for what is shown."""

    def __init__(self) -> None:
        self._told: dict[Callable[..., Finding], list[Finding]] = {}
        self._more: dict[Callable[..., Finding], int] = {}

    def note(self, tell: Callable[P, Finding], *args: P.args, **kwargs: P.kwargs) -> None:
        """Note a finding of the kind `tell`, which makes a warning of the rest."""
        told = self._told.setdefault(tell, [])
        if len(told) < _TOLD:
            told.append(tell(*args, **kwargs))
        else:
            self._more[tell] = self._more.get(tell, 0) + 1

    def warnings(self) -> list[Finding]:
        """Give the warnings; the last of a kind says how many more there are."""
        given: list[Finding] = []
        for tell, told in self._told.items():
            *first, last = sorted(told, key=position)
            given += [*first, _and_more(last, self._more.get(tell, 0))]
        return given


def _and_more(problem: Finding, more: int) -> Finding:
    if not more:
        return problem
    text = f"{problem.text.removesuffix('.')} (and {more} more like this)."
    return msgspec.structs.replace(problem, text=text, more=more)


def position(problem: Finding) -> tuple[str, int]:
    """Give what problems are sorted by: file and line."""
    return problem.file or "", problem.line or 0


def some(names: Sequence[str]) -> str:
    """Write the first of many names, and how many more there are."""
    more = len(names) - _NAMES_TOLD
    return listed([*map(quoted, names[:_NAMES_TOLD]), *([f"{more} more"] if more > 0 else [])])
