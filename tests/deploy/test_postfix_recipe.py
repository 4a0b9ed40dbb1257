"""The recipe of deploy/postfix: `attach` keeps what is in main.cf, and the sidecar works beside another milter."""

import os
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest
from click.testing import CliRunner

from sidecar.cli import main
from sidecar.commands.doctor.postfix.settings import main_cf_lines
from tests import ROOT
from tests.commands.doctor.test_real_postfix import doctor, settings_of
from tests.mta.client import EXTERNAL, Connection, Peer
from tests.mta.mails import OOB, ORDINARY
from tests.mta.places import free_port, private_directory
from tests.mta.postfix import Postfix
from tests.mta.processes import owned, stop_group, wait_until
from tests.mta.sidecar import Sidecar

pytestmark = pytest.mark.mta

FOLDER = ROOT / "deploy" / "postfix"
MILTER = "unix:sidecar/sidecar.sock"

# A main.cf with other milters, own domains, networks and restrictions.
BEFORE = {
    "compatibility_level": "3.6",
    "opendkim": "inet:127.0.0.1:8891",
    "smtpd_milters": "$opendkim, { inet:127.0.0.1:11332, default_action=accept }",
    "non_smtpd_milters": "$smtpd_milters",
    "milter_default_action": "accept",
    "relay_domains": "old.example, !x.old.example, .dot.example hash:/etc/postfix/relay",
    "mynetworks": "127.0.0.0/8, [::1]/128",
    "smtpd_relay_restrictions": "permit_mynetworks, check_client_access hash:/etc/postfix/c, defer_unauth_destination",
    "smtpd_recipient_restrictions": "reject_non_fqdn_recipient",
    "smtpd_forbid_bare_newline": "yes",
}


def attach(folder: Path, before: Mapping[str, str], *arguments: str) -> dict[str, str]:
    """Run `attach` on a main.cf, and return the settings that it then has."""
    (folder / "main.cf").write_text("".join(f"{key} = {value}\n" for key, value in before.items()))
    for name in ("master.cf", "sidecar-relay-domains"):
        (folder / name).touch()
    # Postfix waits until its settings are two seconds old.
    os.utime(folder / "main.cf", (0, 0))
    done = attached(folder, *arguments)
    assert (done.returncode, done.stdout) == (0, "")
    return main_cf(folder)


def attached(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environ = os.environ | {"MAIL_CONFIG": str(folder)}
    return subprocess.run([FOLDER / "attach", *arguments], env=environ, capture_output=True, text=True, check=False)


def main_cf(folder: Path) -> dict[str, str]:
    lines = (logical for _, logical in main_cf_lines((folder / "main.cf").read_text()) if logical)
    return {key.strip(): value.strip() for key, _, value in (line.partition("=") for line in lines)}


def test_attach_keeps_what_exists(tmp_path: Path) -> None:
    """Milters, domains, networks and restrictions remain, and the sidecar is added. A second run changes nothing."""
    after = attach(tmp_path, BEFORE, MILTER, "192.168.1.0/24", "127.0.0.0/8")
    assert main_cf(tmp_path) == BEFORE | {
        "smtpd_milters": f"{{ {MILTER}, default_action=tempfail }} {BEFORE['smtpd_milters']}",
        "non_smtpd_milters": "inet:127.0.0.1:8891, { inet:127.0.0.1:11332, default_action=accept }",
        "relay_domains": f"{BEFORE['relay_domains']} .old.example !.x.old.example {tmp_path}/sidecar-relay-domains",
        "mynetworks": "127.0.0.0/8, [::1]/128 192.168.1.0/24",
        "smtpd_relay_restrictions": BEFORE["smtpd_relay_restrictions"].replace("defer_unauth", "reject_unauth"),
        "parent_domain_matches_subdomains": after["parent_domain_matches_subdomains"],
        "in_flow_delay": "0s",
    }
    assert "relay_domains" not in after["parent_domain_matches_subdomains"]
    assert (tmp_path / "main.cf.before-sidecar").read_text().splitlines()[1] == "opendkim = inet:127.0.0.1:8891"
    saved = (tmp_path / "main.cf.before-sidecar").read_bytes()
    os.utime(tmp_path / "main.cf", (0, 0))
    assert attached(tmp_path, MILTER, "192.168.1.0/24").returncode == 0
    assert main_cf(tmp_path) == after
    assert (tmp_path / "main.cf.before-sidecar").read_bytes() == saved


def test_attach_names_tables(tmp_path: Path) -> None:
    """A table in relay_domains cannot get the names below its names: the output says so."""
    assert attach(tmp_path, {"relay_domains": "example.com"}, MILTER)["relay_domains"].startswith("example.com .example.com ")
    (tmp_path / "main.cf").write_text("relay_domains = hash:/etc/postfix/relay\n")
    os.utime(tmp_path / "main.cf", (0, 0))
    assert attached(tmp_path, MILTER).stderr.startswith("Add .NAME for each NAME in hash:/etc/postfix/relay, ")


def test_attach_compares_whole_milters(tmp_path: Path) -> None:
    """A socket whose name begins as the sidecar's is another milter."""
    after = attach(tmp_path, {"smtpd_milters": "inet:127.0.0.1:88930"}, "inet:127.0.0.1:8893")
    assert after["smtpd_milters"] == "{ inet:127.0.0.1:8893, default_action=tempfail } inet:127.0.0.1:88930"
    for spelled in ("inet:127.0.0.1:8893", "{inet:127.0.0.1:8893}, inet:127.0.0.1:1", "{ inet:127.0.0.1:8893, protocol=6 }"):
        assert attach(tmp_path, {"smtpd_milters": spelled}, "inet:127.0.0.1:8893")["smtpd_milters"] == spelled


def test_attach_keeps_exclusions_and_expressions(tmp_path: Path) -> None:
    """Names below an excluded name stay excluded, and a value that begins with a parameter is kept."""
    (tmp_path / "a.example").touch()
    before = {
        "nets": "10.0.0.0/8",
        "mynetworks": "${nets} 172.16.0.0/12",
        "relay_domains": "!no.example.com example.com, .b.example",
    }
    after = attach(tmp_path, before, MILTER, "192.168.1.0/24")
    assert after["mynetworks"] == "${nets} 172.16.0.0/12 192.168.1.0/24"
    assert after["relay_domains"].startswith(f"{before['relay_domains']} !.no.example.com .example.com {tmp_path}/")


@pytest.mark.parametrize("milter", ["", "unix:", "--help", "8893", "inet:8893", "unix:a b", "unix:a,b", "unix:a}", "unix:$a"])
def test_attach_rejects_what_is_no_milter(tmp_path: Path, milter: str) -> None:
    """main.cf stays as it is."""
    (tmp_path / "main.cf").write_text("# mine\n")
    done = attached(tmp_path, milter)
    assert (done.returncode, done.stderr[:6]) == (64, "Usage:")
    assert [path.name for path in tmp_path.iterdir()] == ["main.cf"]


def test_attach_needs_a_postfix_with_settings(tmp_path: Path) -> None:
    """Without main.cf, as after an installation with "No configuration", it says what to do."""
    done = attached(tmp_path, MILTER)
    assert (done.returncode, done.stdout) == (66, "")
    assert done.stderr == f"There is no {tmp_path}/main.cf. First set up Postfix: dpkg-reconfigure postfix\n"
    assert [*tmp_path.iterdir()] == []


def test_attach_needs_the_list_of_domains(tmp_path: Path) -> None:
    """Without it Postfix would accept no mail, so main.cf stays as it is."""
    (tmp_path / "main.cf").write_text("# mine\n")
    done = attached(tmp_path, MILTER)
    assert (done.returncode, done.stdout) == (66, "")
    name = f"{tmp_path}/sidecar-relay-domains"
    assert done.stderr == f"There is no {name}. First run: sidecar export postfix --output {name}\n"
    assert [path.name for path in tmp_path.iterdir()] == ["main.cf"]


def test_attach_names_services_with_milters_of_their_own(tmp_path: Path) -> None:
    for name in ("main.cf", "sidecar-relay-domains"):
        (tmp_path / name).touch()
    service = "submission inet n - y - - smtpd -o smtpd_milters=inet:127.0.0.1:8891\n"
    (tmp_path / "master.cf").write_text(service)
    os.utime(tmp_path / "main.cf", (0, 0))
    done = attached(tmp_path, MILTER)
    assert done.returncode == 0
    assert done.stderr.startswith(
        f"This service has milters of its own. Add {MILTER}, if external hosts can connect to it: submiss"
    )


@pytest.mark.parametrize("kind", ["unix", "inet"])
def test_main_cf_files(tmp_path: Path, kind: str) -> None:
    """The main.*.cf files are what `attach` makes of a main.cf without such settings."""
    before = {"compatibility_level": "3.6", "mynetworks": "127.0.0.0/8 [::1]/128"}
    milter = MILTER if kind == "unix" else "inet:127.0.0.1:8893"
    after = attach(tmp_path, before, milter, "192.168.1.0/24")
    text = (FOLDER / f"main.{kind}.cf").read_text().replace("/etc/postfix", str(tmp_path))
    (tmp_path / "main.cf").write_text(text)
    assert after == {"compatibility_level": "3.6"} | main_cf(tmp_path)


# --- Postfix with OpenDKIM and the sidecar

needs_opendkim = pytest.mark.skipif(
    shutil.which("opendkim") is None and not os.environ.get("CI"), reason="this machine has no OpenDKIM"
)

DOMAINS = '["bounce.example"]\nlog_oob = "LogThenDrop"\n["relay.example"]\nlog_oob = "LogThenRelay"\n'
RELAY_HOST = Peer(address="127.0.0.1:4444")
MAIL = b"From: news@send.example\nTo: x@else.test\nSubject: news\n\nhello\n"
OPENDKIM = """\
Mode sv
Domain send.example
Selector test
KeyFile {folder}/key.pem
RequireSafeKeys no
Socket inet:{port}@127.0.0.1
On-NoSignature reject
Syslog no
"""


@contextmanager
def opendkim(folder: Path) -> Iterator[int]:
    """Run an OpenDKIM that signs a relay host's mail, and rejects mail of others without a signature. Yield its port."""
    folder.mkdir()
    port = free_port()
    subprocess.run(["openssl", "genrsa", "-out", folder / "key.pem", "2048"], check=True, stderr=subprocess.DEVNULL)
    (folder / "settings").write_text(OPENDKIM.format(folder=folder, port=port))
    process = owned(["opendkim", "-f", "-x", str(folder / "settings")])
    try:
        yield port
    finally:
        # It needs seconds to stop.
        stop_group(process, signal.SIGKILL)


@contextmanager
def chain(*, sidecar_first: bool) -> Iterator[tuple[Postfix, Sidecar]]:
    """Start Postfix with both milters, with the main.cf that `attach` makes."""
    with private_directory() as directory, opendkim(directory / "opendkim") as port:
        queue = directory / "postfix" / "queue"
        queue.mkdir(parents=True)
        conf = directory / "attached"
        conf.mkdir()
        with Sidecar(queue / "sidecar", domains=DOMAINS) as sidecar:
            other = f"inet:127.0.0.1:{port}"
            before = {
                "compatibility_level": "3.6",
                "smtpd_milters": other,
                "non_smtpd_milters": "$smtpd_milters",
                "milter_default_action": "accept",
                "mynetworks": "127.0.0.0/8",
                "relay_domains": "",
            }
            lines = attach(conf, before, MILTER)
            if not sidecar_first:
                lines["smtpd_milters"] = f"{other} {lines['smtpd_milters'].removesuffix(other)}"
            arguments = ["export", "postfix", "--config", str(sidecar.config), "--output", str(conf / "sidecar-relay-domains")]
            assert CliRunner().invoke(main, arguments).exit_code == 0
            services = [f"127.0.0.1:{(smtp := free_port())} inet n - y - - smtpd"]
            with Postfix(directory / "postfix", settings=lines, services=services) as postfix:
                postfix.port = smtp
                wait_until(lambda: answers(postfix), "both milters answer")
                yield postfix, sidecar


def answers(postfix: Postfix) -> bool:
    """Return True if a message passes OpenDKIM, which leaves a trace in it."""
    send(postfix, RELAY_HOST, "news@send.example", "ready@else.test", MAIL)
    return b"DKIM-Signature" in postfix.delivered()["ready@else.test"]


def send(postfix: Postfix, peer: Peer, sender: str, recipient: str, content: bytes) -> tuple[int, str]:
    with Connection(postfix.port, peer) as connection:
        last = connection.send(sender, [recipient], content).last
    return last.code, last.text


@needs_opendkim
def test_chain() -> None:
    """A bounce is accepted and recorded, other mail of external hosts is rejected, and a relay host's mail is signed."""
    with chain(sidecar_first=True) as (postfix, sidecar):
        assert doctor(sidecar, settings_of(postfix)) == []
        sidecar.records()
        assert send(postfix, EXTERNAL, "", "b-1234@bounce.example", OOB)[0] == 250
        assert {record["type"] for record in sidecar.records()} == {"Reception", "OOB"}
        code, text = send(postfix, EXTERNAL, "x@peer.example.net", "b-1234@bounce.example", ORDINARY)
        assert (code, "relaying not permitted" in text) == (550, True)
        assert [record["type"] for record in sidecar.records()] == ["Rejection"]
        assert send(postfix, EXTERNAL, "x@peer.example.net", "x@else.test", ORDINARY)[0] == 554
        assert postfix.delivered() == {}
        assert send(postfix, RELAY_HOST, "news@send.example", "x@else.test", MAIL)[0] == 250
        signed = postfix.delivered()["x@else.test"]
        assert re.search(rb"(?m)^DKIM-Signature: v=1;.* d=send\.example;", signed)
        assert [record["type"] for record in sidecar.records()] == ["Reception"]


@needs_opendkim
def test_later_milter() -> None:
    """A later milter can reject a report that the sidecar relays: the record is on disk before the answer."""
    with chain(sidecar_first=True) as (postfix, sidecar):
        sidecar.records()
        assert send(postfix, EXTERNAL, "", "b-1234@relay.example", OOB)[0] == 550
        assert {record["meta"]["disposition"] for record in sidecar.records()} == {"logged_and_relayed"}


@needs_opendkim
def test_order() -> None:
    """Behind a milter that rejects the bounce the sidecar has no record of it: the sidecar is first."""
    with chain(sidecar_first=False) as (postfix, sidecar):
        sidecar.records()
        assert send(postfix, EXTERNAL, "", "b-1234@bounce.example", OOB)[0] == 550
        assert sidecar.records() == []
