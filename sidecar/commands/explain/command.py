"""`sidecar explain`: what happens to a message, and why."""

import sys
import time
from pathlib import Path
from typing import Any
from uuid import uuid4

import click
import msgspec

from sidecar.commands.explain.words import explanation_words
from sidecar.core.evaluate.evaluator import Evaluator
from sidecar.core.evaluate.explanation import Explanation, Question
from sidecar.fleet import is_stream
from sidecar.journal.read import STDIN
from sidecar.output.help import Command
from sidecar.output.problems import ExistingPath, config_option, require_utf8, settings_or_exit
from sidecar.output.streams import print_json, print_lines
from sidecar.suppression.lookup import Lookup

_QUESTIONS = msgspec.json.Decoder(Question)


@click.command(
    "explain",
    cls=Command,
    examples=[
        "sidecar explain --config sidecar.toml --peer 203.0.113.9 --from '' \\\n    --to x@b.example.com --message oob.eml",
        "sidecar explain --config sidecar.toml --batch questions.jsonl",
        "sidecar explain --config sidecar.toml --record /var/lib/sidecar/journal",
        "grep '\"91.92.251.215\"' kumomta.log |\n    sidecar explain --config sidecar.toml --record -",
        "sidecar explain --config sidecar.toml --disagreements \\\n    --record /var/log/kumomta",
    ],
    statuses={
        0: "every question is answered, also if the message is rejected or a record disagrees",
        1: "some question or record cannot be judged, there is no record, or --disagreements lists one",
    },
)
@config_option
@click.option("--peer", metavar="IP[:PORT]", help="The peer that connects.")
@click.option("--listener", metavar="IP:PORT", help="The MTA's own end of the connection.")
@click.option("--helo", metavar="NAME", help="The name in the peer's HELO or EHLO.")
@click.option("--auth", metavar="ID", help="The login of the peer (SMTP AUTH).")
@click.option("--from", "sender", metavar="ADDR", help="The envelope sender; '' is the null sender.")
@click.option("--to", metavar="ADDR", multiple=True, help="A recipient; can be repeated.")
@click.option(
    "--message",
    metavar="FILE",
    type=ExistingPath(exists=True, dir_okay=False),
    help="The message; without it, the answer ends at RCPT.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object, with --record one for each record.")
@click.option(
    "--batch",
    metavar="FILE",
    type=ExistingPath(exists=True, dir_okay=False, allow_dash=True),
    help="Many questions, one JSON object on each line; '-' is stdin.",
)
@click.option(
    "--record",
    metavar="PATH",
    type=ExistingPath(exists=True, allow_dash=True, path_type=Path),
    help="Records of past mail: a file, a folder of segments, plain or zstd, '-' for stdin, or nats:// for a stream.",
)
@click.option("--disagreements", is_flag=True, help="With --record: list only what this configuration decides otherwise.")
@click.option("--follow", is_flag=True, help="With --disagreements: wait for new records, until Ctrl-C.")
def command(  # noqa: PLR0913 - one for each option
    config: Path | None,
    *,
    as_json: bool,
    batch: str | None,
    record: Path | None,
    disagreements: bool,
    follow: bool,
    **asked: Any,  # noqa: ANN401 - the fields of Question
) -> None:
    """Show what happens to a message, and why, without an MTA. The answer comes from the same code as in the milter.

    With --record: explain records, the sidecar's or KumoMTA's. The answer shows whether this configuration accepts or rejects
    the message, which line decides, and what to change for the opposite. More than ten records are counted in totals; with
    --json each has its own line.

    With --disagreements: list each record that this configuration decides otherwise, with the rule: accepted messages that it
    rejects, and rejected messages that it accepts. Records that cannot be compared are counted. This shows whether a node runs
    with other files.
    """
    asked["to"] = list(asked["to"])
    _check_usage(asked, batch=batch, record=record, disagreements=disagreements, follow=follow)
    # Warnings are for `check`.
    settings = settings_or_exit(config)
    if record is not None and disagreements:
        from sidecar.commands.explain.disagreements import explain_disagreements  # noqa: PLC0415 - as below

        sys.exit(explain_disagreements(settings, record, as_json=as_json, follow=follow))
    if record is not None:
        from sidecar.commands.explain.records import explain_records  # noqa: PLC0415 - a question does not wait for these imports

        sys.exit(explain_records(settings, record, as_json=as_json))
    evaluator = Evaluator(settings, suppression=Lookup())
    if batch is not None:
        sys.exit(_answer_batch(evaluator, batch))
    question = Question(**asked)
    try:
        explanation = _answer(evaluator, question, Path())
    except (ValueError, OSError) as error:
        raise click.ClickException(f"The question cannot be asked: {error}.") from error
    if as_json:
        print_json(explanation)
        return
    if evaluator.policy.depends_on_listener and question.listener is None:
        click.echo("Some rules apply only to one listener; without --listener, they are not used.", err=True)
    print_lines(explanation_words(explanation, question.peer))


def _check_usage(asked: dict[str, Any], *, batch: str | None, record: Path | None, disagreements: bool, follow: bool) -> None:
    """Raise UsageError unless there is one question, or one source of questions or records."""
    has_own = any(value not in (None, []) for value in asked.values())  # '' is the null sender
    whole = None not in (asked["peer"], asked["sender"]) and asked["to"]
    for is_wrong, text in (
        (disagreements and record is None, "--disagreements compares records: name them with --record."),
        (follow and not disagreements, "--follow needs --disagreements; `sidecar tail` follows a log without comparing."),
        (
            follow and record is not None and (record == STDIN or is_stream(record)),
            "--follow needs a file or a folder; without it, standard input or a stream is read to its end.",
        ),
        (batch is not None and record is not None, "--batch and --record do not go together."),
        (batch is not None and has_own, "--batch has its own questions; only --config can be added."),
        (record is not None and has_own, "--record has the questions; only --config, --json and --disagreements can be added."),
        (
            batch is None and record is None and not whole,
            "A question needs --peer, --from and --to; or use --batch for many questions, or --record for records.",
        ),
    ):
        if is_wrong:
            raise click.UsageError(text)
    require_utf8(*(value for name, value in asked.items() if name != "to"), *asked["to"])


def _answer(evaluator: Evaluator, question: Question, folder: Path) -> Explanation:
    """Answer one question; the path of its message is relative to `folder`. Raises ValueError and OSError."""
    message = None if question.message is None else (folder / question.message).read_bytes()
    return evaluator.explain(question, message, clock=time.time, new_id=uuid4)


def _answer_batch(evaluator: Evaluator, batch: str) -> int:
    """Answer line by line. A line that is not a question gets an answer with the error, and the exit status is 1."""
    folder = Path(batch).parent
    status = 0
    with click.open_file(batch, "rb") as lines:
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            try:
                print_json(_answer(evaluator, _QUESTIONS.decode(line), folder))
            except (ValueError, OSError) as error:
                print_json({"error": f"line {number} cannot be asked: {error}"})
                status = 1
    return status
