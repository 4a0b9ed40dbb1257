"""The forms of reports by reporter, and whether they drifted: a provider changes its reports without notice.

Owns when a difference is a drift. Never reads a record.
"""

import math

from msgspec import Struct

from sidecar.core.records import FORMS, Form

OTHERS = "(others)"

# External hosts choose the names. Twice as many reporters are held; then the rarest are counted together.
_LIMIT = 1000
_TOP = 100
# With fewer reports before or after, a share says nothing.
_FEWEST = 20
# The share of reports that are not complete must grow by this much, and by three standard errors.
_GROWTH = 0.1
_ERRORS = 3


class FormCounts(Struct, frozen=True, kw_only=True):
    """Reports by their form; each failed recipient of a bounce counts."""

    complete: int = 0
    lost: int = 0
    derived: int = 0
    unparsable: int = 0

    @property
    def total(self) -> int:
        """All reports."""
        return self.complete + self.lost + self.derived + self.unparsable

    @property
    def share(self) -> float:
        """The part of the reports that are not complete."""
        return 1 - self.complete / self.total if self.total else 0.0


class ReporterForms(Struct, frozen=True, kw_only=True):
    """The reports of one reporter, by the domain of its hosts: since a time and, if there is one, `before` it."""

    name: str
    forms: FormCounts
    before: FormCounts | None = None
    drifted: bool = False


class Forms(Struct, frozen=True, kw_only=True):
    """All reporters with reports, those that drifted first, then those with most reports; at most 100 of them.

    `since` is the time that divides the records, or None. Some reporters can be counted together as `(others)`.
    """

    since: str | None
    drifted: int
    reporters: list[ReporterForms]


class FormTally:
    """Counts by reporter in bounded memory."""

    def __init__(self) -> None:
        self._counts: dict[str, list[int]] = {}

    def add(self, reporter: str, form: Form, count: int, *, before: bool) -> None:
        """Count reports of one form."""
        counts = self._counts.setdefault(reporter, [0] * (2 * len(FORMS)))
        counts[FORMS.index(form) + before * len(FORMS)] += count
        if len(self._counts) > 2 * _LIMIT:
            self._drop()

    def forms(self, since: str | None) -> Forms:
        """Return the figures; with `since` compared with the time before it."""
        reporters = [_reporter(name, counts, compared=since is not None) for name, counts in self._counts.items()]
        reporters.sort(key=lambda one: (not one.drifted, -one.forms.total, one.name))
        return Forms(since=since, drifted=sum(one.drifted for one in reporters), reporters=reporters[:_TOP])

    def _drop(self) -> None:
        others = self._counts.pop(OTHERS, [0] * (2 * len(FORMS)))
        ranked = sorted(self._counts.items(), key=lambda item: (-sum(item[1]), item[0]))
        self._counts = dict(ranked[:_LIMIT])
        self._counts[OTHERS] = list(map(sum, zip(others, *(counts for _, counts in ranked[_LIMIT:]), strict=True)))


def _reporter(name: str, counts: list[int], *, compared: bool) -> ReporterForms:
    now, before = (FormCounts(**dict(zip(FORMS, counts[at : at + len(FORMS)], strict=True))) for at in (0, len(FORMS)))
    if not compared:
        return ReporterForms(name=name, forms=now)
    return ReporterForms(name=name, forms=now, before=before, drifted=name != OTHERS and has_drifted(before, now))


def has_drifted(before: FormCounts, now: FormCounts) -> bool:
    """Return True if clearly more reports are not complete: by ten per cent of all and by three standard errors."""
    if min(before.total, now.total) < _FEWEST:
        return False
    whole = before.total + now.total
    share = (before.share * before.total + now.share * now.total) / whole
    error = math.sqrt(share * (1 - share) * (1 / before.total + 1 / now.total))
    return now.share - before.share > max(_GROWTH, _ERRORS * error)
