"""`sidecar simulate`, as an operator calls it. The MTA is a made-up one; tests/mta has the real ones."""

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from sidecar.commands.simulate.command import command
from sidecar.commands.simulate.shapes import SHAPES
from tests import ROOT, preloaded
from tests.commands.simulate.fake_mta import FakeMta
from tests.mta.processes import wait_until

TO = "news-17@bounce.example"

DOMAINS = """\
["bounce.example"]
log_oob = "LogThenDrop"
"""

NO_POLICY = "There is no /etc/sidecar/sidecar.toml: no expected results are worked out.\n"


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """Settings whose journal is there and empty: the MTA of these tests asks no sidecar."""
    (tmp_path / "journal").mkdir()
    (tmp_path / "domains.toml").write_text(DOMAINS)
    path = tmp_path / "sidecar.toml"
    path.write_text('listener_domains = ["domains.toml"]\nstate_directory = "state"\n[journal]\ndirectory = "journal"\n')
    return path


def run(*arguments: str | Path, **more: Any) -> Result:
    return CliRunner().invoke(command, list(map(str, arguments)), **more)


def send(mta: FakeMta, *arguments: str | Path, **more: Any) -> Result:
    return run("--mta", f"127.0.0.1:{mta.port}", "--to", TO, *arguments, **more)


def test_list() -> None:
    """--list shows every shape with its kind and what it is, and needs nothing else."""
    result = run("--list")
    assert result.exit_code == 0
    lines = result.stdout.splitlines()[1:]
    assert [line.split()[:2] for line in lines] == [[shape.name, shape.kind] for shape in SHAPES]
    assert all(line.rstrip().endswith(shape.summary) for line, shape in zip(lines, SHAPES, strict=True))


def test_list_for_machines() -> None:
    """--list --json is one object a shape."""
    objects = [json.loads(line) for line in run("--list", "--json", "--shape", "spam").stdout.splitlines()]
    assert objects == [{"shape": "spam", "kind": "none", "summary": "plain spam"}]


def test_every_message_answered() -> None:
    """Without settings every shape is sent once, each answer is shown, and the status is 0."""
    with FakeMta() as mta:
        result = send(mta)
    assert result.exit_code == 0
    assert len(mta.content) == len(SHAPES)
    assert all(re.search(rf"(?m)^sent  {shape.name} .*250 2[.]0[.]0 Ok: queued as 4dSim *$", result.stdout) for shape in SHAPES)
    assert result.stdout.endswith("36 messages: 36 accepted; --config shows what is expected.\n")
    assert "relay host" in result.stdout
    assert result.stderr == NO_POLICY


def test_envelopes() -> None:
    """Bounces have the null sender, complaints that of --from, and every --to gets each message."""
    with FakeMta() as mta:
        result = send(mta, "--to", "b@fbl.example", "--from", "me@own.example", "--shape", "postfix", "--shape", "yahoo")
    said = [line for line in mta.heard if line.startswith(("MAIL", "RCPT"))]
    recipients = [f"RCPT TO:<{TO}>", "RCPT TO:<b@fbl.example>"]
    assert said == ["MAIL FROM:<>", *recipients, "MAIL FROM:<me@own.example>", *recipients]
    token = re.search(r"are marked ([0-9a-f]{8})[.]", result.stdout)
    assert token is not None
    assert all(f"\r\nMessage-Id: <{token[1]}-".lower().encode() in content.lower() for content in mta.content)


def test_answers_on_a_terminal() -> None:
    """The table has only the codes, and the long answers are below it, once each. A pipe has whole answers in the table."""
    answer = "450 4.7.1 try again later, see https://mx.example/why"
    shapes = ("--shape", "postfix", "--shape", "yahoo")
    with FakeMta(rcpt=answer.encode() + b"\r\n") as mta:
        terminal = re.sub(r"\x1b\[[\d;]*m", "", send(mta, *shapes, env={"FORCE_COLOR": "1"}).stdout)
        pipe = send(mta, *shapes).stdout
    assert re.search(r"(?m)^sent  yahoo +arf +<fbl@bounce.example> +450 4.7.1 *$", terminal)
    assert f"\nAnswers:\n  all: {answer}\n" in terminal
    assert terminal.count(answer) == 1
    assert pipe.count(answer) == 2
    assert "Answers:" not in pipe


def test_the_default_sender_exists() -> None:
    """Without --from the sender has the domain of the first --to: an MTA that looks senders up in the DNS accepts it."""
    with FakeMta() as mta:
        send(mta, "--shape", "yahoo")
        run("--mta", f"127.0.0.1:{mta.port}", "--to", "x@b\u00fccher.example", "--shape", "yahoo")
    said = [line for line in mta.heard if line.startswith("MAIL")]
    assert said == ["MAIL FROM:<fbl@bounce.example>", "MAIL FROM:<fbl@xn--bcher-kva.example> SMTPUTF8 BODY=8BITMIME"]


REJECTIONS = [
    b"450 4.1.8 <fbl@bounce.example>: Sender address rejected: Domain not found",
    b"550 5.7.27 <fbl@bounce.example>: Sender address rejected: Domain bounce.example does not accept mail (nullMX)",
    b"550 5.1.7 <fbl@bounce.example>: Sender address rejected: undeliverable address",
    b"553 5.1.8 <fbl@bounce.example>... Domain of sender address fbl@bounce.example does not exist",
    b"550 Sender verify failed",
]


@pytest.mark.parametrize("rejection", REJECTIONS)
@pytest.mark.parametrize("verb", ["mail", "rcpt"])
def test_a_sender_that_the_mta_does_not_accept(rejection: bytes, verb: str, config: Path) -> None:
    """The notes say which option to pass, with and without settings; the null sender has no domain that could be missing."""
    for more in ((), ("--config", config, "--bind", "127.0.0.2")):
        with FakeMta(**{verb: rejection + b"\r\n"}) as mta:
            result = send(mta, "--shape", "yahoo", "--shape", "postfix", *more)
        notes = result.stdout.partition("Notes:\n")[2]
        assert f"yahoo: the MTA does not accept the sender <fbl@bounce.example> ({rejection.decode()}): add --from" in notes
        assert "postfix: the MTA does not accept" not in notes


def test_a_helo_name_that_the_mta_does_not_accept() -> None:
    """The notes say which option to pass."""
    with FakeMta(rcpt=b"450 4.7.1 <x.simulate.example>: Helo command rejected: Host not found\r\n") as mta:
        result = send(mta, "--shape", "postfix")
    assert re.search(
        r"postfix: the MTA does not accept the HELO name \S+-postfix.simulate.example \(450 .*--helo", result.stdout
    )


def test_an_mta_that_asks_nobody(config: Path) -> None:
    """With settings, an MTA that takes spam without asking the sidecar is found out: the status is 1."""
    with FakeMta() as mta:
        result = send(mta, "--config", config, "--bind", "127.0.0.2", "--shape", "spam", "--shape", "postfix")
    assert result.exit_code == 1
    assert result.stdout.startswith(
        f"As 127.0.0.2, an external host, to 127.0.0.1:{mta.port} for {TO}. The messages are marked "
    )
    assert re.search(r"(?m)^differs  spam .*rejected at the end *$", result.stdout)
    assert "spam: it should have been rejected at the end, and was accepted without a record" in result.stdout
    assert "postfix: the answer is right, but the journal has none of the records (Reception, OOB)" in result.stdout
    assert result.stdout.endswith("2 messages: 2 accepted; 2 not as expected.\n")


def test_the_mtas_own_rules(config: Path) -> None:
    """What the MTA rightly rejects without asking is as it must be, and is said."""
    with FakeMta(rcpt=b"554 5.7.1 Relay access denied\r\n") as mta:
        arguments = ("--mta", f"127.0.0.1:{mta.port}", "--to", "a@elsewhere.example", "--config", config, "--bind", "127.0.0.2")
        result = run(*arguments, "--shape", "spam")
    assert result.exit_code == 0
    assert "spam: the MTA rejected it by its own rules, before it asked the sidecar" in result.stdout
    assert result.stdout.endswith("1 message: 1 rejected; all as expected.\n")


def test_a_relay_host_is_told(config: Path) -> None:
    """A relay host is called so, and gets the options that make it an external host."""
    with FakeMta() as mta:
        result = send(mta, "--config", config, "--shape", "spam")
    first, second = result.stdout.splitlines()[:2]
    assert first.startswith("As 127.0.0.1, a relay host, to ")
    assert second.startswith("127.0.0.1 is a relay host: 127.0.0.1 is in the default relay_hosts.")
    assert second.endswith("to see the results of an external host, add --bind 127.0.0.2.")
    assert re.search(r"(?m)^differs  spam .* relayed *$", result.stdout)


def test_without_a_journal(config: Path) -> None:
    """Where the journal cannot be read, answers alone are compared, and one sentence says so."""
    (config.parent / "journal").rmdir()
    with FakeMta() as mta:
        result = send(mta, "--config", config, "--bind", "127.0.0.2", "--shape", "postfix")
    assert result.exit_code == 0
    assert "records" not in result.stdout
    assert result.stderr.splitlines()[-1].startswith(f"There is no journal in {config.parent / 'journal'}, so no records are")


KEYS = [
    *("shape", "kind", "token", "mta", "peer", "listener", "helo", "sender", "recipients", "answer", "expected", "records"),
    *("agrees", "note"),
]


def test_json(config: Path) -> None:
    """--json is one object a shape on a line of its own, always with the same keys."""
    with FakeMta(end=b"550 5.7.1 relaying not permitted \xc2\x9b31m\r\n") as mta:
        without = send(mta, "--json", "--shape", "spam")
        result = send(mta, "--json", "--config", config, "--bind", "127.0.0.2", "--shape", "spam")
    assert "\x9b" not in result.stdout
    plain, compared = json.loads(without.stdout), json.loads(result.stdout)
    assert list(plain) == list(compared) == KEYS
    assert plain["expected"] is plain["records"] is plain["agrees"] is plain["note"] is None
    assert compared["expected"]["disposition"] == "rejected_at_end"
    assert compared["records"] == []
    assert compared["agrees"] is False
    assert compared["recipients"] == [{"address": TO, "answer": "250 2.1.5 Ok"}]
    assert compared["answer"] == "550 5.7.1 relaying not permitted \x9b31m"
    assert compared["helo"] == f"{compared['token']}-spam.simulate.example"


def test_hostile_answers() -> None:
    """What the MTA answers cannot play with the terminal."""
    with FakeMta(end=b"250 \x1b[31mred\xc2\x9b31m [bold]\r\n") as mta:
        result = send(mta, "--shape", "spam")
    assert r"250 \u001b[31mred\u009b31m [bold]" in result.stdout


def test_xclient_brings_its_name() -> None:
    """--xclient ADDR,HELO says EHLO with that name, and --helo does without XCLIENT."""
    with FakeMta() as mta:
        result = send(mta, "--xclient", "203.0.113.9,mx.remote.example", "--shape", "spam")
        send(mta, "--helo", "mx.own.example", "--shape", "spam")
    assert result.stdout.startswith("As 203.0.113.9 to ")
    names = [line for line in mta.heard if line.startswith("EHLO")]
    assert names == ["EHLO mx.remote.example", "EHLO mx.remote.example", "EHLO mx.own.example"]


def test_an_mta_that_is_not_there() -> None:
    """An MTA that cannot be reached is one sentence and status 1."""
    result = run("--mta", "127.0.0.1:1", "--to", TO)
    assert result.exit_code == 1
    assert result.stdout == ""
    assert result.stderr == NO_POLICY + "127.0.0.1:1 cannot be used: Connection refused. Is this the MTA, and is it running?\n"


def test_nothing_could_be_sent() -> None:
    """If nothing can be sent because an extension is missing, the status is 1."""
    with FakeMta(ehlo=b"250 mx.example\r\n") as mta:
        result = send(mta, "--shape", "international")
    assert result.exit_code == 1
    assert result.stdout.endswith("No message could be sent.\n")


WRONG = [
    ([], "--mta"),
    (["--mta", "127.0.0.1:25"], "--to"),
    (["--mta", "127.0.0.1:0", "--to", TO], "is not HOST:PORT"),
    (["--mta", "127.0.0.1:65536", "--to", TO], "is not HOST:PORT"),
    (["--mta", "a b", "--to", TO], "is not HOST:PORT"),
    (["--mta", "mx", "--to", "no-address"], "is not an address"),
    (["--mta", "mx", "--to", "a@b>\r\nRCPT TO:<c@d"], "is not an address"),
    (["--mta", "mx", "--to", "a@b.example\u2028x"], "is not an address"),
    (["--mta", "mx", "--to", "a\udcff@b.example"], "is not an address"),
    (["--mta", "mx", "--to", TO, "--from", "no-address"], "is not an address"),
    (["--mta", "mx", "--to", TO, "--shape", "postfx"], "Did you mean 'postfix'?"),
    (["--mta", "mx", "--to", TO, "--shape", "\x1b"], "--list shows them all"),
    (["--mta", "mx", "--to", TO, "--bind", "localhost"], "is not an IP address"),
    (["--mta", "mx", "--to", TO, "--xclient", "localhost"], "is not ADDR[,HELO]"),
    (["--mta", "mx", "--to", TO, "--xclient", "203.0.113.9,a b"], "is not a name for EHLO"),
    (["--mta", "mx", "--to", TO, "--helo", "a\r\nQUIT"], "is not a name for EHLO"),
    (["--mta", "mx", "--to", TO, "--timeout", "0"], "--timeout"),
]


@pytest.mark.parametrize(("arguments", "words"), WRONG)
def test_wrong_usage(arguments: list[str], words: str) -> None:
    """Wrong usage is status 2 and says what is wrong; nothing is sent."""
    result = run(*arguments)
    assert result.exit_code == 2
    assert words in " ".join(result.stderr.replace("\n", " ").split())


HOSTS = [
    ("mx.example.com", "mx.example.com:25"),
    ("192.0.2.1:2525", "192.0.2.1:2525"),
    ("[2001:db8::25]:26", "[2001:db8::25]:26"),
    ("[2001:db8::25]", "[2001:db8::25]:25"),
    ("2001:db8::25", "[2001:db8::25]:25"),
]


@pytest.mark.parametrize(("named", "target"), HOSTS)
def test_names_of_mtas(named: str, target: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """An MTA is named with its port or without, by name or by address of either version."""
    found = []

    def deliver(target: object, **_: object) -> None:
        found.append(str(target))
        raise KeyboardInterrupt

    monkeypatch.setattr("sidecar.commands.simulate.simulation.deliver", deliver)
    run("--mta", named, "--to", TO, "--shape", "spam")
    assert found == [target]


def test_bad_settings(tmp_path: Path) -> None:
    """Settings with errors end it before anything is sent."""
    (tmp_path / "sidecar.toml").write_text("relay_host = []\n")
    with FakeMta() as mta:
        result = send(mta, "--config", tmp_path / "sidecar.toml")
    assert result.exit_code == 1
    assert "relay_hosts" in result.stderr
    assert mta.heard == []


def program(mta: FakeMta, *arguments: str) -> subprocess.Popen[bytes]:
    command_line = [sys.executable, "-m", "sidecar", "simulate", "--mta", f"127.0.0.1:{mta.port}", "--to", TO, *arguments]
    environ = {**os.environ, "PYTHONPATH": str(ROOT)}
    return preloaded.popen(command_line, env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def test_piped() -> None:
    """In a pipe there are no control codes, no progress and no cut lines."""
    with FakeMta(end=b"250 2.0.0 " + b"a long answer " * 20 + b"ends here\r\n") as mta:
        out, err = program(mta).communicate(timeout=120)
    assert b"\x1b" not in out
    assert out.count(b"ends here") == len(SHAPES)
    assert err.decode() == NO_POLICY


def test_interrupted() -> None:
    """Ctrl-C ends it without a traceback."""
    with FakeMta(mail=b"") as mta:
        process = program(mta)
        wait_until(lambda: any(line.startswith("MAIL") for line in mta.heard), "the first message is under way")
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=120)
    assert process.returncode == 130
    assert out == b""
    assert err.decode() == NO_POLICY


def test_a_reader_that_goes_away() -> None:
    """`| head` ends it quietly."""
    with FakeMta() as mta:
        process = program(mta)
        assert process.stdout is not None
        process.stdout.close()
        process.stdout = None
        _, err = process.communicate(timeout=120)
    assert err.decode() == NO_POLICY
