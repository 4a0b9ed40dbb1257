"""Findings with a real Postfix: an error really keeps bounces, or local mail, from being accepted."""

import re
import subprocess
from collections.abc import Iterator, Mapping

import pytest

from tests.commands.doctor.test_real_postfix import doctor, settings_of
from tests.mta.client import EXTERNAL, Connection, Peer, Refused
from tests.mta.mails import OOB, ORDINARY
from tests.mta.places import free_port, private_directory
from tests.mta.postfix import HOST, Postfix, table
from tests.mta.processes import wait_until
from tests.mta.sidecar import Sidecar

pytestmark = pytest.mark.mta

DOMAINS = '["bounce.example"]\nlog_oob = "LogThenDrop"\n'
VERP = "b-1234@bounce.example"
CATCH_ALL = table({"@bounce.example": "x@bounce.example"})
ONE_USER = table({"user@bounce.example": "x@bounce.example"})
USERS = "proxy:unix:passwd.byname $alias_maps"
RELAYED = {"relay_domains": "bounce.example"}
NO_SERVER = {**RELAYED, "relay_transport": "smtp:[127.0.0.1]:1"}


@pytest.fixture(scope="module")
def sidecar() -> Iterator[Sidecar]:
    """One sidecar for all cases."""
    with private_directory() as directory, Sidecar(directory / "sidecar", domains=DOMAINS) as running:
        yield running


CASES: list[tuple[Mapping[str, str], int, set[str]]] = [
    # (settings, the answer to a bounce, errors of the doctor)
    (RELAYED, 250, set()),
    (RELAYED | {"relay_recipient_maps": ONE_USER}, 550, {"relay_domains"}),
    (RELAYED | {"relay_recipient_maps": CATCH_ALL}, 250, set()),
    (RELAYED | {"relay_recipient_maps": ONE_USER, "smtpd_reject_unlisted_recipient": "no"}, 250, set()),
    (RELAYED | {"relay_recipient_maps": ONE_USER, "virtual_alias_maps": CATCH_ALL}, 250, set()),
    (
        {"mydestination": "bounce.example", "local_recipient_maps": "proxy:unix:passwd.byname $alias_maps"},
        550,
        {"mydestination"},
    ),
    ({"virtual_mailbox_domains": "bounce.example", "virtual_mailbox_maps": ONE_USER}, 550, {"virtual_mailbox_domains"}),
    ({"virtual_mailbox_domains": "bounce.example", "virtual_mailbox_maps": CATCH_ALL}, 250, set()),
    ({"virtual_alias_domains": "bounce.example", "virtual_alias_maps": ONE_USER}, 550, {"virtual_alias_domains"}),
    ({"virtual_alias_domains": "bounce.example", "virtual_alias_maps": CATCH_ALL}, 250, set()),
    (NO_SERVER | {"smtpd_recipient_restrictions": "reject_unverified_recipient"}, 450, {"smtpd_recipient_restrictions"}),
    (
        NO_SERVER
        | {
            "smtpd_recipient_restrictions": "check_recipient_access "
            f"{table({'bounce.example': 'OK'})}, reject_unverified_recipient"
        },
        250,
        set(),
    ),
]


@pytest.mark.parametrize(("settings", "code", "errors"), CASES)
def test_verp(sidecar: Sidecar, settings: Mapping[str, str], code: int, errors: set[str]) -> None:
    """A bounce to an address that no table has: where Postfix rejects it, the doctor finds an error, and there is no record."""
    own = {
        "relay_domains": "",
        "alias_maps": "",
        "smtpd_forbid_bare_newline": "normalize",
    }
    with (
        private_directory() as directory,
        Postfix(
            directory / "postfix",
            milter=sidecar.socket,
            settings=own | {"address_verify_map": "", "address_verify_poll_count": "1"} | dict(settings),
            services=["verify unix - - n - 1 verify"],
        ) as postfix,
    ):
        found = {line.removeprefix("error: ") for line in doctor(sidecar, settings_of(postfix)) if line.startswith("error: ")}
        assert found == errors
        sidecar.records()
        with Connection(postfix.port, EXTERNAL) as connection:
            assert connection.send("", [VERP], OOB).last.code == code
        assert [record["type"] for record in sidecar.records()] == (["Reception", "OOB"] if code == 250 else [])


def test_mailboxes(sidecar: Sidecar) -> None:
    """In front of mailboxes the sidecar rejects ordinary mail, unless their domain has relay_to."""
    settings = {"relay_domains": "bounce.example", "virtual_mailbox_domains": "users.example"}
    with private_directory() as directory:
        with Postfix(directory / "postfix", milter=sidecar.socket, settings=settings) as postfix:
            assert "error: virtual_mailbox_domains" in doctor(sidecar, settings_of(postfix))
            with Connection(postfix.port, EXTERNAL) as connection:
                assert connection.send("x@peer.example.net", ["user@users.example"], ORDINARY).last.code == 550
        domains = f'{DOMAINS}["users.example"]\nrelay_to = true\n'
        with (
            Sidecar(directory / "sidecar", domains=domains) as opened,
            Postfix(directory / "open", milter=opened.socket, settings=settings) as postfix,
        ):
            assert "error: virtual_mailbox_domains" not in doctor(opened, settings_of(postfix))
            with Connection(postfix.port, EXTERNAL) as connection:
                assert connection.send("x@peer.example.net", ["user@users.example"], ORDINARY).last.code == 250


@pytest.mark.parametrize("address", ["inet:8893@127.0.0.1", "{inet:8893@localhost, default_action=accept}", "inet:127.0.0.1"])
def test_invalid_milter(sidecar: Sidecar, address: str) -> None:
    """OpenDKIM's spelling of a socket ends smtpd."""
    port = free_port()
    services = [f"{HOST}:{port} inet n - n - - smtpd", f"    -o {{ smtpd_milters = {sidecar.socket} {address} }}"]
    with private_directory() as directory, Postfix(directory / "postfix", milter=sidecar.socket, services=services) as postfix:
        found = doctor(sidecar, settings_of(postfix))
        assert "error: smtpd_milters" in found
        with pytest.raises((OSError, Refused)), Connection(port, EXTERNAL):
            pass
        wait_until(lambda: b"fatal: " in postfix.log.read_bytes(), "smtpd ends with a fatal error")


@pytest.mark.parametrize("is_relay_host", [False, True])
def test_local_mail(is_relay_host: bool) -> None:
    """If the loopback is no relay host, mail of this machine stays in the maildrop queue."""
    hosts = ["127.0.0.1"] if is_relay_host else ["192.0.2.1"]
    with private_directory() as directory, Sidecar(directory / "sidecar", domains=DOMAINS, relay_hosts=hosts) as sidecar:
        settings = {"non_smtpd_milters": sidecar.socket, "mynetworks": hosts[0]}
        services = ["pickup unix n - n 60 1 pickup"]
        with Postfix(directory / "postfix", milter=sidecar.socket, settings=settings, services=services) as postfix:
            level = "warning" if is_relay_host else "error"
            assert f"{level}: non_smtpd_milters" in doctor(sidecar, settings_of(postfix))
            command = ["sendmail", "-C", str(postfix.directory / "conf"), "-f", "a@mx.example", "x@else.test"]
            subprocess.run(command, input=b"Subject: x\n\nhello\n", check=True)
            if is_relay_host:
                assert set(postfix.delivered()) == {"x@else.test"}
            else:
                wait_until(lambda: b"message not accepted, try again later" in postfix.log.read_bytes(), "it is not accepted")
                assert list((postfix.directory / "queue" / "maildrop").iterdir())


def test_invalid_milter_of_local_mail(sidecar: Sidecar) -> None:
    """In non_smtpd_milters this spelling ends cleanup, and mail of this machine stays in the maildrop queue."""
    settings = {"non_smtpd_milters": "inet:8891@localhost"}
    services = ["pickup unix n - n 60 1 pickup"]
    with (
        private_directory() as directory,
        Postfix(directory / "postfix", milter=sidecar.socket, settings=settings, services=services) as postfix,
    ):
        assert "error: non_smtpd_milters" in doctor(sidecar, settings_of(postfix))
        command = ["sendmail", "-C", str(postfix.directory / "conf"), "-f", "a@mx.example", "x@else.test"]
        subprocess.run(command, input=b"Subject: x\n\nhello\n", check=True)
        wait_until(lambda: re.search(rb"postfix/cleanup\[\d+\]: fatal: ", postfix.log.read_bytes()), "cleanup ends")
        assert list((postfix.directory / "queue" / "maildrop").iterdir())


@pytest.mark.parametrize("is_relay_host", [False, True])
@pytest.mark.parametrize("override", ["smtpd_milters=", "syslog_name=again"])
def test_content_filter(is_relay_host: bool, override: str) -> None:
    """A content filter that returns mail through the sidecar: two records, or a rejection if the loopback is no relay host."""
    hosts = ["192.0.2.1", *["127.0.0.1"] * is_relay_host]
    port = free_port()
    services = [f"{HOST}:{port} inet n - n - - smtpd -o content_filter= -o {override}"]
    settings = {"content_filter": f"smtp:[{HOST}]:{port}", "mynetworks": "192.0.2.1 127.0.0.1"}
    with (
        private_directory() as directory,
        Sidecar(directory / "sidecar", domains=DOMAINS, relay_hosts=hosts) as sidecar,
        Postfix(directory / "postfix", milter=sidecar.socket, settings=settings, services=services) as postfix,
    ):
        found = [line for line in doctor(sidecar, settings_of(postfix)) if line.endswith("receive_override_options")]
        asks_again = override != "smtpd_milters="
        level = "warning" if is_relay_host else "error"
        assert found == ([f"{level}: receive_override_options"] if asks_again else [])
        sidecar.records()
        with Connection(postfix.port, Peer(address="192.0.2.1:4444")) as connection:
            assert connection.send("x@sender.example", ["x@else.test"], ORDINARY).last.code == 250
        postfix.delivered()
        again = ["Reception"] if is_relay_host else ["Rejection"]
        assert sorted(record["type"] for record in sidecar.records()) == ["Reception", *(again if asks_again else [])]
