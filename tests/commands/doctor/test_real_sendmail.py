"""The export and the findings with a real Sendmail: it does what they say."""

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from sidecar.cli import main
from sidecar.commands.export import sendmail_access
from sidecar.core.open_domains import OpenDomains
from tests import ROOT
from tests.building import settings
from tests.commands.doctor.examples import CLOSED, ENTRIES, OPEN
from tests.mta.client import EXTERNAL, Connection, Peer
from tests.mta.mails import ORDINARY
from tests.mta.places import private_directory
from tests.mta.sendmail import UNPACKED, SendmailHouse, sendmail_house

pytestmark = pytest.mark.mta

DEPLOYED = ROOT / "deploy" / "sendmail"
MAP = "/etc/mail/access-and-sidecar"

# The sidecar accepts everything, so that Sendmail's own relay control is the only one.
ANYTHING = '["*"]\nrelay_to = true\n'


@pytest.fixture(scope="module")
def beside() -> Iterator[SendmailHouse]:
    """A Sendmail with the lines of deploy/sendmail except its milter, whose access map is the export of the examples."""
    lines = re.sub(r"(?m)^INPUT_MAIL_FILTER.*\n", "", (DEPLOYED / "sidecar.mc").read_text())
    with private_directory(below="/run") as directory:
        source = directory / "access-and-sidecar"
        exported = sendmail_access(OpenDomains(settings(ENTRIES)), "sidecar export")
        source.write_text((DEPLOYED / "access").read_text() + exported)
        with sendmail_house(domains=ANYTHING, lines=lines.replace(MAP, str(source))) as house:
            makemap = UNPACKED / "usr/libexec/sendmail/makemap"
            config = house.sendmail.directory / "sendmail.cf"
            subprocess.run(
                [str(makemap), "-C", str(config), "hash", str(source)],
                input=source.read_bytes(),
                check=True,
                capture_output=True,
            )
            yield house


@pytest.fixture(scope="module")
def external(beside: SendmailHouse) -> Iterator[Connection]:
    """An external host's connection to it."""
    with beside.connect(EXTERNAL) as connection:
        assert connection.say("MAIL FROM:<>").code == 250
        yield connection


@pytest.mark.parametrize(("name", "is_open"), [*((name, True) for name in OPEN), *((name, False) for name in CLOSED)])
def test_export(external: Connection, name: str, is_open: bool) -> None:
    """Sendmail relays to a domain exactly if external hosts can send to it, with a sidecar that rejects nothing."""
    answer = external.say(f"RCPT TO:<x@{name}>")
    # The reply is 550 or 4xx; that depends on the DNS data of the peer.
    assert (answer.code == 250, "Relaying" in answer.text) == (is_open, not is_open), answer


def test_relay_host(beside: SendmailHouse) -> None:
    """A relay host with a Connect: line can send to any domain."""
    with beside.connect(Peer(address="192.168.1.7:4444")) as connection:
        assert connection.say("MAIL FROM:<x@else.test>").code == 250
        assert connection.say("RCPT TO:<x@else.test>").code == 250


def doctor(house: SendmailHouse, config: Path) -> Result:
    arguments = ["doctor", "--config", str(config), "--sendmail", str(house.sendmail.directory / "sendmail.cf")]
    return CliRunner().invoke(main, arguments)


def test_deployed(beside: SendmailHouse, tmp_path: Path) -> None:
    """The lines of deploy/sendmail have no finding."""
    (tmp_path / "sidecar.toml").write_text(
        f'relay_hosts = ["127.0.0.1", "192.168.1.0/24"]\nlistener_domains = ["domains.toml"]\n'
        f'[milter]\nsocket = "{beside.sidecar.socket}"\n'
    )
    (tmp_path / "domains.toml").write_text(
        '["exact.example"]\nrelay_to = true\n["bounce.example"]\nlog_oob = true\n["*.wild.example"]\nlog_arf = true\n'
        '["www.wild.example"]\nlog_arf = false\n["closed.wild.example"]\n["*.closed.wild.example"]\n'
        '["open.closed.wild.example"]\nrelay_to = true\n["deep.below.the.wild.example"]\nrelay_to = true\n'
        '["bücher.example"]\nlog_oob = true\n["own.example"]\nrelay_to = true\n'
    )
    result = doctor(beside, tmp_path / "sidecar.toml")
    assert (result.exit_code, result.output) == (0, "Sendmail fits the sidecar.\n")


def test_harness() -> None:
    """The Sendmail of the tests leaves all relay control to the sidecar: the findings are about that, and none is wrong."""
    with sendmail_house(domains='["bounce.example"]\nlog_oob = true\n') as house:
        result = doctor(house, house.sidecar.config)
    found = re.findall(r"(?m)^(?:\S+: )?(error|warning): (\w+): ", result.output)
    assert found == [("error", "promiscuous_relay"), ("warning", "PrivacyOptions")]


REPORTS = '["bounce.example"]\nlog_oob = "LogThenDrop"\n'
ACCESS = "FEATURE(`access_db', `hash -T<TMPF> {folder}/access', `skip', `lookupdotdomain')"


def errors(house: SendmailHouse) -> list[str]:
    result = doctor(house, house.sidecar.config)
    return re.findall(r"(?m)^(?:\S+: )?error: ([\w-]+): ", result.output)


def test_listener_with_its_own_filters() -> None:
    """A listener whose InputMailFilters lacks the sidecar accepts anything, without a record."""
    lines = "FEATURE(`promiscuous_relay')\nDAEMON_OPTIONS(`Name=own, Port=2599, Addr=10.1.1.1, InputMailFilters=')"
    with sendmail_house(domains=REPORTS, lines=lines) as house:
        assert errors(house) == ["DaemonPortOptions", "promiscuous_relay"]
        house.sidecar.records()
        for listener, code in (("10.1.1.1:2599", 250), ("10.1.1.1:2525", 550)):
            with house.connect(Peer(address=EXTERNAL.address, listener=listener)) as connection:
                assert connection.send("x@peer.example.net", ["x@else.test"], ORDINARY).last.code == code
        assert [record["type"] for record in house.sidecar.records()] == ["Rejection"]


def test_relay_local_from() -> None:
    """With relay_local_from each host can relay that writes a local sender: with a sidecar that rejects nothing, it does."""
    with sendmail_house(domains=ANYTHING, lines="FEATURE(`relay_local_from')") as house, house.connect(EXTERNAL) as connection:
        assert "relay_local_from" in errors(house)
        for sender, relays in (("x@mx.example", True), ("x@peer.example.net", False)):
            assert connection.say(f"MAIL FROM:<{sender}>").code == 250
            assert (connection.say("RCPT TO:<x@else.test>").code == 250) is relays
            connection.say("RSET")


def test_missing_access_map() -> None:
    """Without the map Sendmail answers 451 to all mail, of relay hosts as well."""
    with private_directory(below="/run") as folder:
        (folder / "access").write_text("To:bounce.example\tRELAY\nTo:.bounce.example\tSKIP\n")
        with sendmail_house(domains=REPORTS, lines=ACCESS.format(folder=folder)) as house:
            assert errors(house) == ["access_db"]
            for peer in (EXTERNAL, Peer(address="127.0.0.1:4444")):
                with house.connect(peer) as connection:
                    assert connection.say("MAIL FROM:<>").code == 451
