"""What the guides state about Postfix: while the sidecar is down, beside other milters, on an MX with mailboxes."""

import shutil
import signal
import smtplib
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests import ROOT
from tests.commands.doctor.test_real_postfix import doctor, settings_of
from tests.mta.client import Peer
from tests.mta.house import House, house
from tests.mta.mails import ARF, OOB, ORDINARY
from tests.mta.places import free_port, private_directory
from tests.mta.postfix import Postfix, table
from tests.mta.processes import owned, stop_group, wait_until
from tests.mta.sidecar import Sidecar

pytestmark = pytest.mark.mta

DOMAINS = """\
["bounce.example"]
log_oob = "LogThenDrop"
["both.example"]
log_oob = "LogThenRelay"
["mailbox.example"]
relay_to = true
"""
# XCLIENT plays a peer only for the milter: smtpd_milter_maps sees the real address.
RELAY_HOST, RELAYED = Peer(address="127.0.0.1:4444"), ("a@b.example", ["c@elsewhere.example"], ORDINARY)
REPORT = ("", ["news-17@bounce.example"], OOB)
UNAVAILABLE = "451 4.7.1 Service unavailable - try again later"


@pytest.mark.parametrize(
    ("maps", "down", "up", "findings"),
    [
        ("", UNAVAILABLE, ["Reception"], []),
        ("DISABLE", "250", [], ["warning: smtpd_milter_maps"]),
        ("{{ {socket}, default_action=accept }}", "250", ["Reception"], []),
    ],
)
def test_relay_hosts_while_the_sidecar_is_down(maps: str, down: str, up: list[str], findings: list[str]) -> None:
    """smtpd_milter_maps exempts relay hosts from the wait, without records, or with records while the sidecar runs."""
    with private_directory() as directory:
        sidecar = Sidecar(directory / "sidecar", domains=DOMAINS)
        entry = maps.format(socket=sidecar.socket)
        settings = {"smtpd_milter_maps": table({"127.0.0.1": entry})} if maps else {}
        with Postfix(directory / "postfix", milter=sidecar.socket, settings=settings) as mta:
            assert submit(mta, "127.0.0.1").startswith(down)
            assert submit(mta, "127.0.0.77").startswith(UNAVAILABLE)
            with sidecar:
                found = [line for line in doctor(sidecar, settings_of(mta)) if line.endswith("smtpd_milter_maps")]
                assert found == findings
                assert submit(mta, "127.0.0.1").startswith("250")
                assert [record["type"] for record in sidecar.records()] == up
                assert submit(mta, "127.0.0.77").startswith("550 5.7.1 relaying not permitted for 127.0.0.77:")


def submit(mta: Postfix, address: str) -> str:
    """Send mail from an address, and return the reply that decides."""
    with smtplib.SMTP("127.0.0.1", mta.port, timeout=120, source_address=(address, 0)) as client:
        client.ehlo("peer.example")
        for command in ("MAIL FROM:<a@b.example>", "RCPT TO:<c@elsewhere.example>"):
            status, text = client.docmd(command)
            if status != 250:
                return f"{status} {text.decode()}"
        status, text = client.data(ORDINARY)
        return f"{status} {text.decode()}"


@contextmanager
def two_milters(answer: str, *, sidecar_first: bool) -> Iterator[tuple[House, Path]]:
    """A Postfix with the sidecar and a second milter; yield it with the second one's output."""
    with private_directory() as directory:
        path, output = directory / "second.sock", directory / "second.log"
        with output.open("wb") as log:
            command = [sys.executable, "-m", "tests.deploy.second_milter", str(path), answer]
            process = owned(command, folder=ROOT, environ={"PYTHONPATH": str(ROOT)}, output=log)
        try:
            wait_until(path.is_socket, "the second milter listens", give_up=lambda: ended(process, output))
            path.chmod(0o666)
            with Sidecar(directory / "sidecar", domains=DOMAINS) as sidecar:
                milters = [sidecar.socket, f"unix:{path}"]
                names = ", ".join(milters if sidecar_first else reversed(milters))
                with Postfix(directory / "postfix", milter=names) as mta:
                    yield House(postfix=mta, sidecar=sidecar), output
        finally:
            # libmilter needs up to 5 s to stop.
            stop_group(process, signal.SIGKILL)


def ended(process: subprocess.Popen[bytes], output: Path) -> str | None:
    """Return the output of a program that has ended."""
    return None if process.poll() is None else output.read_text()


def test_the_sidecar_first() -> None:
    """The second milter gets only mail that is relayed, and no recipient that the sidecar rejects."""
    with two_milters("accept", sidecar_first=True) as (house, output):
        for sender, recipient, content, seen in (
            ("a@b.example", "c@elsewhere.example", ORDINARY, []),
            ("", "news-17@bounce.example", OOB, ["rcpt"]),
            ("a@b.example", "news-17@bounce.example", ORDINARY, ["rcpt"]),
            ("", "news-17@both.example", OOB, ["rcpt", "eom"]),
        ):
            before = len(output.read_text().split())
            house.offer(sender, [recipient], content)
            assert output.read_text().split()[before:] == seen


@pytest.mark.parametrize("answer", ["reject", "tempfail"])
def test_a_second_milter_that_rejects(answer: str) -> None:
    """Behind the sidecar it sees no dropped report, and the records of other mail say 250. Before it no report has a record.

    The mail of a relay host is recorded in either order, because the sidecar accepts it at DATA.
    """
    reply = {"reject": 550, "tempfail": 451}[answer]
    with two_milters(answer, sidecar_first=True) as (house, _):
        relayed = house.offer(*RELAYED, peer=RELAY_HOST)
        assert (relayed.last.code, relayed.written()[0][:2], relayed.delivered) == (reply, ("Reception", 250), {})
        report = house.offer("", ["news-17@both.example"], OOB)
        assert (report.last.code, [kind for kind, _, _ in report.written()]) == (reply, ["Reception", "OOB"])
        assert house.offer(*REPORT).last.code == 250
    with two_milters(answer, sidecar_first=False) as (house, _):
        report = house.offer(*REPORT)
        assert (report.last.code, report.records) == (reply, [])
        relayed = house.offer(*RELAYED, peer=RELAY_HOST)
        assert (relayed.last.code, relayed.written()[0][:2]) == (reply, ("Reception", 250))


@pytest.mark.skipif(shutil.which("opendkim") is None, reason="OpenDKIM is not installed")
@pytest.mark.parametrize("sidecar_first", [True, False])
def test_opendkim(*, sidecar_first: bool) -> None:
    """OpenDKIM signs the mail of relay hosts, in either order, although the sidecar accepts it at DATA."""
    with private_directory() as directory:
        path, key = directory / "dkim.sock", directory / "key.pem"
        subprocess.run(["openssl", "genrsa", "-out", key, "2048"], check=True, stderr=subprocess.DEVNULL)
        (directory / "opendkim.conf").write_text(
            f"Mode s\nDomain b.example\nSelector test\nKeyFile {key}\nRequireSafeKeys no\n"
            f"Socket local:{path}\nUMask 000\nSyslog no\n"
        )
        process = owned(["opendkim", "-f", "-x", str(directory / "opendkim.conf")])
        try:
            wait_until(path.is_socket, "OpenDKIM listens")
            with Sidecar(directory / "sidecar", domains=DOMAINS) as sidecar:
                names = [sidecar.socket, f"unix:{path}"]
                milters = ", ".join(names if sidecar_first else reversed(names))
                with Postfix(directory / "postfix", milter=milters) as mta:
                    content = ORDINARY.replace(b"somebody@peer.example.net", b"a@b.example")
                    outcome = House(postfix=mta, sidecar=sidecar).offer(*RELAYED[:2], content, peer=RELAY_HOST)
        finally:
            stop_group(process, signal.SIGKILL)
        assert b"d=b.example; s=test" in outcome.delivered["c@elsewhere.example"]
        assert [record["type"] for record in outcome.records] == ["Reception"]


def test_feedback_loop_signup() -> None:
    """With relay_to and an alias a confirmation mail is delivered, and complaints are still recorded and dropped."""
    domains = DOMAINS + '["fbl.example"]\nlog_arf = "LogThenDrop"\nrelay_to = true\n'
    settings = {
        "virtual_mailbox_domains": "mailbox.example",
        "virtual_mailbox_maps": table({"user@mailbox.example": "mail/"}),
        "relay_domains": "bounce.example fbl.example",
        "virtual_alias_maps": table({"complaints@fbl.example": "user@mailbox.example"}),
    }
    with house(domains=domains, postfix=settings) as this:
        mail = this.offer("noreply@provider.example", ["complaints@fbl.example"], ORDINARY)
        assert (mail.last.code, [*mail.delivered]) == (250, ["user@mailbox.example"])
        complaint = this.offer("fbl@provider.example", ["complaints@fbl.example"], ARF)
        assert complaint.written() == [("Feedback", 250, "complaints@fbl.example")]
        assert complaint.delivered == {}


def test_mailboxes() -> None:
    """Postfix rejects unknown mailboxes itself. The submission port has no milter, and users send from everywhere."""
    submission = free_port()
    settings = {
        "virtual_mailbox_domains": "mailbox.example",
        "virtual_mailbox_maps": table({"user@mailbox.example": "mail/"}),
        "relay_domains": "bounce.example both.example",
        "default_transport": "discard",
    }
    rules = "permit_sasl_authenticated,permit_mynetworks,reject"
    services = [
        f"127.0.0.1:{submission} inet n - n - - smtpd -o smtpd_milters= -o smtpd_relay_restrictions={rules}",
        "discard unix - - n - - discard",
    ]
    with (
        private_directory() as directory,
        Sidecar(directory / "sidecar", domains=DOMAINS) as sidecar,
        Postfix(directory / "postfix", milter=sidecar.socket, settings=settings, services=services) as mta,
    ):
        house = House(postfix=mta, sidecar=sidecar)
        known = house.offer("a@b.example", ["user@mailbox.example"], ORDINARY)
        assert (known.last.code, [*known.delivered]) == (250, ["user@mailbox.example"])
        assert known.records[0]["meta"]["disposition"] == "relayed"
        unknown = house.offer("a@b.example", ["nobody@mailbox.example"], ORDINARY)
        assert (str(unknown.last)[:9], unknown.records) == ("550 5.1.1", [])
        assert house.offer(*REPORT).written()[0] == ("Reception", 250, "news-17@bounce.example")
        mta.port = submission
        outgoing = ("user@mailbox.example", ["c@elsewhere.example"], ORDINARY)
        assert str(house.offer(*outgoing).last).startswith("554 5.7.1")
        user = house.offer(*outgoing, peer=RELAY_HOST)
        assert (user.last.code, user.records) == (250, [])
