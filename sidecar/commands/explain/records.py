"""`sidecar explain --record`: why was this accepted or rejected, in words, as JSON, or as totals.

Owns how the answers look. Never decides anything.
"""

import sys
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, islice
from pathlib import Path
from textwrap import wrap

import click
import msgspec
from rich.console import Console
from rich.text import Text

from sidecar.commands.explain.change import Advice, Change
from sidecar.commands.explain.explanation import Explainer, RecordExplanation, encode_record_explanation
from sidecar.commands.explain.follow_up import Entry, with_follow_ups
from sidecar.commands.explain.record_input import entries_of
from sidecar.commands.explain.totals import RecordTotals
from sidecar.commands.explain.totals_table import print_totals
from sidecar.commands.explain.words import connect_words, kinds, recipient_words
from sidecar.core.disposition import REJECTED, Disposition
from sidecar.core.evaluate.envelope import Happened
from sidecar.core.evaluate.evaluator import EnvelopeOutcome, Evaluator, Undecided
from sidecar.core.policy import Because
from sidecar.core.settings.values import Settings
from sidecar.core.text import printable, printable_json
from sidecar.journal import JournalError
from sidecar.journal import read as journal
from sidecar.output.logs import warn_of_skipped_files
from sidecar.output.problems import sentence
from sidecar.output.progress import Bar, progress
from sidecar.output.terminal import console, plain

# Ten answers of a dozen lines are still read; more are counted.
_ONE_BY_ONE = 10
_FAULTS_TOLD = 5
_RECIPIENTS_TOLD = 10
_TO_WRITE = " " * 6

_HAPPENED: dict[Happened, str] = {
    "accepted": "accepted",
    "quarantined": "accepted, and kept in the quarantine",
    "rejected": "rejected",
    "rejected_for_other_reason": "rejected",
    "tempfailed": "tempfailed",
    "outgoing": "outgoing",
}
OUTCOMES: dict[EnvelopeOutcome, str] = {
    Disposition.RELAYED: "accepts the message, and relays it",
    Disposition.LOGGED_AND_RELAYED: "accepts the report, logs it and relays it",
    Disposition.LOGGED_AND_DROPPED: "accepts the report, logs it and drops it",
    Disposition.QUARANTINED: "accepts the message, and quarantines it",
    Disposition.REJECTED_AT_CONNECT: "rejects the peer at connect",
    Disposition.REJECTED_AT_RCPT: "rejects the recipient",
    Disposition.REJECTED_AT_END: "accepts the recipient, and rejects the message at its end",
    Undecided.RECIPIENTS_UNKNOWN: "accepts the connection; it decides at RCPT, for each recipient",
    Undecided.CONTENT_UNKNOWN: "accepts the recipient, but only for reports: it rejects any other message at its end",
}
_AGREEMENTS = {True: ", as the record says", False: ", other than the record says", None: ""}
_ADVICE = {
    ("reject", "all"): "To reject it:",
    ("accept", "one"): "To accept it, make one of these changes, if you want it:",
}


def explain_records(settings: Settings, path: Path, *, as_json: bool) -> int:
    """Explain every record in `path`; give the exit status."""
    explainer = Explainer(Evaluator(settings))
    try:
        warn_of_skipped_files(path)
        if as_json:
            return _print_json(with_follow_ups(entries_of(path)), explainer, path)
        with progress("records", total=journal.stored_size(path)) as bar:
            entries = with_follow_ups(entries_of(path, bar.read))
            first = list(islice(entries, _ONE_BY_ONE + 1))
            many = len(first) > _ONE_BY_ONE
            totals = _count(chain(first, entries), explainer, bar) if many else RecordTotals()
    except JournalError as error:
        raise click.ClickException(sentence(error)) from error
    if many:
        print_totals(totals, console())
        return _tell_faults(totals)
    return _print_words(first, explainer, path)


def _print_json(entries: Iterable[Entry], explainer: Explainer, path: Path) -> int:
    """Print one object a record; a line that is none gets an object that says so."""
    status, entry = 0, None
    for entry in entries:
        try:
            answer = encode_record_explanation(explainer.explain(entry))
        except ValueError as error:
            fault = {"record": {"file": entry.file, "line": entry.line}, "error": str(error)}
            answer = printable_json(msgspec.json.encode(fault))
            status = 1
        sys.stdout.buffer.write(answer + b"\n")
    return status if entry is not None else tell_nothing(path)


def _print_words(entries: Sequence[Entry], explainer: Explainer, path: Path) -> int:
    screen = console()
    status, told = 0, False
    for entry in entries:
        try:
            explanation = explainer.explain(entry)
        except ValueError as error:
            click.echo(fault_line(entry, error), err=True)
            status = 1
            continue
        if told:
            screen.print()
        told = True
        for place, line in enumerate(_in_words(explanation)):
            screen.print(wrapped(line, screen), style="" if place else "bold", soft_wrap=True)
    return status if entries else tell_nothing(path)


def wrapped(line: str, screen: Console) -> Text:
    """Wrap words for a reader; what is to be copied, and what goes into a pipe, is left whole."""
    if line.startswith(_TO_WRITE) or not screen.is_terminal:
        return plain(line)
    indent = " " * (len(line) - len(line.lstrip()) + 2)
    # Not at hyphens, which are in names of files and hosts.
    pieces = wrap(printable(line), screen.width, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)
    return Text("\n".join(pieces))


def _count(entries: Iterable[Entry], explainer: Explainer, bar: Bar) -> RecordTotals:
    totals = RecordTotals()
    for entry in entries:
        bar.one_more()
        try:
            totals.add(explainer.find(entry))
        except ValueError as error:
            totals.unreadable += 1
            if totals.unreadable <= _FAULTS_TOLD:
                click.echo(fault_line(entry, error), err=True)
    return totals


def _tell_faults(totals: RecordTotals) -> int:
    if totals.unreadable > _FAULTS_TOLD:
        click.echo(f"{totals.unreadable:,} lines in all cannot be judged; --json tells why of each.", err=True)
    return int(totals.unreadable > 0)


def tell_nothing(path: Path) -> int:
    """Say that there is no record; give the exit status."""
    click.echo(f"{printable(str(path))} holds no record. Name a log, or a folder of its segments.", err=True)
    return 1


def fault_line(entry: Entry, error: ValueError) -> str:
    """Say that a line cannot be judged, and why."""
    return f"{printable(entry.file)}:{entry.line} cannot be judged: {printable(str(error))}."


# --- one record in words


def _in_words(explanation: RecordExplanation) -> Iterator[str]:
    """Say what happened, what this configuration makes of it, step by step, and what to change; the gist in the first line."""
    yield headline(explanation)
    if explanation.outcome is not None:
        yield f"This configuration {_outcome(explanation, explanation.outcome)}{_AGREEMENTS[explanation.agrees]}."
        yield f"Decided by: {_rules(explanation.decided)}."
    yield from (f"  {line}" for line in _steps(explanation))
    if explanation.record.why:
        yield f"The record gives as its reason: {explanation.record.why}"
    yield from explanation.notes
    if explanation.fix is not None:
        yield from _advice(explanation.fix)


def headline(explanation: RecordExplanation) -> str:
    """Say what happened, by the record, and where that stands."""
    record = explanation.record
    names = record.to[:_RECIPIENTS_TOLD]
    more = f" and {len(record.to) - len(names)} more" if len(record.to) > len(names) else ""
    to = f" to {', '.join(f'<{name}>' for name in names)}{more}" if names else ""
    times = f"{record.count:,} times " if record.count > 1 else ""
    when = f", {record.time}" if record.time else ""
    answer = f" with {record.response}" if record.response else ""
    return (
        f"{record.file}:{record.line} {record.type}{when}: peer {record.peer or 'unknown'}, from <{record.sender}>{to}: "
        f"{times}{_HAPPENED[explanation.happened]}{answer}"
    )


def _outcome(explanation: RecordExplanation, outcome: EnvelopeOutcome) -> str:
    takers = [part for part in explanation.recipients if kinds(part)]
    if outcome not in REJECTED and any(part.action == "reject" for part in explanation.recipients):
        return f"{OUTCOMES[outcome]}, but for some of its recipients only"
    unless = (
        outcome == Disposition.RELAYED and takers and explanation.message is not None and explanation.message.action is None
    )
    return f"{OUTCOMES[outcome]}{', unless it is a report that the domain takes' if unless else ''}"


def _steps(explanation: RecordExplanation) -> Iterator[str]:
    if explanation.connect is None:
        return
    yield from connect_words(explanation.connect, explanation.record.peer or "")
    for part in explanation.recipients[:_RECIPIENTS_TOLD]:
        yield from recipient_words(part)
    if len(explanation.recipients) > _RECIPIENTS_TOLD:
        yield f"and {len(explanation.recipients) - _RECIPIENTS_TOLD} more recipients"
    message = explanation.message
    if message is not None and message.action is not None:
        yield f"END OF MESSAGE: {message.reply or message.action}"
        yield from (f"  because {reason}" for reason in explanation.decided)
    elif explanation.outcome == Undecided.CONTENT_UNKNOWN:
        yield "END OF MESSAGE: a report is taken, any other message is answered 550 5.7.1 relaying not permitted"


def _rules(decided: Sequence[Because]) -> str:
    """Name the lines that decided; where a line is missing, what is missing."""
    rules = [reason.text if reason.file is None else f"{reason.file}:{reason.line} {reason.key}" for reason in decided]
    return "; ".join(dict.fromkeys(rules))


def _advice(advice: Advice) -> Iterator[str]:
    yield _ADVICE[advice.aim, advice.apply]
    for change in advice.changes:
        yield f"  - {change.text}{_place(change)}"
        yield from (f"{_TO_WRITE}{line}" for line in change.lines)
        if change.opens is not None:
            yield f"    Mind that {change.opens}."
    if advice.more:
        yield f"  and {advice.more} more, alike, for the other domains"
    yield advice.then


def _place(change: Change) -> str:
    if change.line is not None:
        return f" At {change.file}:{change.line}, {change.key}:"
    if change.file is not None:
        return f" Add to {change.file}:"
    return f" In the settings file, {change.key}:" if change.key else " In a listener domains file:"
