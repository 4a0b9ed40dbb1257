"""`sidecar explain --record --disagreements`: where a log and this configuration disagree.

Owns how each disagreement is printed, and how long a followed log is waited for.
"""

import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from sidecar.commands.explain.entries import entries_of, new_entries
from sidecar.commands.explain.records import compared, headline, print_table, print_words, report_no_record
from sidecar.core.evaluate.evaluator import Evaluator
from sidecar.core.evaluate.recorded.explanation import Explainer, RecordExplanation
from sidecar.core.evaluate.recorded.finding import Comparison, Disagreement, NotCompared
from sidecar.core.evaluate.recorded.follow_up import Entry, Window, with_follow_ups
from sidecar.core.evaluate.recorded.words import OUTCOMES
from sidecar.core.settings.settings import Settings
from sidecar.core.text import counted, printable
from sidecar.journal import read as journal
from sidecar.output.logs import polls
from sidecar.output.streams import print_json
from sidecar.output.terminal import console

# KumoMTA writes a Rejection within milliseconds of the Reception that it contradicts; packing its output takes seconds.
_PATIENCE = 10.0
_COUNTS = ("compared", "same", "would_reject", "would_accept", "left_out", "outgoing", "unreadable")

_NOT_COMPARED: dict[NotCompared, str] = {
    "tempfailed": "tempfailed, which is no decision of the policy",
    "rejected_for_other_reason": "rejected for another reason than the listener policy",
    "not_smtp": "not received by SMTP, so that the listener policy does not apply",
    "unknown": "of which the record does not contain enough",
}


def explain_disagreements(settings: Settings, path: Path, *, as_json: bool, follow: bool) -> int:
    """List every record in `path` that this configuration would have decided otherwise, and return the exit status."""
    printer = _Printer(settings, as_json=as_json)
    if follow:
        _follow(path, printer)
    elif path.is_dir():
        printer.add(with_follow_ups(new_entries(journal.Follower(path, growing=False).look())))
    else:
        printer.add(with_follow_ups(entries_of(path, fleet=settings.fleet)))
    if printer.comparison.is_empty:
        return report_no_record(path)
    printer.end()
    return int(printer.comparison.otherwise > 0 or printer.comparison.unreadable > 0)


def _follow(path: Path, printer: "_Printer") -> None:
    """Print new disagreements until Ctrl-C, and then the totals."""
    window, newest = Window(seconds=_PATIENCE), time.monotonic()
    try:
        for files in polls(journal.Follower(path)):
            if files:
                newest = time.monotonic()
                printer.add(known for entry in new_entries(files) for known in window.add(entry))
            elif time.monotonic() - newest > _PATIENCE:
                printer.add(window.rest())
    except KeyboardInterrupt:
        printer.add(window.rest())
        printer.end()
        raise


class _Printer:
    """The output for a log: each disagreement, and the totals at the end."""

    def __init__(self, settings: Settings, *, as_json: bool) -> None:
        self._explainer = Explainer(Evaluator(settings))
        self._as_json = as_json
        self._screen = console()
        self.comparison = Comparison()

    def add(self, entries: Iterable[Entry]) -> None:
        """Print each entry that disagrees, and count the others."""
        for entry, found in compared(entries, self._explainer, self.comparison):
            if (how := self.comparison.add(found)) is not None:
                self._print(self._explainer.explain(entry), how)
        sys.stdout.flush()

    def _print(self, explanation: RecordExplanation, how: Disagreement) -> None:
        if self._as_json:
            print_json(explanation)
            return
        lines = headline(explanation), f"  {_in_words(explanation, how)}"
        if not self._screen.is_terminal:  # rich takes five times as long as all the rest
            sys.stdout.buffer.write("".join(f"{printable(line)}\n" for line in lines).encode())
            return
        for line, style in zip(lines, ("bold", ""), strict=True):
            print_words(self._screen, line, style)

    def end(self) -> None:
        """Print the totals."""
        comparison, screen = self.comparison, self._screen
        if self._as_json:
            print_json({"totals": {name: getattr(comparison, name) for name in _COUNTS}})
            return
        sys.stdout.flush()
        if comparison.otherwise:
            screen.print()
        for line in _summary(comparison):
            print_words(screen, line, "bold")
        title = "Disagreements by the rule that decides now, and what the log says"
        print_table(screen, title, ("decided by",), comparison.rules, ("accepted", "rejected"))


def _in_words(explanation: RecordExplanation, how: Disagreement) -> str:
    outcome = explanation.outcome
    assert outcome is not None  # noqa: S101 - outgoing mail cannot disagree
    what = OUTCOMES[outcome] if how.recipient is None else f"rejects <{how.recipient}> among the recipients"
    return f"This configuration {what}, because {'; '.join(map(str, how.because))}."


def _summary(comparison: Comparison) -> Iterator[str]:
    otherwise = (
        f"{comparison.otherwise:,} would be decided otherwise: {comparison.would_reject:,} accepted that this configuration "
        f"rejects, {comparison.would_accept:,} rejected that it accepts"
        if comparison.otherwise
        else "none would be decided otherwise"
    )
    yield f"{counted(comparison.compared, 'answer')} compared; {otherwise}."
    left_out = [f"{number:,} {_NOT_COMPARED[reason]}" for reason, number in comparison.left_out.items()]
    left_out += [f"{comparison.outgoing:,} of outgoing mail"] if comparison.outgoing else []
    left_out += [f"{counted(comparison.unreadable, 'line')} that cannot be read"] if comparison.unreadable else []
    if left_out:
        yield f"Left out: {'; '.join(left_out)}."
