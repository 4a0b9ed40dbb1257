"""`sidecar explain --record --disagreements`: where a log and this configuration part.

Owns how each disagreement is told, and when what is followed has told all there is. Never decides which they are.
"""

import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import click
import msgspec
from rich.console import Console

from sidecar.commands.explain.disagreement import Aside, Comparison, Disagreement
from sidecar.commands.explain.explanation import Explainer, RecordExplanation, encode_record_explanation
from sidecar.commands.explain.follow_up import Entry, Window, with_follow_ups
from sidecar.commands.explain.record_input import entries_of, new_entries
from sidecar.commands.explain.records import OUTCOMES, fault_line, headline, tell_nothing, wrapped
from sidecar.core.evaluate.evaluator import Evaluator
from sidecar.core.settings.values import Settings
from sidecar.core.text import counted, printable, printable_json
from sidecar.journal import JournalError
from sidecar.journal import read as journal
from sidecar.output.logs import polls
from sidecar.output.problems import sentence
from sidecar.output.terminal import console, plain, table

# KumoMTA writes a rejection within milliseconds of the Reception that it belies; that it packs what it writes takes seconds.
_SETTLED = 10.0
_FAULTS_TOLD = 5
_RULES_TOLD = 10

_ASIDES: dict[Aside, str] = {
    "tempfailed": "tempfailed, which is no decision of the policy",
    "rejected_for_other_reason": "rejected for another reason than the listener policy",
    "not_smtp": "not received by SMTP, so that the listener policy does not apply",
    "unknown": "of which the record does not contain enough",
}


class Report:
    """What is told of a log, line by line, and in the end."""

    def __init__(self, settings: Settings, *, as_json: bool) -> None:
        self._explainer = Explainer(Evaluator(settings))
        self._as_json = as_json
        self._screen = console()
        self.comparison = Comparison()

    def tell(self, entries: Iterable[Entry]) -> None:
        """Tell of each entry that disagrees, and count the others."""
        for entry in entries:
            try:
                how = self.comparison.add(self._explainer.find(entry))
            except ValueError as error:
                self._tell_fault(entry, error)
                continue
            if how is not None:
                self._tell_one(self._explainer.explain(entry), how)
        sys.stdout.flush()

    def _tell_one(self, explanation: RecordExplanation, how: Disagreement) -> None:
        if self._as_json:
            sys.stdout.buffer.write(encode_record_explanation(explanation) + b"\n")
            return
        lines = headline(explanation), f"  {_in_words(explanation, how)}"
        if not self._screen.is_terminal:  # rich takes five times as long as all the rest
            sys.stdout.buffer.write("".join(f"{printable(line)}\n" for line in lines).encode())
            return
        for line, style in zip(lines, ("bold", ""), strict=True):
            self._screen.print(wrapped(line, self._screen), style=style, soft_wrap=True)

    def _tell_fault(self, entry: Entry, error: ValueError) -> None:
        self.comparison.unreadable += 1
        if self.comparison.unreadable <= _FAULTS_TOLD:
            sys.stdout.flush()
            click.echo(fault_line(entry, error), err=True)

    def end(self) -> None:
        """Tell the totals."""
        if self._as_json:
            sys.stdout.buffer.write(printable_json(msgspec.json.encode({"totals": _totals(self.comparison)})) + b"\n")
            return
        sys.stdout.flush()
        if self.comparison.otherwise:
            self._screen.print()
        for line in _gist(self.comparison):
            self._screen.print(wrapped(line, self._screen), style="bold", soft_wrap=True)
        _print_rules(self.comparison, self._screen)


def explain_disagreements(settings: Settings, path: Path, *, as_json: bool, follow: bool) -> int:
    """List every record in `path` that this configuration would have decided otherwise; give the exit status."""
    report = Report(settings, as_json=as_json)
    try:
        if follow:
            _follow(path, report)
        else:
            report.tell(with_follow_ups(_all_entries(path)))
    except JournalError as error:
        raise click.ClickException(sentence(error)) from error
    if report.comparison.is_empty:
        return tell_nothing(path)
    report.end()
    return int(report.comparison.otherwise > 0 or report.comparison.unreadable > 0)


def _all_entries(path: Path) -> Iterator[Entry]:
    if not path.is_dir():
        return entries_of(path)
    return new_entries(journal.Follower(path, growing=False).look())


def _follow(path: Path, report: Report) -> None:
    """Tell what comes, until Ctrl-C, and then the totals."""
    window = Window(seconds=_SETTLED)
    try:
        for entries in _batches(path, window):
            report.tell(entries)
    except KeyboardInterrupt:
        report.tell(window.rest())
        report.end()
        raise


def _batches(path: Path, window: Window) -> Iterator[Iterator[Entry]]:
    newest = time.monotonic()
    for files in polls(journal.Follower(path)):
        if files:
            newest = time.monotonic()
            yield (known for entry in new_entries(files) for known in window.add(entry))
        elif time.monotonic() - newest > _SETTLED:
            yield window.rest()


def _in_words(explanation: RecordExplanation, how: Disagreement) -> str:
    outcome = explanation.outcome
    assert outcome is not None  # noqa: S101 - what went out disagrees with nothing
    what = OUTCOMES[outcome] if how.recipient is None else f"rejects <{how.recipient}> among the recipients"
    return f"This configuration {what}, because {'; '.join(map(str, how.because))}."


def _gist(comparison: Comparison) -> Iterator[str]:
    parted = (
        f"{comparison.otherwise:,} would be decided otherwise: {comparison.would_reject:,} accepted that this configuration "
        f"rejects, {comparison.would_accept:,} rejected that it accepts"
        if comparison.otherwise
        else "none would be decided otherwise"
    )
    yield f"{counted(comparison.compared, 'answer')} compared; {parted}."
    left_out = [f"{number:,} {_ASIDES[aside]}" for aside, number in comparison.asides.items()]
    left_out += [f"{comparison.outgoing:,} of mail that went out"] if comparison.outgoing else []
    left_out += [f"{counted(comparison.unreadable, 'line')} that cannot be read"] if comparison.unreadable else []
    if left_out:
        yield f"Left out: {'; '.join(left_out)}."


def _print_rules(comparison: Comparison, screen: Console) -> None:
    if not comparison.otherwise:
        return
    made = table("decided by", "accepted#", "rejected#")
    for rule, count in comparison.rules.top(_RULES_TOLD):
        made.add_row(plain(rule), f"{count.accepted:,}", f"{count.rejected:,}")
    screen.print()
    screen.print(plain("Disagreements by the rule that decides now, and what the log says", style="bold"))
    screen.print(made)
    if (more := len(comparison.rules) - _RULES_TOLD) > 0:
        screen.print(f"and {more:,} more")


def _totals(comparison: Comparison) -> dict[str, object]:
    return {
        "compared": comparison.compared,
        "same": comparison.same,
        "would_reject": comparison.would_reject,
        "would_accept": comparison.would_accept,
        "left_out": comparison.asides,
        "outgoing": comparison.outgoing,
        "unreadable": comparison.unreadable,
    }
