"""`sidecar parse`, as an operator calls it."""

import json
import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from sidecar.commands.parse import command
from sidecar.config.rules import iana_rules
from tests import DATA

REPORTS = DATA / "reports"

CORPUS = sorted(REPORTS.glob("*.eml"))


def test_json() -> None:
    """With --json there is one object a file on a line of its own, in order, with the file as it was named."""
    result = CliRunner().invoke(command, ["--json", "--from", "jo@remote.example", *map(str, CORPUS)])
    assert result.exit_code == 0
    lines = result.stdout_bytes.splitlines()
    assert len(lines) == len(CORPUS)
    for line, path in zip(lines, CORPUS, strict=True):
        expected = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
        found = json.loads(line)
        classes = found.pop("bounce_classification", None)
        assert found == {"file": str(path)} | expected
        assert list(found)[:4] == ["file", "kind", "why", "report"]
        assert (classes is not None) == (found["kind"] == "oob")
        assert len(classes or ()) == (len(found["report"]["per_recipient"]) if classes is not None else 0)


def test_standard_input() -> None:
    """A dash is standard input."""
    result = CliRunner().invoke(command, ["--json", "-"], input=(REPORTS / "oob-postfix.eml").read_bytes())
    assert result.exit_code == 0
    answer = json.loads(result.stdout_bytes)
    assert (answer["file"], answer["kind"]) == ("-", "oob")


def test_no_report_is_no_error() -> None:
    """A message that is no report is answered with the reason and exit status 0."""
    result = CliRunner().invoke(command, [str(REPORTS / "none-vacation.eml")])
    assert result.exit_code == 0
    assert "not a report, because it is an automatic reply" in result.stdout


@pytest.mark.parametrize("options", [[], ["--json"]])
def test_unreadable_file(options: list[str], tmp_path: Path) -> None:
    """A file that cannot be read is named on standard error, the others are still printed, and the status is 1."""
    files = [str(tmp_path / "missing\x1b[31m.eml"), str(REPORTS / "arf-full.eml" / "x"), str(REPORTS / "arf-full.eml")]
    result = CliRunner().invoke(command, [*options, *files])
    assert result.exit_code == 1
    assert result.stderr.count(" cannot be read: ") == 2
    assert r"missing\u001b[31m.eml cannot be read: No such file or directory." in result.stderr
    assert "abuse" in result.stdout
    assert len(result.stdout.splitlines()) > (0 if options else 1)


def test_directory(tmp_path: Path) -> None:
    """A directory stands for its *.eml, in order, as in the quarantine; one that has none is worth a word and no error."""
    for name in ("b.eml", "a.eml", "a.json", ".bytes"):
        (tmp_path / name).write_bytes((REPORTS / "oob-postfix.eml").read_bytes())
    (tmp_path / "empty").mkdir()
    result = CliRunner().invoke(command, ["--json", str(tmp_path), str(tmp_path / "empty")])
    assert result.exit_code == 0
    assert [json.loads(line)["file"] for line in result.stdout_bytes.splitlines()] == [
        str(tmp_path / "a.eml"),
        str(tmp_path / "b.eml"),
    ]
    assert result.stderr.splitlines()[-1] == f"{tmp_path / 'empty'} has no visible file named *.eml."


def test_wrong_usage() -> None:
    """Without a file the status is 2."""
    assert CliRunner().invoke(command, []).exit_code == 2


def test_name_that_is_not_utf8(tmp_path: Path) -> None:
    """A file name that is not UTF-8 is read and printed all the same."""
    path = tmp_path / "a\udcff.eml"
    path.write_bytes(b"\n")
    result = CliRunner().invoke(command, ["--json", str(path)])
    assert result.exit_code == 0
    assert json.loads(result.stdout_bytes)["file"].endswith("a\ufffd.eml")


@pytest.mark.parametrize(
    ("name", "lines"),
    [
        (
            "oob-sendmail-two-recipients",
            [
                "a bounce report: 1 recipient failed, 1 delayed",
                "  reporting MTA:    relay.example.org (dns)",
                "  failed:           nobody@example.net",
                "    status:         5.1.1",
                "    class:          InvalidRecipient (iana:{invalid})",
                "    diagnostic:     550 5.1.1 <nobody@mailbox.example.net>... User unknown (SMTP)",
                "  delayed:          slow@example.edu",
                "    retried until:  2024-07-07T13:55:37Z",
                "    log id:         q12BXaT1023451",
                "  original message: 4 lines",
            ],
        ),
        (
            "arf-full",
            [
                "a feedback report: 'abuse'",
                "  source IP:        192.0.2.25",
                "  incidents:        3",
                "  recipient:        user@isp.example",
                "  recipient:        second@isp.example",
                "  URI:              https://example.com/offer",
            ],
        ),
        ("oob-delayed-only", ["  original message: not returned"]),
        ("oob-original-recipient-only", ["  failed:           user@example.net"]),
        ("oob-final-recipient-empty", ["  failed:           (the recipient is not named)"]),
    ],
)
def test_summary(name: str, lines: list[str]) -> None:
    """Without --json people can read what the report says."""
    first = next(rule.where.line for rule in iana_rules() if rule.bounce_class == "InvalidRecipient")
    lines = [line.format(invalid=first) for line in lines]
    result = CliRunner().invoke(command, [str(REPORTS / f"{name}.eml")])
    assert result.exit_code == 0
    printed = result.stdout.splitlines()
    assert printed[0] == f"{REPORTS / name}.eml: {lines[0]}" or lines[0] in printed
    assert [line for line in lines[1:] if line not in printed] == []


def classes(name: str, *options: str) -> list[str | None]:
    """Return the class of each recipient of a sample report."""
    result = CliRunner().invoke(command, ["--json", *options, str(REPORTS / f"{name}.eml")])
    assert result.exit_code == 0
    found: list[str | None] = json.loads(result.stdout_bytes)["bounce_classification"]
    return found


def test_classes(tmp_path: Path) -> None:
    """Each recipient that was not reached has a class: by the rules of the settings, or else by those of the program."""
    config, rules = tmp_path / "sidecar.toml", tmp_path / "rules.toml"
    rules.write_text("[rules]\nOwn = ['User unknown']\n", encoding="utf-8")
    config.write_text("bounce_classifier = ['rules.toml']\n", encoding="utf-8")
    two = "oob-sendmail-two-recipients"
    assert classes(two) == ["InvalidRecipient", "NoAnswerFromHost"]
    assert classes(two, "--config", str(config)) == ["Own", "Uncategorized"]
    assert classes("oob-all-five-actions") == ["Uncategorized", "Uncategorized", None, None, None]
    config.write_text("", encoding="utf-8")
    assert classes(two, "--config", str(config)) == ["Uncategorized", "Uncategorized"]
    printed = CliRunner().invoke(command, ["--config", str(config), str(REPORTS / f"{two}.eml")]).stdout
    assert "    class:          Uncategorized\n" in printed


def test_settings_with_errors(tmp_path: Path) -> None:
    """Settings with errors are reported, line by line, and nothing is parsed."""
    config = tmp_path / "sidecar.toml"
    config.write_text("bounce_classifier = ['none.toml']\n", encoding="utf-8")
    result = CliRunner().invoke(command, ["--config", str(config), str(REPORTS / "oob-postfix.eml")])
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == (
        f'{config}:1: error: bounce_classifier: The file "none.toml" does not exist. Create it or name another.\n'
    )


@pytest.mark.parametrize("path", CORPUS, ids=lambda path: path.stem)
def test_nothing_a_terminal_obeys(path: Path) -> None:
    """The summary of any message is plain printable lines, whatever the message holds."""
    evil = b"\x1b]0;owned\x07\x9b31m\xe2\x80\xae\x85"
    message = path.read_bytes().replace(b"example", evil)
    result = CliRunner().invoke(command, ["-"], input=message)
    assert result.exit_code == 0
    assert all(line.isprintable() for line in result.stdout.split("\n"))


@pytest.mark.parametrize(("setting", "kind"), [("", "oob"), ('compat = "kumomta"\n', None)])
def test_compat(tmp_path: Path, setting: str, kind: str | None) -> None:
    """With settings that read as KumoMTA does, a message that KumoMTA cannot read is no report, and the reason is shown."""
    config = tmp_path / "sidecar.toml"
    config.write_text(setting, encoding="utf-8")
    printed = CliRunner().invoke(command, ["--json", "--config", str(config), str(REPORTS / "oob-action-sloppy.eml")]).stdout
    answer = json.loads(printed)
    assert answer["kind"] == kind
    assert ("its action is invalid" in answer["why"]) is (kind is None)


TEXT = b"Subject: undelivered\n\nHi. This is the qmail-send program at mx.remote.example.\n\n<gone@remote.example>:\n550 gone\n"


@pytest.mark.parametrize(
    ("options", "header", "kind"),
    [
        ([], b"Return-Path: <>\nFrom: a@remote.example\n", "oob"),
        ([], b"Return-Path: <MAILER-DAEMON>\nFrom: a@remote.example\n", "oob"),
        ([], b"Return-Path: <a@remote.example>\nFrom: MAILER-DAEMON@remote.example\n", "oob"),
        (["--from", ""], b"From: a@remote.example\n", "oob"),
        (["--from", "<>"], b"Return-Path: <a@remote.example>\nFrom: a@remote.example\n", "oob"),
        (["--from", "a@remote.example"], b"Return-Path: <>\nFrom: a@remote.example\nSubject: hello\n", None),
    ],
)
def test_bounces_in_text_form(options: list[str], header: bytes, kind: str | None) -> None:
    """The envelope sender is that of the option, or else of Return-Path; a header field can prove a mailer besides."""
    text = TEXT if kind else TEXT.partition(b"\n")[2]
    result = CliRunner().invoke(command, ["--json", *options, "-"], input=header + text)
    found = json.loads(result.stdout)
    assert (found["kind"], found.get("read_as")) == (kind, kind and "text:qmail")


def test_an_unknown_sender_is_named_where_it_matters() -> None:
    """A text that is a bounce only from the null sender; and one that is none."""
    letter = b"From: noreply@remote.example\nSubject: hello\n\n"
    for message, is_named in ((letter + TEXT.partition(b"\n\n")[2], True), (letter + b"Hello\n", False)):
        result = CliRunner().invoke(command, ["--json", "-"], input=message)
        found = json.loads(result.stdout)
        assert found["kind"] is None
        assert ("its envelope sender is not known: with --from '' it is a bounce report" in found["why"]) is is_named
        result = CliRunner().invoke(command, ["--json", "--from", "a@remote.example", "-"], input=message)
        assert "is not known" not in result.stdout


@pytest.mark.parametrize(("line", "is_named"), [('text_bounces = "reject"', True), ('compat = "kumomta"', False)])
def test_settings_can_turn_text_bounces_off(line: str, is_named: bool, tmp_path: Path) -> None:
    """As in the milter. The reason names the setting that exists for this."""
    (tmp_path / "sidecar.toml").write_text(f"{line}\n")
    options = ["--json", "--config", str(tmp_path / "sidecar.toml"), "--from", "", "-"]
    result = CliRunner().invoke(command, options, input=TEXT)
    found = json.loads(result.stdout)
    assert found["kind"] is None
    assert ('with text_bounces = "accept" it is a bounce report: 1 recipient failed' in found["why"]) is is_named


def test_derived_values_are_named() -> None:
    """In the summary for people, too."""
    result = CliRunner().invoke(command, ["--from", "", "-"], input=TEXT)
    assert re.search(r"^ +derived: +peer_address.name, recipient, response.code, ", result.stdout, re.MULTILINE)
