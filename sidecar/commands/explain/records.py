"""`sidecar explain --record`: the explanations of records in words, as JSON, or as totals. Owns how they look."""

import sys
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, islice
from pathlib import Path

import click
from msgspec import UNSET
from rich.console import Console

from sidecar.commands.explain.entries import entries_of
from sidecar.commands.explain.words import connect_words, recipient_words
from sidecar.core.evaluate.evaluator import Evaluator, Undecided
from sidecar.core.evaluate.recorded.advice import Advice, Change
from sidecar.core.evaluate.recorded.explanation import Explainer, RecordExplanation
from sidecar.core.evaluate.recorded.finding import AnswerCount, BoundedTally, ComparedRecord, Comparison, RecordTotals, find
from sidecar.core.evaluate.recorded.follow_up import Entry, with_follow_ups
from sidecar.core.evaluate.recorded.words import AIMS, HAPPENED, decision
from sidecar.core.policy import Because
from sidecar.core.session.replies import NOT_A_REPORT
from sidecar.core.settings.settings import Settings
from sidecar.core.text import counted, printable
from sidecar.fleet import is_stream
from sidecar.journal import read as journal
from sidecar.output.logs import warn_of_skipped_files
from sidecar.output.streams import print_json
from sidecar.output.terminal import TextTable, console, plain, print_text, progress

# People read ten answers of a dozen lines; more are counted.
_ONE_BY_ONE = 10
_FAULTS_SHOWN = 5
_RECIPIENTS_SHOWN = 10
_ROWS = 10
_NUMBERS = ("accepted", "rejected", "tempfailed", "differ")
_RARE = {"tempfailed", "differ"}
_TO_COPY = " " * 6


def explain_records(settings: Settings, path: Path, *, as_json: bool) -> int:
    """Explain every record in `path`, and return the exit status."""
    explainer = Explainer(Evaluator(settings))
    warn_of_skipped_files(path)
    if as_json:
        return _print_json(with_follow_ups(entries_of(path, fleet=settings.fleet)), explainer, path)
    with progress("records", total=None if is_stream(path) else journal.stored_size(path)) as bar:
        entries = with_follow_ups(entries_of(path, bar.read, fleet=settings.fleet))
        first = list(islice(entries, _ONE_BY_ONE + 1))
        many = len(first) > _ONE_BY_ONE
        totals = RecordTotals()
        for _, found in compared(chain(first, entries) if many else (), explainer, totals):
            totals.add(found)
            bar.one_more()
    if not many:
        return _print_words(first, explainer, path)
    _print_totals(totals, console())
    if totals.unreadable > _FAULTS_SHOWN:
        click.echo(f"{totals.unreadable:,} lines in all cannot be judged; --json has the reason of each.", err=True)
    return int(totals.unreadable > 0)


def _print_json(entries: Iterable[Entry], explainer: Explainer, path: Path) -> int:
    status, entry = 0, None
    for entry in entries:
        try:
            print_json(explainer.explain(entry))
        except ValueError as error:
            print_json({"record": {"file": entry.file, "line": entry.line}, "error": str(error)})
            status = 1
    return status if entry is not None else report_no_record(path)


def _print_words(entries: Sequence[Entry], explainer: Explainer, path: Path) -> int:
    screen, totals = console(), RecordTotals()
    for number, (entry, _) in enumerate(compared(entries, explainer, totals, _ONE_BY_ONE)):
        if number:
            screen.print()
        for place, line in enumerate(_in_words(explainer.explain(entry))):
            print_words(screen, line, "" if place else "bold")
    return int(totals.unreadable > 0) if entries else report_no_record(path)


def print_words(screen: Console, line: str, style: str = "") -> None:
    """Print a line, wrapped on a terminal. Lines to copy stay whole."""
    if line.startswith(_TO_COPY):
        screen.print(plain(line), style=style, soft_wrap=True)
    else:
        print_text(screen, line, style=style)


def report_no_record(path: Path) -> int:
    """Report that there is no record, and return the exit status."""
    click.echo(f"{printable(str(path))} contains no record. Name a log, or a folder of its segments.", err=True)
    return 1


def compared(
    entries: Iterable[Entry], explainer: Explainer, totals: RecordTotals | Comparison, faults_shown: int = _FAULTS_SHOWN
) -> Iterator[tuple[Entry, ComparedRecord | None]]:
    """Yield each entry with its comparison. Count the lines that cannot be judged, and report the first of them."""
    for entry in entries:
        try:
            found = find(entry, explainer.evaluator)
        except ValueError as error:
            totals.unreadable += 1
            if totals.unreadable <= faults_shown:
                sys.stdout.flush()
                click.echo(f"{printable(entry.file)}:{entry.line} cannot be judged: {printable(str(error))}.", err=True)
        else:
            yield entry, found


# --- many records as totals


def _print_totals(totals: RecordTotals, screen: Console) -> None:
    print_text(screen, _summary(totals), style="bold")
    print_table(screen, "By rule", ("disposition", "decided by"), totals.rulings)
    print_table(screen, "By peer", ("peer",), totals.peers)
    print_table(screen, "By recipient's domain", ("domain",), totals.domains)


def _summary(totals: RecordTotals) -> str:
    count = totals.all
    answers = f"{count.accepted:,} accepted, {count.rejected:,} rejected, {count.tempfailed:,} tempfailed"
    about = f" to {counted(totals.messages, 'message')}" if totals.messages else ""
    parts = [f"{counted(count.total, 'answer')}{about} recorded: {answers}", _comparison(count)]
    if totals.outgoing:
        parts.append(f"{counted(totals.outgoing, 'more record')} of outgoing mail")
    return "; ".join(parts) + "."


def _comparison(count: AnswerCount) -> str:
    otherwise = f"{count.differ:,}" if count.differ else "none"
    if not count.unknown:
        return f"{otherwise} would be decided otherwise under this configuration"
    why = "(--disagreements shows why)"
    compared = count.total - count.unknown
    if not compared:
        return f"none can be compared with this configuration {why}"
    return (
        f"{otherwise} of the {compared:,} that can be compared would be decided otherwise under this configuration, "
        f"{count.unknown:,} cannot be compared {why}"
    )


def print_table(
    screen: Console, title: str, headings: Sequence[str], tally: BoundedTally, numbers: Sequence[str] = _NUMBERS
) -> None:
    """Print the most frequent keys of a tally, with these of their numbers; nothing if it is empty."""
    if not len(tally):
        return
    rows = tally.top(_ROWS)
    # In 80 columns a rule has no room for whole words beside columns that are rarely needed.
    numbers = [name for name in numbers if name not in _RARE or any(getattr(count, name) for _, count in rows)]
    made = TextTable(*headings, *(f"{name}#" for name in numbers))
    for key, count in rows:
        made.add_row(*map(plain, key), *(f"{getattr(count, name):,}" for name in numbers))
    screen.print()
    screen.print(plain(title, style="bold"))
    screen.print(made)
    more = len(tally) - _ROWS
    if more > 0 or tally.others:
        rest = f", and rarer ones with {tally.others:,} answers in all" if tally.others else ""
        screen.print(f"and {max(more, 0):,} more{rest}")


# --- one record in words


def _in_words(explanation: RecordExplanation) -> Iterator[str]:
    """Return what happened, what this configuration decides, step by step, and what to change; the summary first."""
    yield headline(explanation)
    if explanation.outcome is not None:
        yield f"This configuration {decision(explanation, explanation.outcome)}."
        yield f"Decided by: {_rules(explanation.decided)}."
    yield from (f"  {line}" for line in _steps(explanation))
    if explanation.record.why:
        yield f"Reason in the record: {explanation.record.why}"
    if explanation.record.verified is not UNSET:
        why = f" ({explanation.record.proof})" if explanation.record.proof is not UNSET else ""
        yield f"Verified, by the record: {explanation.record.verified}{why}"
    yield from explanation.notes
    if explanation.fix is not None:
        yield from _advice(explanation.fix)


def headline(explanation: RecordExplanation) -> str:
    """Return what happened by the record, and the place of the record."""
    record = explanation.record
    names = record.to[:_RECIPIENTS_SHOWN]
    more = f" and {len(record.to) - len(names)} more" if len(record.to) > len(names) else ""
    to = f" to {', '.join(f'<{name}>' for name in names)}{more}" if names else ""
    times = f"{record.count:,} times " if record.count > 1 else ""
    when = f", {record.time}" if record.time else ""
    answer = f" with {record.response}" if record.response else ""
    return (
        f"{record.file}:{record.line} {record.type}{when}: peer {record.peer or 'unknown'}, from <{record.sender}>{to}: "
        f"{times}{HAPPENED.get(explanation.happened, explanation.happened)}{answer}"
    )


def _steps(explanation: RecordExplanation) -> Iterator[str]:
    if explanation.connect is None:
        return
    yield from connect_words(explanation.connect, explanation.record.peer or "")
    for part in explanation.recipients[:_RECIPIENTS_SHOWN]:
        yield from recipient_words(part)
    if len(explanation.recipients) > _RECIPIENTS_SHOWN:
        yield f"and {len(explanation.recipients) - _RECIPIENTS_SHOWN} more recipients"
    message = explanation.message
    if message is not None and message.action is not None:
        yield f"END OF MESSAGE: {message.reply or message.action}"
        yield from (f"  because {reason}" for reason in explanation.decided)
    elif explanation.outcome == Undecided.CONTENT_UNKNOWN:
        yield f"END OF MESSAGE: a report is accepted, any other message is rejected with {NOT_A_REPORT}"


def _rules(decided: Sequence[Because]) -> str:
    """Return the lines that decided; for a missing line, what is missing."""
    rules = [reason.text if reason.file is None else f"{reason.file}:{reason.line} {reason.key}" for reason in decided]
    return "; ".join(dict.fromkeys(rules))


def _advice(advice: Advice) -> Iterator[str]:
    yield AIMS[advice.aim]
    for change in advice.changes:
        yield f"  - {change.text}{_place(change)}"
        yield from (f"{_TO_COPY}{line}" for line in change.lines)
        if change.opens is not None:
            yield f"    Note: {change.opens}."
    if advice.more:
        yield f"  and {advice.more} similar changes for the other domains"
    yield advice.then


def _place(change: Change) -> str:
    if change.line is not None:
        return f" At {change.file}:{change.line}, {change.key}:"
    if change.file is not None:
        return f" Add to {change.file}:"
    return f" In the settings file, {change.key}:" if change.key else " In a listener domains file:"
