"""maddy with the sidecar as its milter check: what is as with Postfix, and what is not. `make interop` runs this file."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
from click.testing import CliRunner

from sidecar.cli import main
from sidecar.config import load
from tests import ROOT
from tests.deploy.documents import Document
from tests.interop.maddy import CHECK, MaddyPair, maddy_pair
from tests.interop.scenarios import DOMAINS, SCENARIOS, SETTINGS
from tests.mta.client import EXTERNAL, Connection
from tests.mta.mails import ARF, OOB, ORDINARY
from tests.mta.postfix import HOST
from tests.mta.scenarios import RELAY_HOST, RELAY_HOSTS, Scenario

pytestmark = pytest.mark.mta

ENGINES = ("direct", "libmilter")

# Codes and types of records, where maddy differs. A message that gets 451 has no record: its sender retries.
DIFFERENT: dict[str, tuple[Sequence[str], Sequence[str]]] = {
    **dict.fromkeys(
        [
            "a bounce report is dropped",
            "a bounce report may have a sender",
            "a feedback report is dropped",
            "a message that is both is a bounce for a domain of bounces",
            "a report is taken out where anyone may send",
            "a relay host's report is taken out too",
            "a domain is the same without case",
            "an IDN is the same as U-labels",
        ],
        # It cannot discard.
        (["250", "451"], []),
    ),
    # It cannot discard, and cannot remove a recipient.
    "each recipient learns its own fate, and some are taken off": (["250", "250", "550", "250", "451"], ["Rejection"]),
    "mail that is no report reaches only those who may have it": (["250", "250", "250", "451"], []),
    # It leaves the quotes out: the sidecar cannot read the address.
    "a recipient that is taken off is found in the MTA's own spelling": (["250", "550", "250", "451"], ["Rejection"]),
    "every message of a connection is judged by itself": (
        ["250", "451", "250", "550", "250", "250", "550", "250", "451"],
        ["Rejection", "Reception", "Rejection"],
    ),
    # It rejects these itself, or passes the U-label, of which MTAs make different A-labels.
    "an IDN is the same as A-labels": (["501"], []),
    "its A-label is accepted": (["550"], ["Rejection"]),
    "postmaster alone has no domain": (["501"], []),
}
EXAMPLES = ROOT / "deploy" / "maddy"


@pytest.fixture(scope="module", params=ENGINES)
def pair(request: pytest.FixtureRequest) -> Iterator[MaddyPair]:
    with maddy_pair(domains=DOMAINS, relay_hosts=RELAY_HOSTS, settings=SETTINGS, engine=request.param) as started:
        yield started


def codes(connection: Connection, scenario: Scenario) -> list[str]:
    """Send all messages of a scenario, and return the code of each reply. The texts of rejections are maddy's own."""
    found = []
    for offer in scenario.offers:
        answers = connection.send(offer.sender, offer.to, offer.content, parameters=offer.parameters)
        assert answers.mail.code == 250
        found += [str(answer.code) for answer in (*answers.recipients, answers.content) if answer is not None]
    return found


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
def test_scenario(pair: MaddyPair, scenario: Scenario) -> None:
    """Codes, records and what is delivered are those of the table, or the exception's."""
    with pair.connect(scenario.peer) as connection:
        found = codes(connection, scenario)
    outcome = pair.outcome()
    if scenario.name in DIFFERENT:
        expected, kinds = DIFFERENT[scenario.name]
        assert (found, sorted(kind for kind, _, _ in outcome.written())) == (list(expected), sorted(kinds))
        assert len(outcome.delivered) <= len(scenario.delivered)
    else:
        assert found == [reply[:3] for offer in scenario.offers for reply in offer.replies]
        # Each message has a milter connection of its own, and any worker serves it.
        assert sorted(outcome.written()) == sorted(scenario.records)
        assert sorted(outcome.delivered) == sorted(scenario.delivered)


def test_the_exceptions_are_scenarios() -> None:
    assert DIFFERENT.keys() <= {one.name for one in SCENARIOS}


@pytest.mark.parametrize("engine", ENGINES)
def test_a_retry_leaves_one_set_of_records(engine: str) -> None:
    """Under LogThenDrop each attempt gets 451 and leaves nothing. After a change to LogThenRelay the retry is recorded once."""
    report = '["bounce.example"]\nlog_oob = "{}"\n'
    with maddy_pair(domains=report.format("LogThenDrop"), engine=engine) as pair:
        for _ in range(3):
            assert pair.offer("", ["n@bounce.example"], OOB).last.code == 451
        log = pair.sidecar.log.read_text()
        assert log.count("cannot discard a message") <= len(pair.sidecar.workers())
        assert pair.outcome().records == []
        pair.sidecar.write_domains(report.format("LogThenRelay"))
        pair.sidecar.reload()
        assert pair.offer("", ["n@bounce.example"], OOB).last.code == 250
        assert pair.maddy.log.read_text().count("smtp: accepted") == 1


@pytest.mark.parametrize("fail_open", ["no", "yes"])
def test_the_sidecar_is_down(fail_open: str) -> None:
    """Maddy rejects each recipient for good, whatever `fail_open` says: the senders return the mail."""
    lines = CHECK.replace("sidecar.sock\n", f"sidecar.sock {{\n        fail_open {fail_open}\n    }}\n")
    with maddy_pair(domains=DOMAINS, lines=lines) as pair:
        pair.sidecar.stop()
        with pair.connect(EXTERNAL) as connection:
            answers = connection.send("a@b.example", ["a@relay.example"], ORDINARY)
        assert (answers.mail.code, answers.last.code) == (250, 554)
        assert pair.delivered() == {}


def test_a_message_that_is_broken_off(pair: MaddyPair) -> None:
    """It leaves no record, and the next message is judged by itself."""
    with pair.connect(EXTERNAL) as connection:
        for command in ("MAIL FROM:<>", "RCPT TO:<n@oob-on.example>", "RSET", "MAIL FROM:<>", "RCPT TO:<n@oob-on.example>"):
            assert connection.say(command).code == 250
        assert connection.say("DATA").code == 354
        connection.write(OOB[:200].replace(b"\n", b"\r\n"))
    with pair.connect(EXTERNAL) as connection:
        assert connection.send("", ["n@oob-on.example"], OOB).last.code == 250
        large = ORDINARY + b"large\n" * 300_000
        assert connection.send("a@b.example", ["a@relay.example"], large).last.code == 250
    outcome = pair.outcome()
    assert sorted(kind for kind, _, _ in outcome.written()) == ["OOB", "Reception", "Reception"]
    assert sorted(outcome.delivered) == ["a@relay.example", "n@oob-on.example"]


def test_a_relay_host_that_stops_after_data(pair: MaddyPair) -> None:
    """Maddy never says DATA to its milter, so no Reception is written before the header section."""
    with pair.connect(RELAY_HOST) as connection:
        for command in ("MAIL FROM:<a@b.example>", "RCPT TO:<you@elsewhere.example>"):
            assert connection.say(command).code == 250
        assert connection.say("DATA").code == 354
    assert pair.outcome().records == []


@pytest.mark.parametrize(("to", "status"), [("n@oob-on.example", 0), ("c@arf-on.example", 0), ("n@bounce.example", 1)])
def test_simulate(pair: MaddyPair, to: str, status: int) -> None:
    """Where reports are relayed, each shape of the catalogue has the expected result; under LogThenDrop each report has 451."""
    where = ["--config", str(pair.sidecar.config), "--mta", f"{HOST}:{pair.maddy.port}", "--bind", "127.0.0.2"]
    result = CliRunner().invoke(main, ["simulate", *where, "--to", to, "--from", "fbl@mailbox.example"])
    assert result.exit_code == status, result.output
    assert bool(re.search(r"\b451\b", result.output)) == bool(status)
    pair.outcome()


def examples() -> AbstractContextManager[MaddyPair]:
    """Start a maddy with the lines of deploy/maddy. Everything else goes to the next hop, as the mailboxes do."""
    lines = (EXAMPLES / "smtp.conf").read_text().replace("&local_mailboxes", "&next_hop")
    lines += "default_destination {\n    deliver_to &next_hop\n}\n"
    return maddy_pair(domains=(EXAMPLES / "listener_domains.toml").read_text(), lines=lines)


def test_the_files_of_deploy() -> None:
    """Bounces are recorded and dropped, complaints and mail to its own domain are delivered. Nothing else is accepted."""
    with examples() as pair:
        bounce = pair.offer("", ["n@bounce.example.com"], OOB)
        complaint = pair.offer("fbl@mailbox.example", ["c@fbl.example.com"], ARF)
        own = pair.offer("a@b.example", ["me@example.com"], ORDINARY)
        others = [pair.offer("a@b.example", [to], ORDINARY) for to in ("n@bounce.example.com", "you@elsewhere.example")]
        where = ["--config", str(pair.sidecar.config), "--mta", f"{HOST}:{pair.maddy.port}", "--bind", "127.0.0.2"]
        result = CliRunner().invoke(main, ["simulate", *where, "--to", "news@bounce.example.com"])
    assert (bounce.last.code, list(bounce.delivered)) == (250, [])
    assert (complaint.last.code, list(complaint.delivered)) == (250, ["c@fbl.example.com"])
    assert (own.last.code, list(own.delivered)) == (250, ["me@example.com"])
    kinds = [[kind for kind, _, _ in one.written()] for one in (bounce, complaint, own, *others)]
    assert kinds == [["Reception", "OOB"], ["Feedback"], ["Reception"], ["Rejection"], ["Rejection"]]
    assert [one.last.code for one in others] == [550, 550]
    assert result.exit_code == 0, result.output
    assert [problem.text for problem in load(EXAMPLES / "sidecar.toml").problems if problem.level == "error"] == []


def test_the_commands_of_the_guide(tmp_path: Path) -> None:
    """Each block of the guide ends without an error, in a folder of its own, and without systemd."""
    for name in ("systemctl", "journalctl", "useradd", "usermod"):
        (tmp_path / name).write_text("#!/bin/sh\n")
        (tmp_path / name).chmod(0o755)
    (tmp_path / "maddy.conf").write_text("")
    with examples() as pair:
        places = {
            "/etc/sidecar/sidecar.toml": str(pair.sidecar.config),
            "/etc/maddy": str(tmp_path),
            "/etc/systemd/system/maddy.service.d": str(tmp_path),
            "/etc/systemd/system/sidecar.service.d": str(tmp_path),
            "127.0.0.1:25": f"{HOST}:{pair.maddy.port}",
        }
        blocks = [fence.text for fence in Document(EXAMPLES / "README.md").fences() if fence.words[:1] == ("maddy",)]
        assert len(blocks) > 3
        path = f"{tmp_path}:{Path(sys.executable).parent}:{os.environ['PATH']}"
        for block in blocks:
            commands = block
            for named, own in places.items():
                commands = commands.replace(named, own)
            run = ["sh", "-e", "-c", commands]
            done = subprocess.run(run, env={"PATH": path}, capture_output=True, text=True, check=False)
            assert done.returncode == 0, f"{commands}\n{done.stdout}{done.stderr}"


def test_a_quarantined_report_gets_451() -> None:
    """It needs a drop."""
    with maddy_pair(domains=DOMAINS, settings='unparsable_reports = "quarantine"') as pair:
        outcome = pair.offer(
            "", ["n@oob-on.example"], OOB.replace(b"Action:", b"Auction:").replace(b"-Recipient:", b"-Someone:")
        )
    assert (outcome.last.code, outcome.records, outcome.delivered) == (451, [], {})
