"""The errors and warnings of one loading: all errors, and the first few warnings of each kind; the others are counted.

Owns how many warnings an operator reads, on the terminal, in JSON and in the log. Never decides what is a finding.
"""

from collections import Counter
from typing import Final

import msgspec
from msgspec import Struct

from sidecar.core.findings import ErrorCode, Finding, WarningCode, finding
from sidecar.core.settings.values import Where

# Ten thousand findings of one kind have one fix, and the log of a reload must stay readable.
_SHOWN: Final = 5


class Kind(Struct, frozen=True):
    """A kind of warning. `text` and `fix` are templates of `str.format` for the values that `Findings.warn` gets."""

    code: WarningCode
    text: str
    fix: str


class Findings:
    """The errors and warnings so far."""

    def __init__(self) -> None:
        self.errors: list[Finding] = []
        self._shown: dict[Kind, list[Finding]] = {}
        self._more: Counter[Kind] = Counter()

    @property
    def count(self) -> int:
        """The number of all findings, also those that are not shown."""
        return len(self.errors) + sum(map(len, self._shown.values())) + self._more.total()

    def error(self, code: ErrorCode, where: Where | None, text: str, fix: str) -> None:
        """Add an error."""
        self.errors.append(finding("error", code, where, text, fix))

    def warn(self, kind: Kind, where: Where | None, **values: object) -> None:
        """Add a warning. The text is made only if it is one of the first few."""
        shown = self._shown.setdefault(kind, [])
        if len(shown) == _SHOWN:
            self._more[kind] += 1
            return
        shown.append(finding("warning", kind.code, where, kind.text.format(**values), kind.fix.format(**values)))

    def warnings(self) -> list[Finding]:
        """Return the warnings. The last one of a kind has the number of those that are left out."""
        warnings: list[Finding] = []
        for kind, shown in self._shown.items():
            *first, last = sorted(shown, key=position)
            if more := self._more[kind]:
                text = f"{last.text.removesuffix('.')} (and {more} more like this)."
                last = msgspec.structs.replace(last, text=text, more=more)
            warnings += [*first, last]
        return warnings


def position(problem: Finding) -> tuple[str, int]:
    """Return the sort key of a finding: file and line."""
    return problem.file or "", problem.line or 0
