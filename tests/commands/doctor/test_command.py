"""`sidecar doctor`: findings in text and in JSON, and the sources of the MTA's settings."""

import json
import os
import re
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from sidecar.cli import main

GOOD = """\
smtpd_milters = inet:127.0.0.1:8893
mynetworks = 127.0.0.0/8 [::1]/128
mydestination =
smtpd_relay_restrictions = permit_mynetworks, reject_unauth_destination
relay_domains = {folder}/map
parent_domain_matches_subdomains =
smtpd_forbid_bare_newline = normalize
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a configuration, and Postfix's settings that fit it."""
    (tmp_path / "sidecar.toml").write_text('listener_domains = ["domains.toml"]\n')
    (tmp_path / "domains.toml").write_text('["example.com"]\nrelay_to = true\n')
    (tmp_path / "main.cf").write_text(GOOD.format(folder=tmp_path))
    (tmp_path / "map").write_text("example.com\n")
    return tmp_path


def doctor(folder: Path, *arguments: str, stdin: str | None = None) -> Result:
    return CliRunner().invoke(main, ["doctor", "--config", str(folder / "sidecar.toml"), *arguments], input=stdin)


def test_fits(folder: Path) -> None:
    """If all settings fit, the answer is one line and status 0. The doctor reads the file that relay_domains names."""
    result = doctor(folder, "--postfix", str(folder / "main.cf"))
    assert (result.exit_code, result.output) == (0, "Postfix fits the sidecar.\n")


def test_stdin(folder: Path) -> None:
    """The output of postconf can be standard input. A finding about it has no file and line."""
    text = GOOD.format(folder=folder).replace("8893", "1")
    result = doctor(folder, "--postfix", "-", stdin=text)
    assert result.exit_code == 1
    finding, summary = result.output.splitlines()
    assert finding.startswith("error: smtpd_milters: smtpd_milters names inet:127.0.0.1:1, ")
    assert finding.endswith(" Begin smtpd_milters with inet:127.0.0.1:8893.")
    assert summary == "Postfix does not fit the sidecar: 1 error and 0 warnings."


def test_warnings(folder: Path) -> None:
    """With warnings only, the status is 0. Each has a file and line."""
    path = folder / "main.cf"
    path.write_text(path.read_text() + "milter_protocol = 4\n")
    result = doctor(folder, "--postfix", str(path))
    assert result.exit_code == 0
    assert result.output.splitlines()[0].startswith(f"{path}:8: warning: milter_protocol: ")
    assert result.output.splitlines()[1] == "Postfix fits the sidecar, with 1 warning."


def test_json(folder: Path) -> None:
    """The JSON object has the shape of `sidecar check --json`."""
    path = folder / "main.cf"
    path.write_text(path.read_text() + "milter_default_action = accept\n")
    result = doctor(folder, "--postfix", str(path), "--json")
    answer = json.loads(result.stdout)
    assert (result.exit_code, list(answer)) == (1, ["findings"])
    (finding,) = answer["findings"]
    assert list(finding) == ["level", "code", "file", "line", "key", "text", "fix", "more", "lines"]
    assert (finding["level"], finding["code"]) == ("error", "unsafe_default_action")
    assert (finding["file"], finding["line"]) == (str(path), 8)
    assert finding["key"] == "milter_default_action"


def test_sendmail(folder: Path) -> None:
    """The doctor checks Sendmail's settings in the same way."""
    (folder / "sendmail.cf").write_text("O InputMailFilters=sidecar\nXsidecar, S=inet:8893@127.0.0.1\n")
    result = doctor(folder, "--sendmail", str(folder / "sendmail.cf"))
    assert result.exit_code == 1
    assert "sendmail.cf:2: error: Xsidecar: No F is not safe" in result.output
    assert result.output.splitlines()[-1].startswith("Sendmail does not fit the sidecar: ")


def test_how_to_call(folder: Path) -> None:
    """Without an MTA's settings, or with two, the error says what to write."""
    for arguments in ((), ("--postfix", "-", "--sendmail", "-")):
        result = doctor(folder, *arguments)
        assert result.exit_code == 2
        assert result.stderr.endswith("Error: Name the MTA's settings, either with --postfix or with --sendmail.\n")


@pytest.mark.parametrize("option", ["--postfix", "--sendmail"])
def test_nothing_to_check(folder: Path, option: str) -> None:
    """A postconf that failed prints nothing: that is an error, not a finding about defaults."""
    (folder / "empty").write_text(" \n")
    for given, named in (("-", "Standard input"), (str(folder / "empty"), str(folder / "empty"))):
        result = doctor(folder, option, given, stdin="")
        assert (result.exit_code, result.stdout) == (1, "")
        assert result.stderr.startswith(f"Error: {named} is empty. ")


def test_unreadable_files(folder: Path) -> None:
    """A map that is missing, a FIFO or a folder is a finding, and the doctor does not wait for it."""
    (folder / "map").unlink()
    for make in (lambda _path: None, os.mkfifo, Path.mkdir):
        make(folder / "map")
        result = doctor(folder, "--postfix", str(folder / "main.cf"))
        assert "The doctor cannot read" in result.output
        if (folder / "map").is_fifo():
            (folder / "map").unlink()


def test_nothing_unescaped(folder: Path) -> None:
    """Text of an MTA's settings is escaped on the terminal."""
    result = doctor(folder, "--postfix", "-", stdin="smtpd_milters = inet:\x1b[31m:1\nrelay_domains = \x1b[2Jx.example\n")
    assert "\x1b" not in result.output
    assert "\\u001b" in result.output


@pytest.mark.parametrize(("option", "mta"), [("--postfix", "postfix"), ("--sendmail", "sendmail")])
def test_command_to_run(folder: Path, option: str, mta: str) -> None:
    """The command in a fix names the settings file that was checked: without it the built-in settings would be exported."""
    texts = {"postfix": "relay_domains = other.example\n", "sendmail": "Kaccess hash /missing\n"}
    result = doctor(folder, option, "-", stdin=texts[mta])
    (command,) = set(re.findall(r"(sidecar export [^.]*sidecar\.toml --output \S+?)\.?(?:\s|$)", result.output))
    assert command.startswith(f"sidecar export {mta} --config {folder}/sidecar.toml --output /etc/")
    config = folder / "my settings.toml"
    (folder / "sidecar.toml").rename(config)
    result = CliRunner().invoke(main, ["doctor", "--config", str(config), option, "-"], input=texts[mta])
    assert f"sidecar export {mta} --config '{config}' --output /etc/" in result.output


def test_only_absolute_paths(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The doctor does not read a file by a relative path: the MTA's working directory is a different one."""
    monkeypatch.chdir(folder)
    (folder / "access").write_text("To:example.com RELAY\n")
    (folder / "sendmail.cf").write_text("Kaccess hash access\n")
    assert "The doctor cannot read access, " in doctor(folder, "--sendmail", "sendmail.cf").output
