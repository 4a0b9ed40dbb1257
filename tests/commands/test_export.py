"""`sidecar export`: its files, and when it writes none."""

import json
import re
import shlex
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from sidecar.cli import main


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a configuration."""
    (tmp_path / "sidecar.toml").write_text('listener_domains = ["domains.toml"]\n')
    write(
        tmp_path,
        '["example.com"]\nrelay_to = true\n["*.wild.example"]\nlog_oob = true\n["www.wild.example"]\nlog_oob = false\n',
    )
    return tmp_path


def write(folder: Path, domains: str) -> None:
    (folder / "domains.toml").write_text(domains)


def export(folder: Path, *arguments: str) -> Result:
    return CliRunner().invoke(main, ["export", *arguments, "--config", str(folder / "sidecar.toml")])


def body(text: str) -> list[str]:
    return [line for line in text.splitlines() if not line.startswith("#")]


def test_postfix(folder: Path) -> None:
    """Postfix gets a file of patterns. Its head has the command that made it, and the lines that main.cf needs."""
    result = export(folder, "postfix")
    assert (result.exit_code, result.stderr) == (0, "")
    assert body(result.stdout) == ["!www.wild.example", "!.www.wild.example", "example.com", ".wild.example"]
    assert f"Made by: sidecar export postfix --config {folder}/sidecar.toml\n" in result.stdout
    assert "relay_domains = /etc/postfix/sidecar-relay-domains" in result.stdout


def test_sendmail(folder: Path) -> None:
    """Sendmail gets lines for its access map."""
    result = export(folder, "sendmail")
    assert result.exit_code == 0
    assert body(result.stdout)[:2] == ["To:example.com\tRELAY", "To:.example.com\tSKIP"]
    assert "To:.wild.example\tRELAY" in body(result.stdout)
    assert f"Made by: sidecar export sendmail --config {folder}/sidecar.toml\n" in result.stdout


def test_json(folder: Path) -> None:
    """--json prints one object with the same text and what is left out. It does not write a file."""
    write(folder, '["bounce.example.com"]\nlog_oob = true\n["[192.0.2.1]"]\nlog_oob = true\n')
    answer = json.loads(export(folder, "postfix", "--json").stdout)
    assert answer == {"mta": "postfix", "text": export(folder, "postfix").stdout, "left_out": ["[192.0.2.1]"]}
    assert export(folder, "postfix", "--json", "--output", "x").exit_code == 2


def test_output(folder: Path) -> None:
    """The file is replaced in one step, and the MTA's user can read it. No other file is left."""
    target = folder / "map"
    target.write_text("old")
    before = set(folder.iterdir())
    result = export(folder, "postfix", "--output", str(target))
    assert (result.exit_code, result.output) == (0, "")
    assert body(target.read_text()) == body(export(folder, "postfix").stdout)
    assert stat.S_IMODE(target.stat().st_mode) == 0o644
    assert set(folder.iterdir()) == before


def test_output_through_a_link(folder: Path) -> None:
    """A link stays one: the file that it names is replaced."""
    (folder / "link").symlink_to("map")
    assert export(folder, "postfix", "--output", str(folder / "link")).exit_code == 0
    assert (folder / "link").is_symlink()
    assert body((folder / "map").read_text()) == body(export(folder, "postfix").stdout)


def test_output_into_a_pipe(folder: Path) -> None:
    """A pipe or device is written directly, and stays."""
    words = [
        sys.executable,
        "-m",
        "sidecar",
        "export",
        "postfix",
        "--config",
        str(folder / "sidecar.toml"),
        "--output",
        "/dev/stdout",
    ]
    done = subprocess.run(words, capture_output=True, check=True)
    assert "example.com" in body(done.stdout.decode())
    assert Path("/dev/stdout").is_symlink()


def test_output_fails(folder: Path) -> None:
    """A file that cannot be written is one sentence and status 1. No other file is left."""
    (folder / "map").mkdir()
    before = set(folder.iterdir())
    for target in (folder / "map", folder / "missing" / "map"):
        result = export(folder, "postfix", "--output", str(target))
        assert result.exit_code == 1
        assert "cannot be written" in result.stderr
    assert set(folder.iterdir()) == before


@pytest.mark.parametrize("mta", ["postfix", "sendmail"])
def test_everything(folder: Path, mta: str) -> None:
    """A "*" that accepts mail is not exported: the error names it and the fix, and the old file stays."""
    write(folder, '["*"]\nlog_oob = true\n["example.com"]\nrelay_to = true\n')
    (folder / "map").write_text("old")
    result = export(folder, mta, "--output", str(folder / "map"))
    assert result.exit_code == 1
    assert '"*" (domains.toml:1)' in result.stderr
    assert "open relay" in result.stderr
    assert (folder / "map").read_text() == "old"


def test_star_that_accepts_nothing(folder: Path) -> None:
    """A "*" that accepts nothing does not prevent the export."""
    write(folder, '["*"]\nrelay_to = false\n["example.com"]\nrelay_to = true\n')
    assert body(export(folder, "postfix").stdout) == ["example.com"]


def test_address_literal(folder: Path) -> None:
    """An address literal is left out, and a warning names it."""
    write(folder, '["[192.0.2.1]"]\nrelay_to = true\n')
    result = export(folder, "postfix")
    assert (result.exit_code, body(result.stdout)) == (0, [])
    assert result.stderr == "[192.0.2.1] is left out: Postfix cannot relay to an address literal.\n"


@pytest.mark.parametrize("mta", ["postfix", "sendmail"])
def test_no_domains(tmp_path: Path, mta: str) -> None:
    """Settings without listener domains are the wrong ones: the old file stays. The error says what to write."""
    (tmp_path / "sidecar.toml").write_text("")
    (tmp_path / "map").write_text("old")
    named = export(tmp_path, mta, "--output", str(tmp_path / "map"))
    unnamed = CliRunner().invoke(main, ["export", mta, "--output", str(tmp_path / "map")])
    assert (named.exit_code, unnamed.exit_code) == (1, 1)
    assert named.stderr.startswith(f"Error: {tmp_path}/sidecar.toml has no listener domains, ")
    assert unnamed.stderr.splitlines()[-1].startswith("Error: These settings have no listener domains, ")
    assert all("Write listener_domains into the settings file" in each.stderr for each in (named, unnamed))
    assert (tmp_path / "map").read_text() == "old"


def test_nothing_open(folder: Path) -> None:
    """Listener domains that are all closed give an empty list: the MTA relays for no external host."""
    write(folder, '["send.example"]\nrelay_from = ["10.0.0.0/8"]\n')
    assert (export(folder, "postfix").exit_code, body(export(folder, "postfix").stdout)) == (0, [])


def test_command_in_the_file(folder: Path) -> None:
    """The command in the file makes the same file again. No name of a file ends the comment."""
    odd = folder / "a b\nexample.org"
    assert export(folder, "postfix", "--output", str(odd)).exit_code == 0
    made = odd.read_text()
    assert "example.org" not in body(made)
    target = folder / "a b"
    assert export(folder, "postfix", "--output", str(target)).exit_code == 0
    (command,) = re.findall(r"Made by: (.*)", made := target.read_text())
    target.unlink()
    assert CliRunner().invoke(main, shlex.split(command)[1:]).exit_code == 0
    assert target.read_text() == made


def test_wrong_settings(folder: Path) -> None:
    """Settings with errors are not exported."""
    write(folder, '["example.com"]\nrelay_too = true\n')
    result = export(folder, "postfix")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "relay_too" in result.stderr
