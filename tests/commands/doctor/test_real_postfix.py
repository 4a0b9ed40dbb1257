"""The export and the findings with a real Postfix: it does what they say."""

import re
from collections.abc import Iterator

import pytest
from click.testing import CliRunner

from sidecar.cli import main
from sidecar.commands.doctor.postfix.settings import DEFAULTS, read_postfix
from sidecar.commands.export import postfix_relay_domains
from sidecar.core.open_domains import PARENT_MATCHES, OpenDomains
from tests import ROOT
from tests.building import settings
from tests.commands.doctor.examples import CLOSED, ENTRIES, OPEN
from tests.mta.client import EXTERNAL, Connection
from tests.mta.mails import ORIGINAL
from tests.mta.places import free_port, private_directory
from tests.mta.postfix import Postfix, postconf, version
from tests.mta.sidecar import Sidecar

pytestmark = pytest.mark.mta

DOMAINS = '["bounce.example.com"]\nlog_oob = "LogThenDrop"\n["*.wild.example"]\nrelay_to = true\n'
# Defaults that differ from those of Postfix 3.7, and since which version.
NEWER = {
    "smtpd_forbid_bare_newline": ((3, 9), ["normalize"]),
    "milter_default_action": ((3, 10), ["shutdown"]),
}


def settings_of(postfix: Postfix) -> str:
    """Return the text that the doctor reads, without the line with which these tests play any peer."""
    main_cf = re.sub("(?m)^smtpd_authorized_xclient_hosts = .*\n", "", postconf("-x", directory=postfix.directory))
    return main_cf + postconf("-Mx", directory=postfix.directory)


def doctor(sidecar: Sidecar, text: str) -> list[str]:
    """Return the level and key of each finding."""
    result = CliRunner().invoke(main, ["doctor", "--config", str(sidecar.config), "--postfix", "-"], input=text)
    return [": ".join(line.split(": ")[:2]) for line in result.output.splitlines()[:-1]]


@pytest.fixture(scope="module")
def relaying() -> Iterator[Connection]:
    """An external host's connection to a Postfix without a milter, whose relay_domains are the export of the examples."""
    with private_directory() as directory:
        exported = directory / "relay-domains"
        exported.write_text(postfix_relay_domains(OpenDomains(settings(ENTRIES)), "sidecar export"))
        lines = {
            "relay_domains": str(exported),
            "parent_domain_matches_subdomains": PARENT_MATCHES,
            "smtpd_error_sleep_time": "0s",
            "smtpd_hard_error_limit": "1000",
        }
        with Postfix(directory / "postfix", settings=lines) as postfix, Connection(postfix.port, EXTERNAL) as connection:
            assert connection.say("MAIL FROM:<> SMTPUTF8").code == 250
            yield connection


@pytest.mark.parametrize(
    ("name", "code"), [*((name, 250) for name in (*OPEN, "bücher.example")), *((name, 554) for name in CLOSED)]
)
def test_export(relaying: Connection, name: str, code: int) -> None:
    """Postfix relays to a domain exactly if external hosts can send to it, without a milter."""
    assert relaying.say(f"RCPT TO:<x@{name}>").code == code


def test_defaults() -> None:
    """The defaults are those of Postfix 3.7, except those that depend on others. Newer ones are stricter."""
    real = read_postfix(postconf("-dx"), lambda _path: None)[0]
    level = ("relay_domains", "smtpd_relay_restrictions")
    own = ("mydestination", "queue_directory")
    newer = {key: value for key, (since, value) in NEWER.items() if version() >= since}
    for key in DEFAULTS.keys() - {*level, *own}:
        expected = newer[key] if key in newer else read_postfix("", lambda _path: None)[0].words(key)
        # Debian builds Postfix 3.11 with cdb as its default type of maps.
        found = [word.replace("cdb:", "hash:") for word in real.words(key)]
        assert sorted(found) == sorted(expected), key
    assert read_postfix(postconf("-d"), lambda _path: None)[0].settings["relay_domains"].endswith("{$mydestination} : {}}")


def test_harness() -> None:
    """The Postfix of the tests leaves all relay control to the sidecar: the findings are about that, and none is wrong."""
    with (
        private_directory() as directory,
        Sidecar(directory / "sidecar", domains=DOMAINS) as sidecar,
        Postfix(directory / "postfix", milter=sidecar.socket) as postfix,
    ):
        relay, smuggling = "error: relay_domains", "warning: smtpd_forbid_bare_newline"
        is_open = version() < NEWER["smtpd_forbid_bare_newline"][0]
        assert doctor(sidecar, settings_of(postfix)) == [relay, *([smuggling] if is_open else [])]
        # Without master.cf the doctor cannot know if smtpd is chrooted.
        xclient = "error: smtpd_authorized_xclient_hosts"
        found = doctor(sidecar, postconf("-n", directory=postfix.directory))
        assert found == [relay, xclient, "warning: smtpd_milters", smuggling]


def test_deployed() -> None:
    """The lines of deploy/postfix with a chrooted smtpd have no finding. While the sidecar is down, external hosts get 451."""
    pasted = read_postfix((ROOT / "deploy" / "postfix" / "main.unix.cf").read_text(), lambda _path: None)[0]
    with private_directory() as directory:
        lines = {**pasted.settings} | {"relay_domains": str(directory / "relay-domains"), "mynetworks": "127.0.0.1"}
        queue = directory / "postfix" / "queue"
        queue.mkdir(parents=True)
        port = free_port()
        with Sidecar(queue / "sidecar", domains=DOMAINS) as sidecar:
            arguments = ["export", "postfix", "--config", str(sidecar.config), "--output", lines["relay_domains"]]
            assert CliRunner().invoke(main, arguments).exit_code == 0
            lines["smtpd_milters"] = "unix:sidecar/sidecar.sock"
            services = [f"127.0.0.1:{port} inet n - y - - smtpd"]
            with Postfix(directory / "postfix", settings=lines, services=services) as postfix:
                assert doctor(sidecar, settings_of(postfix)) == []
                with Connection(port, EXTERNAL) as connection:
                    answers = connection.send("", ["x@a.wild.example", "x@else.test"], ORIGINAL)
                    assert [answer.code for answer in (*answers.recipients, answers.last)] == [250, 554, 250]
                sidecar.stop()
                with Connection(port, EXTERNAL) as connection:
                    assert connection.say("MAIL FROM:<>").code == 451
