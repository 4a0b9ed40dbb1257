"""`sidecar parse`: what a message is, and what it says."""

import os
import sys
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import click
import msgspec

from sidecar.config.rules import iana_rules
from sidecar.core.classifier import Classifier
from sidecar.core.records import UNCATEGORIZED, bounce_response
from sidecar.core.reports import read
from sidecar.core.reports.values import (
    ArfReport,
    DiagnosticCode,
    DsnStatus,
    MtaName,
    OobReport,
    PerRecipient,
    ReportedRecipient,
    ReportReading,
)
from sidecar.core.settings.values import BounceRule
from sidecar.core.text import printable, printable_json
from sidecar.output.help import Command
from sidecar.output.problems import settings_or_exit

# What a report may say of a recipient that its mail has not reached; the others have no class.
_UNREACHED = {"failed", "delayed"}


@click.command(
    "parse",
    cls=Command,
    examples=[
        "sidecar parse bounce.eml",
        "sidecar parse --json Maildir/new/*",
        "sidecar parse --config /etc/sidecar/sidecar.toml bounce.eml",
    ],
    statuses={0: "all files were read, with a report or without", 1: "a file cannot be read"},
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object for each file, one on each line.")
@click.option(
    "--config",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="The settings file (TOML). The command uses bounce_classifier (default: iana) and compat.",
)
@click.argument("files", nargs=-1, required=True, type=click.Path(), metavar="FILE...")
@click.pass_context
def command(context: click.Context, config: Path | None, files: tuple[str, ...], *, as_json: bool) -> None:
    """Show for each FILE if it is a bounce report or a feedback report, and what it reports.

    A FILE has one message as the MTA received it; - is standard input. A directory, such as the quarantine, means all files
    in it with a name in *.eml. A message that is not a report is not an error: the command prints the reason.

    For each failed or delayed recipient in a bounce report, the command prints the bounce class and the rule that matches.
    """
    settings = None if config is None else settings_or_exit(config)
    classifier = Classifier(iana_rules() if settings is None else settings.bounce_rules)
    strict = settings is not None and settings.compat == "kumomta"
    unreadable = False
    for file in chain.from_iterable(map(_files, files)):
        name = os.fsencode(file).decode("utf-8", "replace")
        try:
            message = sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else str(error)
            click.echo(f"{printable(name)} cannot be read: {reason}. Name a file that holds a message.", err=True)
            unreadable = True
            continue
        reading = read(message, strict=strict)
        # As bytes: a terminal of another character set must not stop the program.
        click.echo((_as_json if as_json else _as_text)(name, reading, classifier))
    context.exit(1 if unreadable else 0)


def _files(named: str) -> list[str]:
    """Give the messages in a directory, or else the file itself; of a directory without any say so: it may be the wrong one."""
    if not Path(named).is_dir():
        return [named]
    found = sorted(str(path) for path in Path(named).glob("*.eml"))
    if not found:
        click.echo(f"{printable(named)} holds no file named *.eml that can be seen.", err=True)
    return found


def _as_json(name: str, reading: ReportReading, classifier: Classifier) -> bytes:
    kind = "arf" if reading.arf is not None else "oob" if reading.oob is not None else None
    report = reading.oob if reading.arf is None else reading.arf
    answer: dict[str, object] = {"file": name, "kind": kind, "why": reading.why, "report": report}
    if isinstance(report, OobReport):
        # Beside the report, whose shape is KumoMTA's.
        answer["bounce_classification"] = [_class(entry, _rule(entry, classifier)) for entry in report.per_recipient]
    return printable_json(msgspec.json.encode(answer))


def _rule(entry: PerRecipient, classifier: Classifier) -> BounceRule | None:
    return classifier.rule(bounce_response(entry).line)


def _class(entry: PerRecipient, rule: BounceRule | None) -> str | None:
    if entry.action not in _UNREACHED:
        return None
    return UNCATEGORIZED if rule is None else rule.bounce_class


def _as_text(name: str, reading: ReportReading, classifier: Classifier) -> bytes:
    """Give the summary for people: one line that says what it is, then a line for each thing it says."""
    lines = [f"{printable(name)}: {printable(reading.why)}"]
    if reading.arf is not None:
        lines.extend(f"  {label + ':':<17} {printable(text)}" for label, text in _arf_lines(reading.arf))
    if reading.oob is not None:
        lines.extend(f"  {label + ':':<17} {printable(text)}" for label, text in _oob_lines(reading.oob, classifier))
    return "\n".join(lines).encode("utf-8")


def _arf_lines(report: ArfReport) -> Iterator[tuple[str, str]]:
    yield "feedback type", report.feedback_type
    yield from _told(
        ("user agent", report.user_agent),
        ("reporting MTA", _mta(report.reporting_mta)),
        ("source IP", report.source_ip),
        ("arrived", report.arrival_date),
        ("incidents", None if report.incidents is None else str(report.incidents)),
        ("sender", report.original_mail_from),
    )
    for label, values in (
        ("recipient", report.original_rcpto_to),
        ("domain", report.reported_domain),
        ("URI", report.reported_uri),
        ("authentication", report.authentication_results),
    ):
        for value in values:
            yield label, value
    if report.supplemental_trace is not None:
        yield "trace", msgspec.json.encode(report.supplemental_trace).decode()
    yield from _original_lines(report.original_message)


def _oob_lines(report: OobReport, classifier: Classifier) -> Iterator[tuple[str, str]]:
    yield from _told(
        ("reporting MTA", _mta(report.per_message.reporting_mta)),
        ("received from", _mta(report.per_message.received_from_mta)),
        ("gateway", _mta(report.per_message.dsn_gateway)),
        ("envelope id", report.per_message.original_envelope_id),
        ("arrived", report.per_message.arrival_date),
    )
    for entry in report.per_recipient:
        yield from _recipient_lines(entry, _rule(entry, classifier))
    yield from _original_lines(report.original_message)


def _recipient_lines(entry: PerRecipient, rule: BounceRule | None) -> Iterator[tuple[str, str]]:
    bounce_class = _class(entry, rule)
    final, original = _address(entry.final_recipient), _address(entry.original_recipient)
    yield from _told(
        (entry.action, final or original),
        ("  originally", None if original == final else original),
        ("  status", _status(entry.status)),
        ("  class", bounce_class if rule is None or bounce_class is None else f"{bounce_class} ({rule.where})"),
        ("  diagnostic", _diagnostic(entry.diagnostic_code)),
        ("  remote MTA", _mta(entry.remote_mta)),
        ("  last attempt", entry.last_attempt_date),
        ("  retried until", entry.will_retry_until),
        ("  log id", entry.final_log_id),
    )


def _original_lines(original: str | None) -> Iterator[tuple[str, str]]:
    yield "original message", "not returned" if original is None else f"{original.count(chr(10))} lines"


def _told(*lines: tuple[str, str | None]) -> Iterator[tuple[str, str]]:
    """Give the lines of which the report says something."""
    for label, text in lines:
        if text is not None:
            yield label, text


def _mta(mta: MtaName | None) -> str | None:
    return None if mta is None else f"{mta.name} ({mta.mta_type})"


def _address(recipient: ReportedRecipient | None) -> str | None:
    return None if recipient is None else recipient.recipient


def _status(status: DsnStatus | None) -> str | None:
    if status is None:
        return None
    return f"{status.class_}.{status.subject}.{status.detail} {status.comment or ''}".rstrip()


def _diagnostic(code: DiagnosticCode | None) -> str | None:
    return None if code is None else f"{code.diagnostic} ({code.diagnostic_type or 'no type'})"
