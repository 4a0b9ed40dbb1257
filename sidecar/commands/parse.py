"""`sidecar parse`: whether a message is a report, and its content."""

import time
from collections.abc import Iterator
from pathlib import Path

import click
import msgspec

from sidecar.config import USUAL_FILE
from sidecar.config.rules import iana_rules
from sidecar.core.classifier import Classifier
from sidecar.core.evaluate.delivery import read_stored
from sidecar.core.evaluate.proofs import StoredProof, prove, stored_words
from sidecar.core.records import UNCATEGORIZED, bounce_response, with_numbers
from sidecar.core.reports.values import ArfReport, DiagnosticCode, DsnStatus, MtaName, OobReport, PerRecipient, ReportReading
from sidecar.core.settings.values import BounceRule
from sidecar.core.text import printable
from sidecar.output.help import Command
from sidecar.output.messages import messages_argument, recipient_option, sender_option, stored_messages
from sidecar.output.problems import config_file, settings_or_exit
from sidecar.output.streams import print_json

# The actions of recipients without the message; other recipients have no bounce class.
_UNREACHED = {"failed", "delayed"}


@click.command(
    "parse",
    cls=Command,
    examples=[
        "sidecar parse bounce.eml",
        "sidecar parse --json Maildir/new/*",
        "sidecar parse --config /etc/sidecar/sidecar.toml bounce.eml",
    ],
    statuses={0: "every FILE was read, whether it is a report or not", 1: "some FILE cannot be read"},
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object for each file, one on each line.")
@click.option(
    "--config",
    metavar="FILE",
    type=click.Path(path_type=Path, readable=False),
    help="The settings file (TOML), for bounce_classifier, text_bounces, compat and [verify]. "
    f"The default is {USUAL_FILE}, or else the iana rules.",
)
@sender_option
@recipient_option
@messages_argument
@click.pass_context
def command(  # noqa: PLR0913 - one for each option
    context: click.Context,
    config: Path | None,
    sender: str | None,
    recipient: str | None,
    files: tuple[str, ...],
    *,
    as_json: bool,
) -> None:
    """Show for each FILE whether it is a bounce report or a feedback report, and its content.

    A FILE has one message as it came over SMTP; - is standard input. A directory, such as the quarantine, stands for all its
    files named *.eml. A message that is not a report is not an error: the reason is printed.

    The text of a bounce without a status part is read if the envelope sender is null, or if a header field proves an automatic
    mailer. If only a null sender makes a FILE such a bounce, and its sender is not known, the reason says so.

    If the settings have a section [verify], the answer has what a report proves, and why other proofs do not hold.
    Without --to, the recipient is the one that the last delivery wrote into the header section.

    Each recipient that a bounce report calls failed or delayed has the class of the bounce, and the rule for it.
    """
    config = config_file(config, otherwise="the built-in iana rules classify bounces")
    settings = None if config is None else settings_or_exit(config)
    classifier = Classifier(iana_rules() if settings is None else settings.bounce_rules)
    strict, text = settings is not None and settings.compat is not None, settings is None or settings.accepts_text
    unreadable = False
    for name, message in stored_messages(files):
        if message is None:
            unreadable = True
            continue
        reading = read_stored(message, sender, strict=strict, text=text)
        proof = None
        if reading.is_report and settings is not None and settings.verify is not None:
            proof = prove(reading, message, settings.verify, to=recipient, now=time.time())
        if as_json:
            print_json(_answer(name, reading, classifier, proof))
        else:
            # As bytes: a terminal with another character set must not stop the program.
            click.echo(_as_text(name, reading, classifier, proof))
    context.exit(1 if unreadable else 0)


def _answer(name: str, reading: ReportReading, classifier: Classifier, proof: StoredProof | None) -> dict[str, object]:
    kind = "arf" if reading.arf is not None else "oob" if reading.oob is not None else None
    report = reading.oob if reading.arf is None else reading.arf
    shown = None if report is None else with_numbers(report)
    answer: dict[str, object] = {"file": name, "kind": kind, "why": reading.why, "report": shown}
    # Beside the report, whose shape is KumoMTA's.
    if reading.read_as:
        answer["read_as"] = reading.read_as
    if reading.derived:
        answer["derived"] = reading.derived
    if isinstance(report, OobReport):
        answer["bounce_classification"] = [_classified(entry, classifier)[0] for entry in report.per_recipient]
    if proof is not None:
        answer["verification"] = proof
    return answer


def _classified(entry: PerRecipient, classifier: Classifier) -> tuple[str | None, BounceRule | None]:
    """Return the class of a bounce and its rule, if one matches; None if the recipient did not miss the message."""
    if entry.action not in _UNREACHED:
        return None, None
    rule = classifier.rule(bounce_response(entry).line)
    return UNCATEGORIZED if rule is None else rule.bounce_class, rule


def _as_text(name: str, reading: ReportReading, classifier: Classifier, proof: StoredProof | None) -> bytes:
    """Return the summary for people: one line with the kind of the message, then one for each fact."""
    lines = [f"{printable(name)}: {printable(reading.why)}"]
    if reading.arf is not None:
        lines += _facts(_arf_facts(reading.arf))
        lines += _facts(iter([("derived", ", ".join(reading.derived) or None)]))
    if reading.oob is not None:
        lines += _facts(_oob_facts(reading.oob, classifier))
    if proof is not None:
        lines += (f"  {printable(line)}" for line in stored_words(proof))
    return "\n".join(lines).encode("utf-8")


_Fact = str | int | MtaName | DsnStatus | DiagnosticCode | None


def _facts(facts: Iterator[tuple[str, _Fact]]) -> Iterator[str]:
    return (f"  {label + ':':<17} {printable(_in_words(fact))}" for label, fact in facts if fact is not None)


def _in_words(fact: _Fact) -> str:
    match fact:
        case MtaName():
            return f"{fact.name} ({fact.mta_type})"
        case DsnStatus():
            return f"{fact.class_}.{fact.subject}.{fact.detail} {fact.comment or ''}".rstrip()
        case DiagnosticCode():
            return f"{fact.diagnostic} ({fact.diagnostic_type or 'no type'})"
        case _:
            return str(fact)


def _arf_facts(report: ArfReport) -> Iterator[tuple[str, _Fact]]:
    yield "feedback type", report.feedback_type
    yield "user agent", report.user_agent
    yield "reporting MTA", report.reporting_mta
    yield "source IP", report.source_ip
    yield "arrived", report.arrival_date
    yield "incidents", report.incidents
    yield "sender", report.original_mail_from
    yield from (("recipient", recipient) for recipient in report.original_rcpto_to)
    yield from (("domain", domain) for domain in report.reported_domain)
    yield from (("URI", uri) for uri in report.reported_uri)
    yield from (("authentication", results) for results in report.authentication_results)
    if report.supplemental_trace is not None:
        yield "trace", msgspec.json.encode(report.supplemental_trace).decode()
    yield "original message", _size(report.original_message)


def _oob_facts(report: OobReport, classifier: Classifier) -> Iterator[tuple[str, _Fact]]:
    yield "reporting MTA", report.per_message.reporting_mta
    yield "received from", report.per_message.received_from_mta
    yield "gateway", report.per_message.dsn_gateway
    yield "envelope id", report.per_message.original_envelope_id
    yield "arrived", report.per_message.arrival_date
    for entry in report.per_recipient:
        bounce_class, rule = _classified(entry, classifier)
        final, original = (one.recipient if one else None for one in (entry.final_recipient, entry.original_recipient))
        yield entry.action, final or original or "(the recipient is not named)"
        yield "  originally", None if original == final else original
        yield "  status", entry.status
        yield "  class", bounce_class if rule is None else f"{bounce_class} ({rule.where})"
        yield "  diagnostic", entry.diagnostic_code
        yield "  remote MTA", entry.remote_mta
        yield "  last attempt", entry.last_attempt_date
        yield "  retried until", entry.will_retry_until
        yield "  log id", entry.final_log_id
        yield "  derived", ", ".join(entry.derived or ()) or None
    yield "original message", _size(report.original_message)


def _size(original: str | bytes | None) -> str:
    if original is None:
        return "not returned"
    return f"{original.count(chr(10)) if isinstance(original, str) else original.count(10)} lines"
